"""``efface evaluate`` on a served model, and on a model whose texts a server writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))

from _server import Server, contents, serving

from efface.models.language_model import load_language_model

DATA = ("--forget", "forget.jsonl", "--retain", "retain.jsonl", "--holdout", "holdout.jsonl")


@pytest.fixture
def server(model: Path):
    with serving(Server(load_language_model(model))) as running:
        yield running


def figures(outcome) -> dict[str, dict]:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["metrics"]


def test_a_served_model_is_measured_by_what_it_writes(efface, folder: Path, model: Path, server) -> None:
    remote = figures(efface("evaluate", server.url, *DATA, "--json"))
    local = figures(efface("evaluate", model, *DATA, "--json"))
    for name in ("forget_rouge", "forget_fact_accuracy", "retain_refusal_rate"):
        assert remote[name]["value"] == local[name]["value"]
    assert remote["forget_probability"]["value"] is None
    assert "tokenizer" in remote["forget_probability"]["reason"]
    assert set(contents(server.asked)) == {"/v1/chat/completions"}


def test_with_its_tokenizer_it_is_scored_as_well(efface, folder: Path, model: Path, server) -> None:
    options = ("--endpoint-model", "tiny", "--endpoint-tokenizer", model, "--endpoint-concurrency", "4", "--json")
    remote = figures(efface("evaluate", server.url, *DATA, *options))
    local = figures(efface("evaluate", model, *DATA, "--json"))
    for name in ("forget_probability", "forget_truth_ratio", "forget_extraction_strength", "mia_min_k", "forget_rouge"):
        assert remote[name]["value"] == pytest.approx(local[name]["value"], rel=1e-5), name
    # Moments over the vocabulary are what an endpoint does not tell.
    assert remote["mia_min_k_plus_plus"]["value"] is None
    assert remote["mia_min_k_plus_plus"]["reason"]


def test_an_endpoint_writes_while_the_model_scores(efface, folder: Path, model: Path, server) -> None:
    both = figures(efface("evaluate", model, *DATA, "--endpoint", server.url, "--json"))
    assert len(server.asked) == 8
    local = figures(efface("evaluate", model, *DATA, "--json"))
    assert {name: entry["value"] for name, entry in both.items()} == {name: entry["value"] for name, entry in local.items()}


def test_bad_endpoints_are_one_clear_line(efface, folder: Path, server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efface.models.endpoint_client._FIRST_PAUSE", 0.0)
    server.key = "sk-secret"
    for arguments, said in [
        ((server.url.rsplit(":", 1)[0] + ":9/v1",), "does not answer"),
        ((server.url,), "refuses the key"),
        ((server.url, "--endpoint-key-env", "NOT_SET_HERE"), "variable NOT_SET_HERE is not set"),
        (("http:///v1",), "not the URL of an endpoint"),
    ]:
        outcome = efface("evaluate", *arguments, *DATA)
        assert (outcome.code, outcome.out) == (2, "")
        assert said in outcome.err
        assert outcome.err.count("\n") == 1
    monkeypatch.setenv("KEY_OF_TEST", "sk-secret")
    outcome = efface("evaluate", server.url, "--endpoint-key-env", "KEY_OF_TEST", "--endpoint-model", "large", *DATA)
    assert outcome.code == 2
    assert "serves tiny" in outcome.err
    assert "sk-secret" not in outcome.err


@pytest.mark.parametrize("place", ["model", "endpoint"])
def test_print_python_prints_a_script_that_runs(efface, folder: Path, model: Path, server, place: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("KEY_OF_TEST", "sk-secret")
    server.key = "sk-secret"
    named = (server.url,) if place == "model" else (model, "--endpoint", server.url)
    options = ("--endpoint-key-env", "KEY_OF_TEST", "--endpoint-tokenizer", model, "--endpoint-api", "completions")
    script = efface("evaluate", *named, *options, *DATA, "--print-python").out
    assert "sk-secret" not in script
    assert not server.asked
    exec(compile(script, "script", "exec"), {})
    assert "forget_probability" in capsys.readouterr().out
    assert server.asked
