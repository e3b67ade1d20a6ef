"""Two processes (gloo) measure the rows of one, bit for bit, and both get all of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from _shared import CHUNK, items, plain, tiny_model

from efface.evals import measure
from efface.evals.rows import RowCache

HERE = Path(__file__).parent


def launch(*arguments: str, folder: Path = HERE, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes under ``torchrun``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What each of the two processes has seen, and where the rows are kept."""
    output = tmp_path_factory.mktemp("shared")
    done = launch(str(HERE / "_shared.py"), str(output))
    assert done.returncode == 0, done.stderr[-3000:]
    return output / "cache", [json.loads((output / f"{number}.json").read_text(encoding="utf-8")) for number in (0, 1)]


@pytest.mark.parametrize("way", ["cached", "not cached"])
def test_rows_of_two_processes_are_those_of_one(found, way: str) -> None:
    alone = plain(measure(tiny_model(), *items(), chunk=CHUNK))
    assert len(alone["rows"]) == len(alone["texts"]) == 30
    for seen in found[1]:
        assert seen[way] == alone
    assert [seen["is_main"] for seen in found[1]] == [True, False]


def test_what_two_processes_kept_is_whole_and_stands_once(found) -> None:
    folder, seen = found
    assert all(process["again"]["counts"] == [0, 0] for process in seen)
    assert all(process["again"]["rows"] == process["cached"]["rows"] for process in seen)
    kept = RowCache(folder, tiny_model().fingerprint)
    files = sorted(kept.directory.iterdir())
    # 30 items in chunks of 8, and of 4 for texts; nothing half-written is left.
    assert [path.suffix for path in files] == [".parquet"] * (4 + 8)
    entries = [item for path in files for item in kept._load(path)["item"].to_pylist()]
    assert len(entries) == len(set(entries)) == 60
    again = measure(tiny_model(), *items(), cache=folder)
    assert (again.counts.scored_now, again.counts.generated_now) == (0, 0)


def test_a_failure_of_one_process_ends_both(found) -> None:
    assert [seen["failing"] for seen in found[1]] == ["this process is out of memory"] * 2


def test_processes_with_different_models_are_refused(found) -> None:
    assert all("different models or rows" in seen["another model"] for seen in found[1])
