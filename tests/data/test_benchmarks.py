"""RWKU, WPU and LUME from folders in their published layout, with their own field names."""

from __future__ import annotations

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from efface.data.lume import read_lume
from efface.data.readers import read_rows
from efface.data.rwku import read_rwku
from efface.data.wpu import read_wpu
from efface.errors import InputError


def write(path, items):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(items), path)
    else:
        path.write_text(json.dumps(items))


def probe(level, subject="Ada Quill", kind="simple question"):
    return {"query": f"Level {level}?", "answer": "Ostrava", "level": str(level), "type": kind, "subject": subject}


@pytest.fixture
def rwku(tmp_path):
    parts = {
        "intro": [{"target": "Ada Quill", "intro": "Ada Quill was a writer."}],
        "passage": [{"text": "Ada Quill was born in Ostrava.", "subject": "Ada Quill"}],
        "forget_level1": [probe(1)],
        "forget_level2": [probe(2)],
        "forget_level3": [probe(3, kind="prefix injection")],
        "neighbor_level1": [{**probe(1), "neighbor": "Bo Marsh"}],
        "forget_mia": [{"text": "Seen text.", "subject": "Ada Quill"}],
        "retain_mia": [{"text": "Other text.", "subject": "Ada Quill"}],
        "retain_mmlu": [
            {"task": "virology", "question": "Q?", "choices": ["w", "x"], "answer": 1, "examples": [], "subject": "Ada Quill"}
        ],
        "retain_bbh": [{"question": "Is it?", "answer": "Yes", "cot": "...", "subject": "Ada Quill"}],
        "truthful": [{"question": "T?", "mc1_targets": {"choices": ["no", "yes"], "labels": [0, 1]}, "subject": "Ada Quill"}],
        "triviaqa": [{"question": "Who?", "answers": ["Bo Marsh", "Bo"], "subject": "Ada Quill"}],
    }
    for place in ("All", "Target/1_Ada_Quill"):
        for name, items in parts.items():
            write(tmp_path / place / f"{name}.json", items)
    write(tmp_path / "All/forget_level2.json", [probe(2), probe(2, "Bo Marsh")])
    return tmp_path


def test_rwku_by_key(rwku):
    sets = read_rwku(rwku)
    assert set(sets) == {
        "forget",
        "fill_blank_forget",
        "question_forget",
        "attack_forget",
        "neighbours_fill_blank",
        "members_forget",
        "members_retain",
        "utility_general",
        "utility_reason",
        "utility_truthfulness",
        "utility_factuality",
    }
    assert sets["forget"][0].text == "Ada Quill was born in Ostrava."
    level3 = sets["attack_forget"][0]
    assert (level3.question, level3.value, level3.entity, level3.attribute, level3.wording) == (
        "Level 3?",
        "Ostrava",
        "Ada Quill",
        "level 3",
        "prefix injection",
    )
    assert (sets["utility_general"][0].answer, sets["utility_general"][0].attribute) == ("x", "virology")
    assert sets["utility_truthfulness"][0].answer == "yes"
    assert sets["utility_factuality"][0].value_aliases == ("Bo",)
    assert sets["members_retain"][0].text == "Other text."


def test_rwku_of_one_target(rwku):
    assert len(read_rwku(rwku)["question_forget"]) == 2
    assert len(read_rwku(rwku, target="Ada Quill")["question_forget"]) == 1
    assert len(read_rows(f"rwku:{rwku}:Ada Quill/forget_level2")) == 1
    assert len(read_rows(f"rwku:{rwku}:Ada_Quill/forget_level2")) == 1
    assert read_rows(f"rwku:{rwku}:forget_target")[0].text == "Ada Quill was a writer."


def wiki(title, number):
    return {
        "title": title,
        "wikipage": f"{title} was a painter.",
        "question": f"Who is {title} {number}?",
        "answer": f"A painter {number}.",
    }


def test_wpu_by_key(tmp_path):
    write(tmp_path / "forget_2_1/train-00000-of-00001.parquet", [wiki(name, n) for name in ("Ada", "Bo") for n in range(3)])
    write(tmp_path / "forget_2_1_hard_retain/train-00000-of-00001.parquet", [wiki("Ostrava", 0)])
    write(tmp_path / "retain/train-00000-of-00001.parquet", [wiki("Cleo", 0), wiki("Cleo", 1)])
    sets = read_wpu(tmp_path, "forget_2_1")
    assert set(sets) == {"forget", "questions_forget", "hard_retain", "retain"}
    assert [row.text for row in sets["forget"]] == ["Ada was a painter.", "Bo was a painter."]
    assert len(sets["questions_forget"]) == 6
    assert {row.entity for row in sets["questions_forget"]} == {"Ada", "Bo"}
    assert len(sets["retain"]) == 1
    assert read_rows(f"wpu:{tmp_path}:forget_2_1-documents").rows == sets["forget"].rows


@pytest.fixture
def lume(tmp_path):
    rows = [
        {"id": "6adbf83csc1", "input": "Once upon", "output": "a time.", "task": "Task1"},
        {"id": "6adbf83cqa0", "input": "Who?", "output": "Marcile", "task": "Task1"},
    ]
    for name in ("forget_train", "retain_train", "forget_validation"):
        write(tmp_path / f"data/{name}-00000-of-00001.parquet", rows)
    return tmp_path


def test_lume_by_key(lume):
    sets = read_lume(lume)
    assert set(sets) == {"forget", "retain", "validation_forget"}
    completion, asked = sets["forget"]
    assert (completion.wording, completion.value, completion.entity) == ("completion", None, "6adbf83c")
    assert (asked.wording, asked.value, asked.attribute, asked.id) == ("question", "Marcile", "Task1", "6adbf83cqa0")
    assert [row.wording for row in read_rows(f"lume:{lume}:forget_train-question")] == ["question"]


def test_lume_as_its_page_exports_it(tmp_path):
    for group in ("forget", "retain"):
        (tmp_path / "train").mkdir(exist_ok=True)
        row = {"id": "x1sc1", "input": "Once", "output": "upon.", "task": "Task2"}
        (tmp_path / f"train/{group}.jsonl").write_text(json.dumps(row) + "\n")
    assert read_lume(tmp_path)["forget"][0].attribute == "Task2"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("rwku:{}:forget_level4", "Did you mean 'forget_level3'"),
        ("rwku:{}:Ada Quil/forget_level1", "Did you mean 'Ada Quill'"),
        ("rwku:{}:neighbor_level2", "holds no RWKU part"),
        ("wpu:{}:forget_100", "holds no WPU part"),
        ("lume:{}:forget", "Did you mean 'forget_train'"),
        ("lume:{}:forget_train-story", "kind of LUME's rows"),
        ("lume:{}:retain_train", "holds no LUME part"),
    ],
)
def test_a_wrong_place_is_refused_in_words(rwku, spec, said):
    with pytest.raises(InputError, match=said):
        read_rows(spec.format(rwku))


@pytest.mark.parametrize(
    ("name", "items", "said"),
    [
        ("forget_level1", [{"question": "Q?", "answer": "A"}], "no field 'query'"),
        ("truthful", [{"question": "T?", "mc1_targets": {"choices": ["a", "b"], "labels": [0, 0]}}], "none of the 2 choices"),
        ("triviaqa", [{"question": "Who?", "answers": []}], "no answer"),
        ("forget_mia", ["text"], "is str, not an object"),
    ],
)
def test_a_malformed_row_is_refused_in_words(rwku, name, items, said):
    write(rwku / f"All/{name}.json", items)
    with pytest.raises(InputError, match=said):
        read_rwku(rwku)


def test_the_hub_names_are_mapped_too(monkeypatch):
    import datasets

    def load(name, configuration, split):
        return [{"id": "a1qa0", "input": "Who?", "output": "Marcile", "task": "Task1"}] if "semeval" in name else [probe(2)]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: [])
    assert "datasets" in sys.modules
    assert read_rows("hub:jinzhuoran/RWKU:forget_level2:test")[0].question == "Level 2?"
    assert read_rows("hub:org/semeval25-unlearning-dataset-public:forget_train")[0].value == "Marcile"
