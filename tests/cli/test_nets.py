"""Ordinary nets from the command line."""

from __future__ import annotations

import json

import pytest

PROBLEM = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from efface import NetTraining, Problem

def problem():
    y = torch.arange(40) % 2
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) + 3 * y[:, None]
    return Problem(
        task="classification",
        make_model=lambda seed: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)),
        train=TensorDataset(x[:30], y[:30]),
        test=TensorDataset(x[30:], y[30:]),
        forget=[0, 1, 2],
        training=NetTraining(epochs=5, learning_rate=0.05, batch_size=10),
    )
"""
NET = ("--task", "classification", "--problem", "problem.py")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "problem.py").write_text(PROBLEM, encoding="utf-8")
    (tmp_path / "request.yaml").write_text(
        "task: classification\nproblem: ./problem.py\nmethod: fine_tune\nretrained_2: none\n", encoding="utf-8"
    )
    return tmp_path


def test_run_unlearn_evaluate(efface, here):
    ran = efface("run", "request.yaml", "--output", "run", "--allow-code", "--json")
    assert ran.code == 0, ran.err
    facts = json.loads(ran.out)
    assert set(facts["metrics"]) == {"original", "unlearned", "retrained"}
    assert (here / "run" / "report.html").is_file()
    made = efface("unlearn", *NET, "--allow-code", "--method", "fine_tune", "--output", "made", "--json")
    assert json.loads(made.out)["weights_hash"] == facts["weights_hash"]
    measured = efface("evaluate", "made", *NET, "--allow-code", "--json")
    found = json.loads(measured.out)["metrics"]["forget_accuracy"]["value"]
    assert found == facts["metrics"]["unlearned"]["forget_accuracy"]


def test_code_runs_only_where_it_is_allowed(efface, here):
    (here / "problem.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    for arguments in (("run", "request.yaml"), ("unlearn", *NET), ("evaluate", "made", *NET)):
        refused = efface(*arguments)
        assert refused.code == 2
        assert "problem.py, which is Python code" in refused.err
        assert "--allow-code" in refused.err


def test_print_python_says_so(efface, here):
    for arguments in (("run", "request.yaml"), ("unlearn", *NET), ("evaluate", "made", *NET)):
        assert "allow_code=True" in efface(*arguments, "--allow-code", "--print-python").out
        assert "allow_code" not in efface(*arguments, "--print-python").out


def test_methods_by_task(efface):
    found = json.loads(efface("methods", "--task", "forecasting", "--json").out)
    assert {"blindspot", "fine_tune", "retrain"} <= {each["name"] for each in found}
    assert "laf" not in {each["name"] for each in found}
    shown = json.loads(efface("methods", "laf", "--json").out)
    assert shown["labels_read"] == "none"
    assert shown["hyperparameters"]["temp"]["default"] == 20
    assert "no task of nets named 'rank'" in efface("methods", "--task", "rank").err
    for arguments, message in {
        ("methods", "scrubb"): "Did you mean 'scrub'",
        ("methods", "laf", "--task", "regression"): "laf is no method for regression",
        ("methods", "laf", "--without", "retain_set"): "Both laf and --without were given",
        ("methods", "--task", "regression", "--without", "retain"): "no need named 'retain'",
    }.items():
        refused = efface(*arguments)
        assert refused.code == 2
        assert message in refused.err
    listed = json.loads(efface("methods", "--task", "regression", "--without", "retain_set", "--json").out)
    assert [each["name"] for each in listed] == ["neg_grad"]
    assert "for regression within must be given" in efface("methods", "--task", "regression").out


def test_unlearn_keeps_files_of_the_user(efface, here):
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("x", encoding="utf-8")
    refused = efface("unlearn", *NET, "--allow-code", "--method", "fine_tune", "--output", "mine")
    assert refused.code == 2
    assert "thesis.txt" in refused.err
    assert (here / "mine" / "thesis.txt").is_file()
    assert not (here / "cache").exists()
