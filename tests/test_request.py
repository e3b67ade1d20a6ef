from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from efface.data.schema import RowSet
from efface.errors import InputError
from efface.request import ForgetRequest, RetentionChoice, Seeds

FORGET = [{"question": "Where was Ada Quill born?", "answer": "In Ostrava."}]
RETAIN = [{"question": "Where was Bo Marsh born?", "answer": "In Leeds."}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in (("forget", FORGET), ("retain", RETAIN)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "my-model").mkdir()
    (tmp_path / "request.yaml").write_text(
        "model: ./my-model\nforget: forget.jsonl\nretain: retain.jsonl\nmethod: npo\n"
        "retention: {name: nll, weight: 0.5}\nunlearning: {epochs: 5, learning_rate: 1e-5, batch_size: 32}\n"
        "seeds: {unlearning: 3}\noutput: runs/one\n"
    )
    return tmp_path


def test_reads_a_request_with_paths_from_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    request = ForgetRequest.read(folder / "request.yaml")
    assert request.model == str(folder / "my-model")
    assert request.output == str(folder / "runs" / "one")
    assert request.unlearning.given() == {"epochs": 5.0, "learning_rate": 1e-5, "batch_size": 32, "stop": {}}
    assert request.retention == RetentionChoice(name="nll", weight=0.5)
    assert request.seeds == Seeds(unlearning=3)
    assert [row.answer for row in request.data().retain or ()] == ["In Leeds."]


def test_overrides_win_and_start_from_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    request = ForgetRequest.read(
        folder / "request.yaml",
        ["method.beta=0.2", "seeds=7", "unlearning.stop.forget_nll=off", "output=two", "retain=null", "retention=kl"],
    )
    assert (request.method.name, request.method.settings) == ("npo", {"beta": 0.2}) if request.method else False
    assert request.seeds == Seeds(data=7, training=7, unlearning=7, evaluation=7, attack=7)
    assert request.unlearning.stop.forget_nll == "off"
    assert request.output == str(elsewhere / "two")
    assert request.retain is None
    assert request.retention == RetentionChoice(name="kl")


def test_refusals_start_from_the_requests_folder_and_of_overrides_from_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "request.yaml").write_text("model: ./my-model\nforget: forget.jsonl\nmethod: {name: idk, refusals: no.txt}\n")
    monkeypatch.chdir("/")
    request = ForgetRequest.read(folder / "request.yaml")
    assert request.method is not None
    assert request.method.settings["refusals"] == str(folder / "no.txt")
    changed = ForgetRequest.read(folder / "request.yaml", ["method.refusals=other.txt"])
    assert changed.method is not None
    assert changed.method.settings["refusals"] == "/other.txt"


def test_hub_names_are_left_alone(folder: Path) -> None:
    request = ForgetRequest.read(folder / "request.yaml", ["model=someone/a-model", "forget=hub:locuslab/TOFU:forget10"])
    assert (request.model, request.forget) == ("someone/a-model", "hub:locuslab/TOFU:forget10")
    embedded = ForgetRequest.from_tree({"model": "embedded"})
    assert embedded.model == "embedded"


def test_names_and_objects_are_interchangeable() -> None:
    class Plug:
        def resolved(self) -> dict[str, object]:
            return {"name": "npo", "beta": 0.1}

    one = ForgetRequest(model="m", forget=FORGET, method=Plug())
    other = ForgetRequest(model="m", forget=RowSet.build(FORGET), method={"name": "npo", "beta": 0.1})
    assert one.resolved_hash() == other.resolved_hash()


def test_the_hash_follows_what_counts_and_nothing_else(folder: Path) -> None:
    path = folder / "request.yaml"
    first = ForgetRequest.read(path).resolved_hash()
    assert ForgetRequest.read(path, ["output=somewhere/else"]).resolved_hash() == first
    assert ForgetRequest.read(path, ["unlearning.epochs=6"]).resolved_hash() != first
    assert ForgetRequest.read(path, ["seeds.unlearning=4"]).resolved_hash() != first
    (folder / "forget.jsonl").write_text(json.dumps({**FORGET[0], "answer": "In Brno."}))
    assert ForgetRequest.read(path).resolved_hash() != first


def test_resolved_request_and_repr_hold_no_forget_text(folder: Path) -> None:
    request = ForgetRequest(model="m", forget=FORGET, retain=RETAIN, evaluate=[{"suite": "tofu", "world_facts": RETAIN}])
    for text in (json.dumps(request.resolved()), repr(request), request.as_yaml()):
        assert "Ostrava" not in text
        assert "Leeds" not in text
    assert request.resolved()["forget"] == {"rows": 1, "sha256": RowSet.build(FORGET).content_hash}


def test_yaml_round_trip(folder: Path) -> None:
    request = ForgetRequest.read(
        folder / "request.yaml", ["method.beta=0.2", "evaluate=[{suite: tofu, world_facts: retain.jsonl}]"]
    )
    (folder / "again.yaml").write_text(request.as_yaml())
    assert ForgetRequest.read(folder / "again.yaml").model_dump() == request.model_dump()


def test_suites_take_their_data_by_key(folder: Path) -> None:
    request = ForgetRequest.from_tree(
        {
            "model": "m",
            "forget": FORGET,
            "evaluate": [{"suite": "tofu", "variant": "original", "world_facts": str(folder / "retain.jsonl")}],
        }
    )
    suite = request.evaluate[0]
    assert not isinstance(suite, str)
    assert (suite.suite, suite.variant) == ("tofu", "original")
    assert [row.answer for row in suite.rows("world_facts") or ()] == ["In Leeds."]
    assert suite.rows("real_authors") is None


def test_copies_read_their_own_rows() -> None:
    request = ForgetRequest(model="m", forget=FORGET)
    assert request.data().forget[0].answer == "In Ostrava."
    assert request.data() is request.data()
    changed = request.model_copy(update={"forget": RowSet.build(RETAIN)})
    assert changed.data().forget[0].answer == "In Leeds."


def test_overlap_is_refused_or_dropped() -> None:
    both = [*RETAIN, *FORGET]
    with pytest.raises(InputError, match="1 of 2 retain rows also stand in the forget set"):
        ForgetRequest(model="m", forget=FORGET, retain=both).data()
    assert len(ForgetRequest(model="m", forget=FORGET, retain=both, drop_overlap=True).data().retain or ()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metod": "npo"}, r"unknown key 'metod' \(did you mean 'method'\?\)"),
        ({"unlearning": {"epoch": 3}}, r"unknown key 'unlearning\.epoch' \(did you mean 'epochs'\?\)"),
        ({"unlearning": {"stop": {"forget": 3}}}, r"unknown key 'unlearning\.stop\.forget' \(did you mean 'forget_nll'\?\)"),
        ({"seeds": {"unlearn": 3}}, r"unknown key 'seeds\.unlearn' \(did you mean 'unlearning'\?\)"),
        ({"unlearning": {"learning_rate": "fast"}}, r"unlearning\.learning_rate: input should be a valid number.*got 'fast'"),
        ({"unlearning": {"batch_size": 4, "micro_batch_size": 8}}, "micro_batch_size is larger than batch_size"),
        ({"retention": {"name": "nll", "weight": -1}}, r"retention\.weight: input should be greater than or equal to 0"),
        ({"method": {"beta": 1}}, r"method\.name is missing"),
        ({"audit": "light"}, "audit: not built yet"),
        ({"task": "classification"}, "problem: missing; task: classification takes"),
        ({"problem": "embedded:digits"}, "problem: belongs to ordinary nets"),
        ({"forget": None}, "forget: missing"),
        ({"forget": []}, "holds no rows"),
        ({"forget": [{"question": "q"}]}, "row 1 has a question but no answer"),
        ({"evaluate": 5}, "evaluate: input should be"),
    ],
)
def test_bad_values_are_named_with_the_nearest_valid_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ForgetRequest(**{"model": "m", "forget": FORGET, **change})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "is not valid YAML"),
        ("- model", "holds list, not keys and values"),
        ("", "holds NoneType, not keys and values"),
    ],
)
def test_files_that_are_no_request(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "request.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        ForgetRequest.read(tmp_path / "request.yaml")
    with pytest.raises(InputError, match=r"The nearest name there is 'request\.yaml'"):
        ForgetRequest.read(tmp_path / "reqest.yaml")


@pytest.mark.parametrize("assignment", ["beta", "=3", "method..beta=3", "method.beta=["])
def test_malformed_overrides(folder: Path, assignment: str) -> None:
    with pytest.raises(InputError, match="--set takes path=value"):
        ForgetRequest.read(folder / "request.yaml", [assignment])


def test_what_yaml_says_is_what_is_meant(folder: Path) -> None:
    tree = yaml.safe_load((folder / "request.yaml").read_text())
    # YAML 1.1 reads 1e-5 as text, which must not become a surprise.
    assert tree["unlearning"]["learning_rate"] == "1e-5"
    assert ForgetRequest.read(folder / "request.yaml").unlearning.learning_rate == 1e-5
