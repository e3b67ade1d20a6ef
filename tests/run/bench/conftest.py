"""A suite on the tiny untrained models, and an executor that works in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from efface.run.bench import BenchResult, BenchSpec, BenchState, run_bench
from efface.run.bench.worker import work


class InThisProcess:
    """Does each node when it is started; for tests, where a process each would take longer than the work."""

    slots = 1

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.started: list[str] = []

    def start(self, key: str, task: Path) -> None:
        self.started.append(json.loads(task.read_text(encoding="utf-8"))["label"])
        self.codes[key] = work(task)

    def ended(self, timeout: float) -> dict[str, int]:
        found, self.codes = self.codes, {}
        return found

    def stop(self) -> None:
        self.codes.clear()


@pytest.fixture
def here() -> InThisProcess:
    return InThisProcess()


def fields_of(site: Path, output: Path, changes: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": [{"model": str(site / "original"), "retrained": str(site / "retrained")}],
        "forget": str(site / "forget.jsonl"),
        "retain": str(site / "retain.jsonl"),
        "methods": ["npo", {"name": "ga", "label": "ascent"}],
        "seeds": [0, 1],
        "unlearning": {"max_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "stop": {"forget_nll": "off"}},
        "output": str(output),
        "name": "small",
    }
    return {key: value for key, value in (fields | changes).items() if value is not None}


@pytest.fixture
def tree(site: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return the keys of a small suite; keywords replace its keys, None drops them."""
    return lambda **changes: fields_of(site, tmp_path / "bench", changes)


@dataclass(frozen=True)
class Finished:
    """A bench that has run once, and how."""

    result: BenchResult
    states: list[BenchState]
    started: list[str]


@pytest.fixture(scope="session")
def finished(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The small suite, run once for all tests that only read it."""
    executor, states = InThisProcess(), []
    output = tmp_path_factory.mktemp("finished") / "bench"
    result = run_bench(BenchSpec.from_tree(fields_of(site, output, {})), executor=executor, progress=states.append)
    return Finished(result, states, executor.started)


@pytest.fixture
def grown(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished bench, to go on with."""
    return Path(shutil.copytree(finished.result.folder, tmp_path / "bench"))
