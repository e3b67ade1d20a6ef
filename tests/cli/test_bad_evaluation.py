"""What goes wrong when models are measured, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NEEDS_RETRAINED = ("forget_quality", "privleak", "rel_diff_min_k", "mia_reference")


def figures(outcome) -> dict[str, dict]:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["metrics"]


def test_a_rows_file_that_breaks_off_is_named(efface, folder: Path, model: Path) -> None:
    whole = (folder / "forget.jsonl").read_text()
    (folder / "cut.jsonl").write_text(whole[:-30])
    outcome = efface("evaluate", model, "--forget", "cut.jsonl")
    assert (outcome.code, outcome.out) == (2, "")
    assert "cut.jsonl, line 3" in outcome.err
    assert outcome.err.count("\n") == 1


def test_without_a_retrained_model_figures_are_not_available(efface, folder: Path, model: Path) -> None:
    found = figures(efface("evaluate", model, "--forget", "forget.jsonl", "--holdout", "holdout.jsonl", "--json"))
    for name in NEEDS_RETRAINED:
        assert found[name]["value"] is None
        assert found[name]["reason"]
    outcome = efface("evaluate", model, "--forget", "forget.jsonl", "--retrained", "nowhere/")
    assert outcome.code == 2
    assert "nowhere" in outcome.err


def test_measured_rows_that_break_off_are_measured_again(efface, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(folder / "cache"))
    first = json.loads(efface("run", "request.yaml", "--json").out)
    assert json.loads(efface("run", "request.yaml", "--json").out)["facts"]["items_scored"] == 0
    victim = next((folder / "out" / "rows").rglob("scores-*.parquet"))
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    again = efface("run", "request.yaml", "--json")
    assert "are measured again" in caplog.text
    found = json.loads(again.out)
    assert found["facts"]["items_scored"] > 0
    assert found["facts"]["steps_executed"] == 0
    assert found["metrics"] == first["metrics"]
    # Rows of the original, put in the place of the unlearned model's, are not used either.
    other = next((folder / "cache" / "rows").rglob("scores-*.parquet"))
    (victim.parent / other.name).write_bytes(other.read_bytes())
    assert json.loads(efface("run", "request.yaml", "--json").out)["metrics"] == first["metrics"]
    assert "another model" in caplog.text


def test_text_outside_ascii(efface, folder: Path, model: Path) -> None:
    row = {"question": "首都は?", "answer": "東京", "value": "東京"}
    (folder / "abroad.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    strict = efface("evaluate", model, "--forget", "abroad.jsonl", "--json")
    assert figures(strict)["forget_rouge"]["value"] is not None
    with pytest.warns(UserWarning, match="no ASCII letter or digit"):
        published = efface("evaluate", model, "--forget", "abroad.jsonl", "--variant", "openunlearning", "--json")
    assert figures(published)["forget_rouge"]["value"] == 0


def test_answers_of_one_token_and_a_silent_row(efface, folder: Path, model: Path) -> None:
    (folder / "short.jsonl").write_text("".join(json.dumps({"question": f"Is {i} odd?", "answer": "y"}) + "\n" for i in range(3)))
    found = figures(efface("evaluate", model, "--forget", "short.jsonl", "--json"))
    assert found["forget_extraction_strength"]["value"] is not None
    (folder / "empty.jsonl").write_text(json.dumps({"question": "Is it?", "answer": ""}) + "\n")
    outcome = efface("evaluate", model, "--forget", "empty.jsonl")
    assert outcome.code == 2
    assert "line 1 has a question but no answer" in outcome.err
