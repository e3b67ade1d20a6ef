"""``efface run`` and ``efface evaluate`` in two processes: the figures of one, written and printed once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from efface.request import ForgetRequest
from efface.run import evaluate, execute

UNLEARNING = {"max_steps": 3, "batch_size": 4, "stop": {"forget_nll": "off"}}


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``efface ARGUMENTS`` in two processes under ``torchrun``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port), "-m", "efface"]
    environment = {**os.environ, "EFFACE_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=1200, check=False, env=environment, cwd=folder
    )


@pytest.mark.slow
def test_a_run_is_that_of_one_process(write_request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_request(unlearning=UNLEARNING, output=None)
    together = launch(tmp_path, "run", str(path), "--output", "two", "--json")
    assert together.returncode == 0, together.stderr[-3000:]
    found = json.loads(together.stdout)
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path / "another cache"))  # rows of earlier tests do not help
    alone = execute(ForgetRequest.read(path), output=tmp_path / "one")
    assert alone is not None
    assert found["facts"]["items_scored"] == alone.facts["items_scored"] > 0
    for role in ("original", "retrained"):
        assert found["metrics"][role] == {name: metric.value for name, metric in alone.results[role].metrics.items()}
    # Two processes add gradients up in another order, so that the trained weights agree up to rounding.
    for name in ("forget_nll", "retain_probability", "holdout_nll"):
        assert found["metrics"]["unlearned"][name] == pytest.approx(alone.results["unlearned"].value(name), rel=1e-3)
    again = launch(tmp_path, "run", str(path), "--output", "two", "--json")
    assert again.returncode == 0, again.stderr[-3000:]
    facts = json.loads(again.stdout)["facts"]
    assert (facts["steps_executed"], facts["items_scored"], facts["items_generated"]) == (0, 0, 0)


@pytest.mark.slow
def test_measuring_alone_is_shared_too(site: Path, tmp_path: Path) -> None:
    sets = ("--forget", str(site / "forget.jsonl"), "--retain", str(site / "retain.jsonl"), "--retrained", str(site / "retrained"))
    done = launch(tmp_path, "evaluate", str(site / "original"), *sets, "--json", "--output", "figures.json")
    assert done.returncode == 0, done.stderr[-3000:]
    request = ForgetRequest(
        model=site / "original", forget=site / "forget.jsonl", retain=site / "retain.jsonl", retrained=site / "retrained"
    )
    alone = evaluate(request=request, role="model")
    printed = json.loads(done.stdout)["metrics"]
    assert {name: entry["value"] for name, entry in printed.items()} == {name: m.value for name, m in alone.metrics.items()}
    assert json.loads((tmp_path / "figures.json").read_text())["metrics"].keys() == printed.keys()
