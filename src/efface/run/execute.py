"""From request to report: the stages of a run, each of which can be started again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from efface.models.language_model import load_language_model
from efface.models.processes import is_main, share
from efface.report import write_report
from efface.request import LANGUAGE_MODEL, ForgetRequest
from efface.results import Cost, Report, Results, Unlearned
from efface.run.evaluation import evaluate_roles
from efface.run.folder import RunFolder, environment, output_folder
from efface.run.plan import Plan, make_job, make_plan, open_trackers, prepare_models
from efface.run.progress import Progress, within
from efface.run.record import RunResult, read_unlearned, unlearned_record
from efface.train.language_model import cpu_threads
from efface.train.trackers import Trackers
from efface.train.unlearn import run_job

__all__ = ["RunResult", "execute"]


def execute(
    request: ForgetRequest,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    known: Mapping[str, Mapping[str, Results]] | None = None,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> RunResult | None:
    """Unlearn, evaluate and report; what an earlier start of the same request has done is not done again.

    Of several processes (``accelerate launch``) the main one does all of it; the others take part in training and measuring.

    Args:
        request: What to do.
        output: Run folder; None takes the request's, else ``runs/<hash>``.
        overwrite: Remove another request's run from the folder.
        known: Role -> results by suite of reference models that were measured before on the same rows, as a bench hands them in.
        allow_code: Whether the problem file of a request for an ordinary net may be run.
        progress: Told of (stage, done, in all).

    Returns:
        What the run left behind; None in a process that is not the main one.

    Raises:
        InputError: When something about the request is wrong; raised before any model is loaded.
        TrainingStopped: When the loss is not a finite number; the last checkpoint stays in the folder.
    """
    if request.task != LANGUAGE_MODEL:
        from efface.run.nets import execute_net

        return execute_net(request, output=output, overwrite=overwrite, allow_code=allow_code, progress=progress)
    plan = make_plan(request)
    if not is_main():
        _assist(plan)
        return None
    folder = RunFolder(output_folder(request, output, f"{plan.spec.name}-{plan.hash[:8]}"), plan.record, overwrite=overwrite)
    with folder.open(), open_trackers(plan, folder.path / "logs") as trackers:
        (folder.path / "request.yaml").write_text(request.as_yaml(), encoding="utf-8")
        started = time.perf_counter()
        models = prepare_models(plan, progress)
        building = {} if plan.recipe is None else {"building the models": Cost(time.perf_counter() - started)}
        unlearned, steps_now = _unlearn(plan, models, folder, trackers, progress)
        roles: dict[str, str | Path] = {**models, "unlearned": unlearned.path}
        share(lambda: {role: place for role, place in roles.items() if role not in (known or {})})
        measured = evaluate_roles(request, roles, plan.data, own_rows=folder.path / "rows", known=known, progress=progress)
        folder.write("metrics.json", {role: result.as_dict() for role, result in measured.results.items()})
        folder.write("entities.json", plan.entities())
        now = {
            "steps_executed": float(steps_now),
            "items_scored": _sum(measured.results, "scored_now"),
            "items_generated": _sum(measured.results, "generated_now"),
        }
        folder.finish("evaluation", now)
        if trackers is not None:
            trackers.log(_figures(measured.results))
        report = _report(plan, folder, unlearned, measured.results, {**building, **measured.costs})
        folder.finish("report", {})
    return RunResult(folder.path, unlearned, measured.results, report, now)


@dataclass(frozen=True)
class Place:
    """Where the processes that train together read and write.

    Attributes:
        original: Directory or hub id of the original model.
        model: Directory of the unlearned model.
        checkpoints: Directory of the checkpoints.
    """

    original: str | Path
    model: Path
    checkpoints: Path


def _assist(plan: Plan) -> None:
    """Take part in the training that the main process has prepared, if there is any, and in the measuring."""
    place: Place | None = share(_nothing)
    if place is not None:
        job = make_job(plan, place.original)
        with cpu_threads(job.settings.threads):
            run_job(job, place.model, checkpoints=place.checkpoints)
    roles: Mapping[str, str | Path] = share(_nothing)
    evaluate_roles(plan.request, roles, plan.data, own_rows=None)


def _nothing() -> Any:
    """What a process that is not the main one has to tell."""


def _figures(results: Mapping[str, Results]) -> dict[str, float]:
    """Return every figure there is as ``role/name``."""
    return {
        f"{role}/{name}": float(metric.value)
        for role, result in results.items()
        for name, metric in result.metrics.items()
        if metric.value is not None
    }


def _unlearn(
    plan: Plan, models: Mapping[str, str | Path], folder: RunFolder, trackers: Trackers | None, progress: Progress | None
) -> tuple[Unlearned, int]:
    """Return the unlearned model and the optimiser steps executed now; a finished stage is read back."""
    target = folder.path / "model"
    if folder.is_done("unlearning") and target.is_dir():
        share(lambda: None)  # nothing is left for the other processes to do
        return replace(read_unlearned(folder.read("unlearned.json"), target), load=load_language_model), 0
    checkpoints = folder.path / "checkpoints"
    share(lambda: Place(models["original"], target, checkpoints))
    job = replace(make_job(plan, models["original"]), trackers=trackers)
    with cpu_threads(job.settings.threads):
        unlearned = run_job(job, target, checkpoints=checkpoints, progress=within(progress, "unlearning"))
    folder.write("unlearned.json", unlearned_record(unlearned))
    folder.finish("unlearning", {"weights_hash": unlearned.weights_hash, "steps_executed": unlearned.cost.steps})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return replace(unlearned, load=load_language_model), unlearned.cost.steps or 0


def _report(plan: Plan, folder: RunFolder, unlearned: Unlearned, results: Mapping[str, Results], costs: Mapping[str, Cost]) -> Path:
    manifest = folder.manifest
    report = Report(
        request={
            **{key: value for key, value in plan.record.items() if key not in ("method", "training", "seeds")},
            "output": folder.path.name,
        },
        unlearned=unlearned,
        results=results,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=plan.describe_data(),
        costs={
            **{name: cost for name, cost in costs.items() if name.startswith("building")},
            "unlearning": unlearned.cost,
            **costs,
        },
        manifest={**environment(), "created": manifest.get("created", ""), "seeds": plan.record.get("seeds", {})},
        notes=plan.notes,
        fictional=plan.is_fictional,
        kept_step=unlearned.kept_step,
    )
    return write_report(report, folder.path, include_plaintext=plan.request.include_plaintext)


def _sum(results: Mapping[str, Results], name: str) -> float:
    return float(sum(result.cost.get(name, 0.0) for result in results.values()))
