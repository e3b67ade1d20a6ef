"""A run from request to report: its files, its resume, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from efface.errors import EffaceError, InputError, MissingNeed
from efface.request import ForgetRequest
from efface.run import execute

WriteRequest = Callable[..., Path]


def values(result: Any) -> dict[str, dict[str, float | None]]:
    return {role: {name: m.value for name, m in r.metrics.items()} for role, r in result.results.items()}


def test_run_leaves_model_figures_and_report(write_request: WriteRequest, tmp_path: Path) -> None:
    result = execute(ForgetRequest.read(write_request()))
    folder = tmp_path / "run"
    assert result.folder == folder
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        "manifest.json",
        "request.yaml",
        "model",
        "rows",
        "entities.json",
        "metrics.json",
        "report.json",
        "report.html",
        "unlearned.json",
    }
    entities = json.loads((folder / "entities.json").read_text())
    assert sorted(entities["forget"].values()) == list(range(12))  # numbers, not names
    assert set(result.results) == {"original", "retrained", "unlearned"}
    before = result.results["original"].value("forget_probability")
    after = result.results["unlearned"].value("forget_probability")
    assert before is not None
    assert after is not None
    assert after < before
    assert result.results["unlearned"]["forget_quality"].is_available
    assert (folder / "model" / "efface.json").is_file()
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "not audited" in report
    assert "was born in" not in report
    assert "was born in" not in (folder / "manifest.json").read_text() + (folder / "metrics.json").read_text()


def test_same_request_does_nothing_twice(write_request: WriteRequest) -> None:
    first = execute(ForgetRequest.read(write_request()))
    again = execute(ForgetRequest.read(write_request()))
    assert again.facts == {"steps_executed": 0, "items_scored": 0, "items_generated": 0}
    assert again.unlearned.weights_hash == first.unlearned.weights_hash
    assert values(again) == values(first)


def test_seed_changes_the_weights_and_equal_seeds_do_not(write_request: WriteRequest, tmp_path: Path) -> None:
    hashes = [
        execute(
            ForgetRequest.read(write_request(evaluate="none"), [f"seeds.unlearning={seed}"]), output=tmp_path / f"run-{i}"
        ).unlearned.weights_hash
        for i, seed in enumerate((0, 0, 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


_CHILD = """
import os, signal, sys
from efface.request import ForgetRequest
from efface.run import execute

def progress(stage, done, total):
    print(f"{stage}|{done}|{total}", flush=True)

execute(ForgetRequest.read(sys.argv[1]), progress=progress)
"""


def kill_when(request: Path, is_time: Callable[[str, int], bool]) -> None:
    """Start the run in a process of its own and kill it (SIGKILL) when its progress says so."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(request)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.count("|") != 2:
            continue
        stage, done, _ = line.rsplit("|", 2)
        if is_time(stage, int(done)):
            child.send_signal(signal.SIGKILL)
            break
    child.wait(timeout=60)
    assert child.returncode == -signal.SIGKILL, child.stderr.read() if child.stderr else ""


def test_kill_in_training_then_again(write_request: WriteRequest, tmp_path: Path) -> None:
    whole = execute(ForgetRequest.read(write_request()), output=tmp_path / "whole")
    request = write_request()
    kill_when(request, lambda stage, done: stage == "unlearning" and done >= 5)
    assert not (tmp_path / "run" / "model").exists()
    resumed = execute(ForgetRequest.read(request))
    assert 0 < resumed.facts["steps_executed"] < whole.facts["steps_executed"]
    assert resumed.unlearned.weights_hash == whole.unlearned.weights_hash
    assert values(resumed) == values(whole)
    assert resumed.unlearned.history == whole.unlearned.history


def test_kill_in_evaluation_then_again(write_request: WriteRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path / "cache-whole"))
    whole = execute(ForgetRequest.read(write_request()), output=tmp_path / "whole")
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path / "cache"))
    request = write_request()
    kill_when(request, lambda stage, done: stage == "evaluation of the unlearned model" and done >= 1)
    time.sleep(0.1)
    resumed = execute(ForgetRequest.read(request))
    assert resumed.facts["steps_executed"] == 0
    assert resumed.facts["items_scored"] < whole.facts["items_scored"]
    assert resumed.unlearned.weights_hash == whole.unlearned.weights_hash
    assert values(resumed) == values(whole)


def refused(request: Path, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(EffaceError) as error:
        execute(ForgetRequest.read(request), **options)
    assert error.value.exit_code == 2
    assert not (tmp_path / "run" / "model").exists()
    return str(error.value)


def test_another_request_is_refused_with_the_difference(write_request: WriteRequest, tmp_path: Path) -> None:
    execute(ForgetRequest.read(write_request(evaluate="none")))
    with pytest.raises(InputError, match=r"method\.objective\.beta was 0\.5, now 0\.2"):
        execute(ForgetRequest.read(write_request(evaluate="none", method={"name": "npo", "beta": 0.2})))
    result = execute(ForgetRequest.read(write_request(evaluate="none", method={"name": "npo", "beta": 0.2})), overwrite=True)
    assert result.unlearned.method["objective"]["beta"] == 0.2


def test_foreign_files_are_refused(write_request: WriteRequest, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    assert "thesis.tex" in refused(write_request(), tmp_path)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "mine"


def test_live_lock_is_refused(write_request: WriteRequest, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with FileLock(str(tmp_path / "run" / ".lock")):
        assert "Another run is working" in refused(write_request(), tmp_path)


def test_missing_need_is_refused_before_loading(write_request: WriteRequest, tmp_path: Path) -> None:
    with pytest.raises(MissingNeed, match="npo needs rows to keep"):
        execute(ForgetRequest.read(write_request(retain=None)))
    assert not (tmp_path / "run").exists()


def test_overlap_is_refused_and_can_be_dropped(write_request: WriteRequest, site: Path, tmp_path: Path) -> None:
    both = tmp_path / "retain.jsonl"
    both.write_text((site / "retain.jsonl").read_text() + (site / "forget.jsonl").read_text())
    assert "12 of 24 retain rows" in refused(write_request(retain=str(both)), tmp_path)
    result = execute(ForgetRequest.read(write_request(retain=str(both), drop_overlap=True, evaluate="none")))
    assert json.loads((result.folder / "manifest.json").read_text())["request"]["retain"]["rows"] == 12


def test_model_without_tokenizer_is_refused(write_request: WriteRequest, site: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((site / "original" / name).read_bytes())
    assert "tokenizer" in refused(write_request(model=str(bare)), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "npoo"}, "npo"),
        ({"method": {"name": "npo", "bta": 1}}, "did you mean 'beta'"),
        ({"forget": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"model": "./no-such-model"}, "no-such-model"),
        ({"unlearning": {"learning_rat": 1}}, "learning_rate"),
    ],
)
def test_wrong_values_are_refused(write_request: WriteRequest, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in refused(write_request(**changes), tmp_path)


def test_no_retrained_model_means_not_available(write_request: WriteRequest) -> None:
    result = execute(ForgetRequest.read(write_request(retrained=None)))
    quality = result.results["unlearned"]["forget_quality"]
    assert quality.value is None
    assert quality.reason
