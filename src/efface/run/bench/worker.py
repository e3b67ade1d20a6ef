"""Do one node of a bench in a process of its own: ``python -m efface.run.bench.worker TASK.json``.

How it ended is written to the task's record, a failure as well. Executors start it through :mod:`efface.lifeline`, so that it ends
with the bench.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from efface.errors import EffaceError
from efface.run.bench.folder import NodeRecord, now
from efface.run.folder import write_json

__all__ = ["main", "read_reference", "run_task", "work"]

_REPORT_SECONDS = 0.5
_PATIENCE_SECONDS = 120
"""How long to wait for what is left of an earlier worker of the same node."""


def run_task(task: Mapping[str, Any]) -> None:
    """Do what a task says; whatever it makes appears in its folder."""
    from efface.request import ForgetRequest

    request = ForgetRequest(**task["request"])
    report = _Reporter(Path(task["record"]).with_suffix(".progress"))
    if task["kind"] == "models":
        _build(request, task, report)
    elif task["kind"] == "reference":
        _measure(request, task, report)
    elif task["kind"] == "run":
        _run(request, task, report)
    else:
        _axis(request, task, report)


def read_reference(path: Path) -> dict[str, Any]:
    """Return the results by suite that a reference node left."""
    from efface.results import Example, Results

    found = json.loads(path.read_text(encoding="utf-8"))
    examples = tuple(Example(**example) for example in found.get("examples", ()))
    results = {suite: Results.from_dict(result) for suite, result in found["suites"].items()}
    if not examples:
        return results
    first = next(iter(results))
    return {suite: replace(result, examples=examples) if suite == first else result for suite, result in results.items()}


def _build(request: Any, task: Mapping[str, Any], report: _Reporter) -> None:
    from efface.run.plan import make_plan
    from efface.world import build_models

    plan = make_plan(request, trains=False)
    build_models(
        plan.recipe,
        roles=task["roles"],
        workers=task["workers"],
        progress=lambda state: report("building", round(100 * state.share), 100),
    )


def _measure(request: Any, task: Mapping[str, Any], report: _Reporter) -> None:
    from efface.data.cache import cache_root
    from efface.models.language_model import load_language_model
    from efface.run.evaluation import measure_suites, side_by_side
    from efface.run.plan import make_plan
    from efface.world import build_models

    plan, role = make_plan(request, trains=False), task["role"]
    if plan.recipe is not None:
        place: Any = build_models(plan.recipe, roles=(role,)).directories[role]
    else:
        place = request.model if role == "original" else getattr(request, role)
    started = time.perf_counter()
    against = {key: read_reference(Path(path)) for key, path in task["references"].items()}
    measured = measure_suites(
        load_language_model(place, template=request.template),
        request,
        plan.data,
        role=role,
        against=against.get("retrained"),
        cache=cache_root() / "rows",
        progress=report,
    )
    whole = side_by_side(measured)
    data: dict[str, Any] = {
        "suites": {suite: result.as_dict() for suite, result in measured.items()},
        "results": whole.as_dict(),
        "entities": plan.entities(),
        "data": plan.describe_data(),
        "seconds": time.perf_counter() - started,
    }
    if plan.is_fictional:  # texts of real rows stay in the row cache
        data["examples"] = [asdict(example) for example in whole.examples]
    folder = Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", data)


def _run(request: Any, task: Mapping[str, Any], report: _Reporter) -> None:
    from efface.run.execute import execute

    known = {role: read_reference(Path(path)) for role, path in task["references"].items()}
    execute(request, output=task["folder"], known=known, progress=report)


def _axis(request: Any, task: Mapping[str, Any], report: _Reporter) -> None:
    from efface.run.axes import run_axes

    folder = Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    found = run_axes(request, axis=task["axis"], output=folder, progress=report)
    if found is not None:  # None in a process that is not the main one
        write_json(folder / "axis.json", found.as_dict())


class _Reporter:
    """Keeps how far the present stage is where the bench looks for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        moment = time.monotonic()
        if moment - self.last >= _REPORT_SECONDS:
            self.last = moment
            write_json(self.path, {"stage": stage, "done": done, "total": total})


def main(arguments: list[str]) -> int:
    """Run the command line above; the exit code is 0 when the node is done."""
    return work(Path(arguments[0]))


def work(file: Path) -> int:
    """Do the task of a file and write its record; return 0 when it is done and 1 when it failed."""
    task = json.loads(file.read_text(encoding="utf-8"))
    record = Path(task["record"])
    started, reason = time.perf_counter(), ""
    with FileLock(str(record.with_suffix(".lock")), timeout=_PATIENCE_SECONDS):
        try:
            run_task(task)
        except EffaceError as error:
            reason = " ".join(str(error).split())
        except Exception as error:  # any failure is one line of the table; the log has the rest
            traceback.print_exc()
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        state = NodeRecord(
            key=task["key"],
            label=task["label"],
            group=task["group"],
            state="failed" if reason else "done",
            seconds=round(time.perf_counter() - started, 2),
            finished=now(),
            reason=reason,
            efface=version("efface"),
        )
        write_json(record, asdict(state))
    record.with_suffix(".progress").unlink(missing_ok=True)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
