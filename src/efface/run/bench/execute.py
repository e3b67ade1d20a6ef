"""Run what is left of a bench: every node once, several at a time; one that fails stops only what needs it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from efface.report.leaderboard import Leaderboard
from efface.run.bench.collect import build_leaderboard
from efface.run.bench.executors import Executor, make_executor
from efface.run.bench.folder import BenchFolder, NodeRecord, now
from efface.run.bench.graph import BenchPlan, Node, plan_bench
from efface.run.bench.spec import BenchSpec

__all__ = ["BenchResult", "BenchState", "Forecast", "forecast_bench", "run_bench"]

_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class BenchState:
    """How far a bench has come.

    Attributes:
        done: Nodes done, those of earlier starts as well.
        failed: Nodes that failed, or wait for one that did.
        total: Nodes in all.
        running: Label -> share of the present stage, None where it is not known yet.
        seconds_left: Estimate, None while there is nothing to go by.
        ended: Label and reason (empty when it went well) of the node that has just ended.
    """

    done: int
    failed: int
    total: int
    running: Mapping[str, float | None]
    seconds_left: float | None
    ended: tuple[str, str] | None = None


@dataclass(frozen=True)
class Forecast:
    """What a bench would do.

    Attributes:
        done: Labels of nodes that are done.
        left: Label -> estimated seconds, None where nothing like it has run.
        jobs: Processes at a time.
        seconds: Estimate of the whole, over the nodes that have one; None where none has.
    """

    done: tuple[str, ...]
    left: Mapping[str, float | None]
    jobs: int
    seconds: float | None


@dataclass(frozen=True)
class BenchResult:
    """What a bench left behind.

    Attributes:
        folder: The folder of the bench.
        leaderboard: The table.
        page: Path of ``leaderboard.html``.
        failed: Label -> reason.
        executed: Nodes executed by this call; a continued bench executes fewer.
    """

    folder: Path
    leaderboard: Leaderboard
    page: Path
    failed: Mapping[str, str]
    executed: int


def run_bench(
    spec: BenchSpec,
    *,
    output: str | Path | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[BenchState], None] | None = None,
) -> BenchResult:
    """Run a suite; what an earlier start has done is not done again, and what failed is tried again.

    Args:
        spec: The suite.
        output: The folder; None takes the suite's.
        jobs: Processes at a time; None takes the suite's.
        executor: Where nodes run; None takes the suite's.
        progress: Told a few times a second how far it is.

    Returns:
        The leaderboard, also where nodes have failed: its lines say so.

    Raises:
        InputError: When anything in the suite is wrong, before a model is loaded; or the folder is in use or not a bench's.
    """
    from efface.report.leaderboard_page import write_leaderboard

    plan = plan_bench(spec)
    folder = BenchFolder(Path(output).expanduser() if output is not None else spec.folder)
    count, threads = _slots(plan, jobs)
    with folder.open(spec.model_dump(mode="json", exclude={"output"}, exclude_unset=True)):
        (folder.path / "suite.yaml").write_text(
            yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        scheduler = _Scheduler(plan, folder, progress)
        if scheduler.waiting:
            scheduler.run(executor or make_executor(spec.executor, slots=count, threads=threads), count)
        board = build_leaderboard(plan, folder, scheduler.failed)
        page = write_leaderboard(board, folder.path)
    failed = {plan.nodes[key].label: reason for key, reason in scheduler.failed.items()}
    return BenchResult(folder.path, board, page, failed, scheduler.executed)


def forecast_bench(spec: BenchSpec, *, output: str | Path | None = None, jobs: int | None = None) -> Forecast:
    """Say what :func:`run_bench` would do, and how long it would take where like nodes have run; nothing is written."""
    plan = plan_bench(spec)
    folder = BenchFolder(Path(output).expanduser() if output is not None else spec.folder)
    folder.check()
    count, _ = _slots(plan, jobs)
    done = {key for key, node in plan.nodes.items() if folder.is_done(node)}
    estimate = _Estimates(folder.records())
    left = {node.label: estimate.seconds(node) for key, node in plan.nodes.items() if key not in done}
    known = [seconds for seconds in left.values() if seconds is not None]
    labels = tuple(plan.nodes[key].label for key in plan.nodes if key in done)
    return Forecast(labels, left, count, sum(known) / count if known else None)


def _slots(plan: BenchPlan, jobs: int | None) -> tuple[int, int]:
    """Return processes at a time and threads of each: small models run side by side, a large one has the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = jobs or plan.spec.jobs
    if plan.is_small:
        threads = plan.spec.threads or 1
        return asked or max(1, cores // threads), threads
    return asked or 1, plan.spec.threads or max(1, cores // (asked or 1))


class _Estimates:
    """Seconds of a node, from nodes that have run: of its group, else of its kind."""

    def __init__(self, records: Iterable[NodeRecord]) -> None:
        self._by_group: dict[str, list[float]] = {}
        for record in records:
            if record.state == "done":
                self.add(record.group, record.seconds)

    def add(self, group: str, seconds: float) -> None:
        for name in (group, group.split(" ")[0]):
            self._by_group.setdefault(name, []).append(seconds)

    def seconds(self, node: Node) -> float | None:
        found = self._by_group.get(node.group) or self._by_group.get(node.group.split(" ")[0])
        return mean(found) if found else None


@dataclass
class _Scheduler:
    """Starts what is ready, takes in what has ended."""

    plan: BenchPlan
    folder: BenchFolder
    progress: Callable[[BenchState], None] | None
    waiting: list[Node] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    executed: int = 0

    def __post_init__(self) -> None:
        self.done = {key for key, node in self.plan.nodes.items() if self.folder.is_done(node)}
        self.waiting = [node for key, node in self.plan.nodes.items() if key not in self.done]
        self.estimates = _Estimates(self.folder.records())

    def run(self, executor: Executor, slots: int) -> None:
        """Run until nothing is left that can run."""
        for node in self.waiting:  # what failed before counts as not run
            (self.folder.path / "nodes" / f"{node.key[:16]}.json").unlink(missing_ok=True)
        builders = sum(node.kind == "models" for node in self.waiting)
        try:
            while self.waiting or self.running:
                self._start_ready(executor, max(1, slots // max(1, builders)))
                self._tell(None)
                for key, code in executor.ended(_POLL_SECONDS).items():
                    self._take(key, code)
        finally:
            executor.stop()

    def _start_ready(self, executor: Executor, workers: int) -> None:
        for node in list(self.waiting):
            broken = next((key for key in node.needs if key in self.failed), None)
            if broken is not None:
                self.waiting.remove(node)
                self.failed[node.key] = f"not run, since it needs the {self.plan.nodes[broken].label}, which failed"
                self._tell((node.label, self.failed[node.key]))
            elif len(self.running) < executor.slots and all(key in self.done for key in node.needs):
                self.waiting.remove(node)
                task: Mapping[str, Any] = {**node.task, **({"workers": workers} if node.kind == "models" else {})}
                path = self.folder.write_task(node, task, self.plan.nodes)
                self.running[node.key] = time.monotonic()
                executor.start(node.key, path)

    def _take(self, key: str, code: int) -> None:
        node = self.plan.nodes[key]
        seconds = time.monotonic() - self.running.pop(key)
        self.executed += 1
        record = self.folder.record(key)
        if record is None:  # killed, or could not even start
            reason = f"its process ended with code {code} and left no word; nodes/{key[:16]}.log may say more"
            record = NodeRecord(key, node.label, node.group, "failed", round(seconds, 2), now(), reason)
            self.folder.write_record(record)
        if record.state == "done" and self.folder.is_done(node):
            self.done.add(key)
            self.estimates.add(node.group, record.seconds)
        else:
            self.failed[key] = record.reason or "its result is not there"
        self._tell((node.label, self.failed.get(key, "")))

    def _tell(self, ended: tuple[str, str] | None) -> None:
        if self.progress is None:
            return
        shares = {self.plan.nodes[key].label: self.folder.progress(self.plan.nodes[key]) for key in self.running}
        state = BenchState(len(self.done), len(self.failed), len(self.plan.nodes), shares, self._seconds_left(), ended)
        self.progress(state)

    def _seconds_left(self) -> float | None:
        """Divide the work that is left by the processes; the longest running node is the least it takes."""
        left = [self.estimates.seconds(node) for node in self.waiting]
        if any(seconds is None for seconds in left):
            return None
        moment = time.monotonic()
        under_way = []
        for key, started in self.running.items():
            whole = self.estimates.seconds(self.plan.nodes[key])
            if whole is None:
                return None
            under_way.append(max(0.0, whole - (moment - started)))
        work = [seconds for seconds in left if seconds is not None] + under_way
        return max(sum(work) / max(1, len(self.running)), max(under_way, default=0.0)) if work else 0.0
