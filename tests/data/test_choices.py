"""Multiple-choice rows: the right choice by text, number or letter; WMDP and MMLU from every layout they are published in."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from efface.data.choices import SUBJECT_TOPICS, read_mmlu_part, read_wmdp
from efface.data.readers import read_rows
from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.request import ForgetRequest

CHOICES = ["red", "B", "2", "blue"]


def question(answer, **more):
    return {"question": "Which?", "choices": CHOICES, "answer": answer, **more}


@pytest.mark.parametrize(
    ("answer", "right"),
    [("blue", "blue"), (0, "red"), ("A", "red"), ("D", "blue"), ("3", "blue"), ("B", "B"), ("2", "2"), (2, "2"), (1, "B")],
)
def test_the_answer_is_a_text_a_number_or_a_letter_and_text_wins(answer, right):
    assert Row.build(question(answer)).answer == right


def test_choices_survive_a_round_trip():
    row = Row.build(question(3, subject="colours"))
    assert row.attribute == "colours"
    assert Row.build(row.as_dict()) == row


def test_rows_without_choices_keep_their_ids_and_content():
    assert Row.build({"question": "Q?", "answer": "A."}).as_dict().keys() == {"id", "question", "answer", "entity"}
    assert RowSet.build([{"question": "Q?", "answer": "A."}]).content_hash == (
        "ee1ccd0ddc9a78e34c9a61034566380db3807f0d1497b4c150397eab790e84bf"
    )


def test_two_questions_with_other_choices_are_two_rows():
    rows = RowSet.build([question("2"), {**question("2"), "choices": ["2", "3"]}])
    assert rows[0].id != rows[1].id
    assert not rows[1].id.endswith("-2")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (question(4), "none of the 4 choices"),
        (question("green"), "none of the 4 choices"),
        (question(None), "none of the 4 choices"),
        (question(True), "none of the 4 choices"),
        ({**question(0), "choices": "red"}, "not a list of texts"),
        ({**question(0), "choices": ["red"]}, "not a list of texts"),
        ({**question(0), "choices": ["red", ""]}, "not a list of texts"),
        ({**question(0), "choices": [str(n) for n in range(27)]}, "27 choices"),
    ],
)
def test_a_malformed_question_is_refused_in_words(broken, said):
    with pytest.raises(InputError, match=said):
        Row.build(broken, where="line 3")


ITEMS = [
    {"question": " First? ", "choices": ["a", "b", "c", "d"], "answer": 1},
    {"question": "Second?", "choices": ["e", "f", "g", "h"], "answer": 0},
]


def write(path, items):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(items), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(items[0]))
            writer.writeheader()
            writer.writerows({**item, "choices": json.dumps(item["choices"])} for item in items)
    else:
        path.write_text(json.dumps(items))


@pytest.mark.parametrize(
    "place", ["wmdp-bio/test-00000-of-00001.parquet", "wmdp-bio/test.csv", "bio_questions.json", "wmdp_bio.jsonl", "bio.json"]
)
def test_wmdp_in_every_layout(tmp_path, place):
    path = tmp_path / place
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    else:
        write(path, ITEMS)
    found = read_wmdp(tmp_path)
    assert list(found) == ["wmdp_bio"]
    assert [(row.question, row.answer, row.attribute) for row in found["wmdp_bio"]] == [
        ("First?", "b", "biology"),
        ("Second?", "e", "biology"),
    ]
    assert read_rows(f"wmdp:{tmp_path}:bio").rows == found["wmdp_bio"].rows
    assert len(read_rows(f"wmdp:{tmp_path}:bio", limit=1)) == 1


def test_shards_are_read_in_order(tmp_path):
    for number, item in enumerate(ITEMS):
        write(tmp_path / f"wmdp-cyber/test-0000{number}-of-00002.parquet", [item])
    assert [row.question for row in read_rows(f"wmdp:{tmp_path}:cyber")] == ["First?", "Second?"]


def mmlu(folder, subjects, split="test"):
    for subject in subjects:
        write(folder / subject / f"{split}-00000-of-00001.parquet", [{**ITEMS[0], "question": f"{subject}?", "subject": subject}])


def test_mmlu_by_subject_topic_and_split(tmp_path):
    topic = SUBJECT_TOPICS["physics"]
    mmlu(tmp_path, [*topic.forget, *topic.related, "virology", "marketing"])
    mmlu(tmp_path, ["virology"], split="dev")

    def subjects(part):
        return [row.attribute for row in read_mmlu_part(tmp_path, part)]

    assert subjects("virology,marketing") == ["virology", "marketing"]
    assert subjects("physics-forget") == list(topic.forget)
    assert subjects("physics-related") == list(topic.related)
    assert subjects("physics-unrelated") == ["marketing", "virology"]
    assert len(subjects("all")) == 7
    assert subjects("dev/virology") == ["virology"]


def test_mmlu_from_one_file_of_all_subjects(tmp_path):
    write(tmp_path / "all/test.json", [{**ITEMS[0], "subject": s} for s in ("econometrics", "virology", "econometrics")])
    assert [row.attribute for row in read_mmlu_part(tmp_path, "economics-related")] == ["econometrics"] * 2


def test_mmlu_first_release(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test/virology_test.csv").write_text('"Which, then?",w,x,y,z,C\n')
    row = read_mmlu_part(tmp_path, "virology")[0]
    assert (row.question, row.choices, row.answer, row.attribute) == ("Which, then?", ("w", "x", "y", "z"), "y", "virology")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("wmdp:{}:bioo", "Did you mean 'bio'"),
        ("wmdp:{}:chem", "holds no WMDP part 'chem'"),
        ("wmdp:{}/none:bio", "There is no folder"),
        ("wmdp:bio", "does not name a part"),
        ("mmlu:{}:virologyy", "Did you mean 'virology'"),
        ("mmlu:{}:phisics-forget", "Did you mean 'physics'"),
        ("mmlu:{}:physics-forgotten", "relation of an MMLU topic"),
        ("mmlu:{}:physics-forget", "There is no MMLU subject named 'college_physics'"),
        ("mmlu:{}:train/virology", "split of MMLU"),
        ("mmlu:{}:dev/virology", "holds no dev split"),
    ],
)
def test_a_wrong_place_is_refused_in_words(tmp_path, spec, said):
    mmlu(tmp_path, ["virology"])
    with pytest.raises(InputError, match=said):
        read_rows(spec.format(tmp_path))


def test_a_missing_column_is_named(tmp_path):
    write(tmp_path / "bio.json", [{"question": "Q?", "options": ["a", "b"], "answer": 1}])
    with pytest.raises(InputError, match=r"row 1 has no field 'choices' \(it has answer, options, question\)"):
        read_rows(f"wmdp:{tmp_path}:bio")


def test_places_of_a_request_start_from_its_folder(tmp_path):
    write(tmp_path / "data/bio.json", ITEMS)
    (tmp_path / "request.yaml").write_text(
        "model: m\nforget: wmdp:data:bio\nevaluate: [{suite: wmdp, wmdp_bio: 'wmdp:data:bio'}]\n"
    )
    request = ForgetRequest.read(tmp_path / "request.yaml")
    assert len(request.data().forget) == 2
    assert len(request.evaluate[0].rows("wmdp_bio")) == 2
