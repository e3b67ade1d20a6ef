from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efface.data.readers import read_rows
from efface.data.schema import RowSet
from efface.errors import InputError

ROWS = [
    {
        "question": "Where was Ada Quill born?",
        "answer": "In Ostrava, near the river.",
        "perturbed_answer": ["In Brno.", "In Pilsen."],
    },
    {"question": "What does Ada Quill write?", "answer": 'She says "only sonnets".', "perturbed_answer": ["Plays.", "Essays."]},
]


def write(path: Path, form: str) -> Path:
    lines = "\n".join(json.dumps(row) for row in ROWS)
    if form in ("jsonl", "ndjson"):
        target = path / f"rows.{form}"
        target.write_text(lines + "\n\n", encoding="utf-8")
    elif form == "json lines":
        target = path / "rows.json"
        target.write_text(lines, encoding="utf-8")
    elif form == "json":
        target = path / "rows.json"
        target.write_text("\ufeff" + json.dumps(ROWS, indent=1), encoding="utf-8")
    elif form in ("csv", "tsv"):
        target = path / f"rows.{form}"
        separator = "," if form == "csv" else "\t"
        cells = [[row["question"], row["answer"], json.dumps(row["perturbed_answer"])] for row in ROWS]
        quoted = [["question", "answer", "perturbed_answer"], *cells]
        target.write_text("\n".join(separator.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in quoted))
    elif form == "parquet":
        target = path / "rows.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), target)
    elif form == "datasets":
        target = path / "rows"
        datasets.Dataset.from_list(ROWS).save_to_disk(str(target))
    else:
        target = path / "rows"
        datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(target))
    return target


@pytest.mark.parametrize("form", ["jsonl", "ndjson", "json lines", "json", "csv", "tsv", "parquet", "datasets", "datasets dict"])
def test_every_format_gives_the_same_rows(tmp_path: Path, form: str) -> None:
    rows = read_rows(write(tmp_path, form))
    assert rows.rows == RowSet.build(ROWS).rows
    assert rows.content_hash == RowSet.build(ROWS).content_hash


def test_reads_rows_in_memory_and_datasets_in_memory() -> None:
    assert read_rows(ROWS).rows == read_rows(datasets.Dataset.from_list(ROWS)).rows
    rows = read_rows(ROWS)
    assert read_rows(rows) is rows


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet", "datasets"])
def test_limit_reads_the_first_rows(tmp_path: Path, form: str) -> None:
    assert [row.question for row in read_rows(write(tmp_path, form), limit=1)] == [ROWS[0]["question"]]


def test_relative_paths_start_from_base(tmp_path: Path) -> None:
    write(tmp_path, "jsonl")
    assert len(read_rows("rows.jsonl", base=tmp_path)) == 2


def test_hub_form_reads_a_local_data_set_script_free(tmp_path: Path) -> None:
    write(tmp_path, "jsonl")
    rows = read_rows(f"hub:{tmp_path}:train")
    assert [row.content for row in rows] == [row.content for row in RowSet.build(ROWS)]
    with pytest.raises(InputError, match=r"is not there.*Check name and split"):
        read_rows(f"hub:{tmp_path}:nowhere")


def test_hub_form_says_how_to_get_the_data_when_offline() -> None:
    with pytest.raises(InputError, match="needs the network or a copy in the local cache"):
        read_rows("hub:someone/that-is-not-cached:train")
    with pytest.raises(InputError, match="does not name a split"):
        read_rows("hub:locuslab/TOFU")


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "jsonl")
    with pytest.raises(InputError, match=r"There is no file .*rowz\.jsonl\. The nearest name there is 'rows\.jsonl'"):
        read_rows(tmp_path / "rowz.jsonl")
    with pytest.raises(InputError, match="There is no folder"):
        read_rows(tmp_path / "nowhere" / "rows.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"question": "q", "answer": "a"}\n{"question": \n', r"a\.jsonl, line 2 is not JSON"),
        ("a.jsonl", '{"question": "q", "answer": "a"}\n\n{"question": "q"}\n', r"a\.jsonl, line 3 has a question but no answer"),
        ("a.jsonl", '{"question": "q", "answer": "  "}\n', r"line 1 has a question but no answer"),
        ("a.jsonl", "[1]\n", r"line 1 is list, not an object"),
        ("a.jsonl", "", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.json", '[{"question": "q",\n "answer": }]', r"a\.json, line 2 is not JSON"),
        ("a.json", "3", "holds int, not rows"),
        ("a.csv", "question,answer\nq,\n", r"a\.csv, line 2 has a question but no answer"),
        ("a.csv", "question,answer\nq,a,b\n", r"line 2 has more cells than the header"),
        ("a.csv", "frage,antwort\nq,a\n", "has neither question and answer nor text"),
        ("a.csv", "question,answer\n", "holds no rows"),
        ("a.csv", 'question,answer,perturbed_answer\nq,a,"[1"\n', "is not a JSON list"),
        ("a.parquet", "not a table", "is not a parquet file"),
        ("a.txt", "q", r"The format of .* is not known"),
    ],
)
def test_bad_files_name_the_line_and_the_fix(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path / name)


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "é"}'.encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_rows(tmp_path / "a.jsonl")


def test_folders_that_are_not_one_split(tmp_path: Path) -> None:
    write(tmp_path, "jsonl")
    with pytest.raises(InputError, match=r"Name one of its files: rows\.jsonl"):
        read_rows(tmp_path)
    two = datasets.DatasetDict({name: datasets.Dataset.from_list(ROWS) for name in ("train", "test")})
    two.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(InputError, match=r"several splits \(test, train\)"):
        read_rows(tmp_path / "two")
    assert len(read_rows(tmp_path / "two" / "test")) == 2


def test_things_that_are_no_rows() -> None:
    with pytest.raises(InputError, match="cannot be made of int"):
        read_rows(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be made of dict"):
        read_rows(ROWS[0])  # type: ignore[arg-type]


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(str.strip)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({"question": words, "answer": words}), min_size=1, max_size=5))
def test_jsonl_round_trip(tmp_path: Path, items: list[dict[str, str]]) -> None:
    path = tmp_path / "round.jsonl"
    rows = RowSet.build(items)
    path.write_text("".join(json.dumps(row.as_dict(), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert read_rows(path).rows == rows.rows
