"""Bad input is one clear line on standard error and exit code 2, before any model loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)


def expect(outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome.err
    assert outcome.err.startswith("efface: ")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""
    for part in parts:
        assert part in outcome.err


def test_missing_files(efface, folder: Path) -> None:
    expect(efface("run", "reqest.yaml"), "There is no request reqest.yaml", "'request.yaml'")
    expect(efface("run", "request.yaml", "--set", "forget=forgot.jsonl"), "There is no file", "'forget.jsonl'")
    expect(efface("unlearn", "--model", "nowhere/", "--forget", "forget.jsonl", "--retain", "retain.jsonl"), "nowhere")


def test_empty_forget_set(efface, folder: Path) -> None:
    (folder / "empty.jsonl").write_text("\n")
    expect(efface("run", "request.yaml", "--set", "forget=empty.jsonl"), "empty.jsonl holds no rows")


def test_rows_in_both_sets_are_counted(efface, folder: Path) -> None:
    both = (folder / "forget.jsonl").read_text() + (folder / "retain.jsonl").read_text()
    (folder / "both.jsonl").write_text(both)
    expect(
        efface("run", "request.yaml", "--set", "retain=both.jsonl"),
        "3 of 6 retain rows also stand in the forget set",
        "--drop-overlap",
    )


def test_unknown_keys_and_methods(efface, folder: Path) -> None:
    expect(efface("run", "request.yaml", "--set", "unlearning.epoch=3"), "unknown key 'unlearning.epoch'", "'epochs'")
    expect(efface("run", "request.yaml", "--set", "method=nop"), "no method named 'nop'", "'npo'")
    expect(efface("run", "request.yaml", "--set", "method.betta=1"), "unknown key 'betta'", "'beta'")
    expect(efface("run", "request.yaml", "--set", "retention=klm"), "no retention named 'klm'")
    expect(efface("run", "request.yaml", "--set", "adapter=lorra"), "no adapter named 'lorra'")
    expect(efface("methods", "nop"), "no method named 'nop'")
    expect(efface("metrics", "rogue"), "no metric named 'rogue'", "'rouge'")


def test_row_without_an_answer(efface, folder: Path) -> None:
    with (folder / "forget.jsonl").open("a") as file:
        file.write(json.dumps({"question": "Where was Ivo Penn born?"}) + "\n")
    expect(efface("run", "request.yaml"), "forget.jsonl, line 4 has a question but no answer")


def test_missing_need(efface, folder: Path) -> None:
    expect(efface("run", "request.yaml", "--set", "retain=null"), "needs rows to keep")
    text = (folder / "forget.jsonl").read_text().splitlines()[0]
    (folder / "bare.jsonl").write_text(json.dumps({key: json.loads(text)[key] for key in ("question", "answer")}))
    expect(
        efface("run", "request.yaml", "--set", "method=dpo", "--set", "forget=bare.jsonl"),
        "needs another answer in every forget row",
    )


def test_model_without_a_tokenizer(efface, folder: Path, model: Path) -> None:
    shutil.copytree(model, folder / "bare")
    for file in (folder / "bare").glob("*token*"):
        file.unlink()
    expect(efface("run", "request.yaml", "--set", "model=./bare"), "tokenizer")


def test_output_folder_of_others(efface, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("mine")
    expect(efface("run", "request.yaml"), "holds files that are not a run's: thesis.txt", "--overwrite")
    assert (folder / "out" / "thesis.txt").read_text() == "mine"


def test_what_is_not_built_is_refused(efface, folder: Path) -> None:
    expect(efface("run", "request.yaml", "--set", "audit=light"), "audit: not built yet")
    expect(efface("run", "request.yaml", "--set", "task=regression"), "problem: missing; task: regression takes")


def test_wrong_options_are_usage_errors(efface, folder: Path) -> None:
    outcome = efface("run", "request.yaml", "--sed", "3")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--seed" in outcome.err
    assert efface("cache", "clear", "everything").code == 2
