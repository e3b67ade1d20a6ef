"""MUSE's data in every layout it comes in."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from efface.data.muse import CHUNK_CHARACTERS, MUSE_SETS, muse_items, read_muse_hub, split_place
from efface.data.readers import read_rows, read_sets
from efface.errors import InputError
from efface.request import ForgetRequest


def qa(name: str) -> list[dict[str, str]]:
    return [{"question": f"{name} {i}?", "answer": f"a{i}"} for i in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """News as on the hub (parquet), books as MUSE's scripts write them."""
    news, books = tmp_path / "MUSE-News", tmp_path / "books"
    parts = {
        "knowmem/forget_qa": qa("forget"),
        "knowmem/forget_qa_icl": qa("shot"),
        "knowmem/retain_qa": qa("retain"),
        "verbmem/forget": [{"prompt": "Once upon", "gt": "a time"}],
        "privleak/forget": [{"text": "one"}],
        "privleak/holdout": [{"text": "two"}],
        "raw/forget": [{"text": "a long article"}, {"text": "another"}],
        "scal/forget_2": [{"text": "a"}, {"text": "b"}],
    }
    for name, rows in parts.items():
        path = news / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
    (books / "knowmem").mkdir(parents=True)
    (books / "knowmem" / "retain2-qa.json").write_text(json.dumps(qa("kept")), encoding="utf-8")
    (books / "privleak").mkdir()
    (books / "privleak" / "forget.json").write_text(json.dumps(["plain text one", "plain text two"]), encoding="utf-8")
    (books / "raw").mkdir()
    chapters = "\n\n".join("word " * 300 for _ in range(9))
    (books / "raw" / "forget.txt").write_text(chapters, encoding="utf-8")
    (books / "raw" / "retain1.jsonl").write_text(json.dumps({"text": "short"}) + "\n", encoding="utf-8")
    return tmp_path


def test_a_corpus_is_read_as_the_sets_of_the_suite(folder):
    sets = read_sets(f"muse:{folder}:news")
    assert set(sets) == set(MUSE_SETS) - {"retain_qa_icl"}
    assert (sets["verbmem"][0].question, sets["verbmem"][0].answer) == ("Once upon", "a time")
    assert sets["forget_qa"][1].id == "knowmem-forget_qa-0001"
    assert [row.text for row in sets["privleak_holdout"]] == ["two"]


def test_old_names_and_plain_strings_are_read(folder):
    sets = read_sets(f"muse:{folder}:books")
    assert set(sets) == {"retain_qa", "privleak_forget"}
    assert [row.text for row in sets["privleak_forget"]] == ["plain text one", "plain text two"]


def test_a_split_is_a_set_of_rows(folder):
    assert len(read_rows(f"muse:{folder}:news:forget")) == 2
    assert len(read_rows(f"muse:{folder}:news:scal:forget_2")) == 2
    assert len(read_rows(f"muse:{folder}:news:scal:forget_2", limit=1)) == 1
    assert read_rows(f"muse:{folder}:books:retain1")[0].text == "short"


def test_a_book_is_cut_between_paragraphs_and_knows_where_it_comes_from(folder):
    rows = read_rows(f"muse:{folder}:books:forget")
    assert len(rows) == 3
    assert {row.entity for row in rows} == {"raw-forget-0000"}
    assert all(len(row.text) <= CHUNK_CHARACTERS for row in rows)
    assert sum(len(row.text.split()) for row in rows) == 2700


def test_a_paragraph_that_is_too_long_is_cut_between_words():
    rows = list(muse_items([{"text": "word " * 3000}, {"text": "x" * 7000}], "raw", "forget"))
    assert [len(row["text"]) <= CHUNK_CHARACTERS for row in rows] == [True] * 5
    assert sum(len(row["text"].split()) for row in rows[:3]) == 3000


def test_the_hub_calls_retain_sets_by_two_names():
    asked = []

    def load(part: str):
        asked.append(part)
        if part.startswith("knowmem:retain_qa"):
            raise InputError("no such split")
        return [{"prompt": "p", "gt": "g"}] if part.startswith("verbmem") else [{"text": "t"}] if "privleak" in part else qa("q")

    sets = read_muse_hub("muse-bench/MUSE-Books", load)
    assert set(sets) == set(MUSE_SETS)
    assert "knowmem:retain2_qa_icl" in asked


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("muse:data:news", ("data", "news", "raw", "")),
        ("muse:data:books:forget", ("data", "books", "raw", "forget")),
        ("muse:/a/b:news:scal:forget_2", ("/a/b", "news", "scal", "forget_2")),
        ("muse:C:\\data:news:forget", ("C:\\data", "news", "raw", "forget")),
    ],
)
def test_a_place_is_taken_apart(spec, found):
    assert split_place(spec) == found


def test_bad_places_are_explained(folder):
    with pytest.raises(InputError, match="names no corpus"):
        read_rows("muse:data:poems:forget")
    with pytest.raises(InputError, match="MUSE subset"):
        read_rows(f"muse:{folder}:news:scall:forget_1")
    with pytest.raises(InputError, match="forget_2"):
        read_rows(f"muse:{folder}:news:scal:forget_9")
    with pytest.raises(InputError, match="whole corpus"):
        read_rows(f"muse:{folder}:news")
    with pytest.raises(InputError, match="names one split"):
        read_sets(f"muse:{folder}:news:forget")
    with pytest.raises(InputError, match="holds no folder"):
        read_sets(f"muse:{folder / 'nowhere'}:news")
    with pytest.raises(InputError, match="no place of several sets"):
        read_sets("hub:locuslab/TOFU")


def test_a_folder_of_files_is_a_place_of_several_sets(tmp_path):
    (tmp_path / "forget_qa.jsonl").write_text(json.dumps({"question": "q", "answer": "a"}) + "\n", encoding="utf-8")
    assert set(read_sets(str(tmp_path))) == {"forget_qa"}
    with pytest.raises(InputError, match="no file of rows"):
        read_sets(str(tmp_path / "nowhere"))


def test_a_request_names_the_place_of_a_suite(folder):
    suite = {"suite": "muse", "variant": "original", "from": "muse:.:news", "options": {"corpus": "news"}}
    tree = {"model": "m", "forget": "muse:.:news:forget", "evaluate": [suite]}
    (folder / "request.yaml").write_text(json.dumps(tree), encoding="utf-8")
    request = ForgetRequest.read(folder / "request.yaml")
    assert len(request.data().forget) == 2
    assert len(request.evaluate[0].sets()) == 6
    (folder / "again.yaml").write_text(request.as_yaml(), encoding="utf-8")
    again = ForgetRequest.read(folder / "again.yaml")
    assert again.resolved() == request.resolved()
    assert again.evaluate[0].options == {"corpus": "news"}
    assert request.resolved()["evaluate"][0]["options"] == {"corpus": "news"}
