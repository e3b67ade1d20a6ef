"""Ordinary nets through the same verbs: unlearn, evaluate, and a whole run."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from efface.data.net_sets import as_rows
from efface.data.problem import NetTraining, Problem, as_training, require_validation
from efface.errors import InputError
from efface.evals.nets.relearned import Relearning
from efface.evals.nets.suite import evaluate_nets, untrained_of
from efface.methods.nets.base import NetMethod
from efface.models.fingerprint import weights_hash
from efface.models.fresh import reinitialised
from efface.models.net_files import load_net, save_net
from efface.models.net_losses import NetLoss
from efface.models.predictor import NetPredictor, Predictor, inner_net
from efface.models.seeding import seeded
from efface.places import require_replaceable
from efface.report import write_report
from efface.request import ForgetRequest
from efface.results import Cost, Report, Results, Unlearned
from efface.run.folder import RunFolder, environment, output_folder
from efface.run.net_fit import check_measured, check_test_rows, fresh_net, require_same_architecture
from efface.run.net_models import NetModels, load_role, prepare_nets, threads_for
from efface.run.net_plan import DEFAULT_METHODS, NetPlan, make_net_method, make_net_plan
from efface.run.net_problem import find_problem, prepare_problem
from efface.run.progress import Progress
from efface.run.record import RunResult, read_unlearned, unlearned_record
from efface.train.language_model import cpu_threads
from efface.train.net_relearn import relearner
from efface.train.unlearn_net import NetJob, NetOutcome, check_job, run_net_job

__all__ = ["NetInput", "evaluate_net", "execute_net", "unlearn_net", "unlearn_request"]

RELEARN_CAP = 200
"""Optimiser steps after which a whole run gives up relearning; each is followed by a look at no more than 500 rows."""
ROLES = ("retrained", "original", "unlearned", "retrained_2")


@dataclass(frozen=True)
class NetInput:
    """A net in memory and its rows, as the verb ``unlearn`` takes them.

    Attributes:
        net: The net, or a Lightning module around it; it is not changed unless ``inplace``.
        forget: Rows that must go: a data set, tensors, arrays or a data frame.
        retain: Rows to keep.
        task: "classification", "regression" or "forecasting".
        validation: Rows the net never learned from.
        target: Column of a data frame that is the target.
        make_model: Seed -> freshly initialised net; None draws the net's own modules anew.
        training: How the net was trained, for methods that repeat it.
        loss: A name or a function; None: the task's.
        head: Name of the module that turns representations into outputs.
        activations: Names of the modules whose activations are compared.
        inplace: Whether the caller's net gets the new weights.
    """

    net: Any
    forget: Any
    retain: Any
    task: str | None
    validation: Any = None
    target: str | None = None
    make_model: Callable[[int], nn.Module] | None = None
    training: NetTraining | None = None
    loss: Any = None
    head: str | None = None
    activations: tuple[str, ...] | None = None
    inplace: bool = False

    def job(self, method: NetMethod, *, seed: int) -> NetJob:
        """Return the unlearning job, with the rows brought into one form."""
        sets = {
            name: None if rows is None else as_rows(rows, target=self.target, name=f"the {name} set")
            for name, rows in (("forget", self.forget), ("retain", self.retain), ("validation", self.validation))
        }
        return NetJob(
            net=self.net,
            method=method,
            forget=sets["forget"],
            retain=sets["retain"],
            task=str(self.task),
            loss=NetLoss(self.loss, task=str(self.task)),
            validation=sets["validation"],
            make_model=self.make_model or (lambda seed: reinitialised(self.net, seed)),
            recipe=self.training,
            head=self.head,
            activations=self.activations,
            seed=seed,
        )


def unlearn_net(
    given: NetInput,
    *,
    method: Any = None,
    seed: int = 0,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Unlearned:
    """Make a net in memory forget; see :func:`efface.unlearn`.

    Raises:
        InputError: When rows, labels, the net or a setting is wrong; raised before anything is trained.
        MissingNeed: When the method needs what was not given.
    """
    if given.forget is None:
        raise InputError(
            "No forget rows were given for the net. It is told what must go by its rows. Pass forget=, a data set of (x, y), "
            "tensors, arrays or a data frame."
        )
    task = given.task
    if task is None or task not in DEFAULT_METHODS:
        raise InputError(
            f"The task is {task!r}. A net is one of classification, regression and forecasting. Pass task= one of these."
        )
    given = replace(given, net=inner_net(given.net))
    _check_given(given, seed)
    chosen = make_net_method(method if method is not None else DEFAULT_METHODS[task])
    target = _target(output)
    job = given.job(chosen, seed=seed)
    outcome = run_net_job(job, progress=progress)
    template = copy.deepcopy(outcome.net).cpu()
    unlearned = _saved(outcome, job, target, load=lambda path: load_net(copy.deepcopy(template), path).eval())
    if given.inplace:
        given.net.load_state_dict(outcome.net.state_dict())
    return unlearned


def _check_given(given: NetInput, seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"The seed is {seed!r}. A seed is a whole number from 0. Pass seed=0 or another.")
    require_validation(as_training(given.training), given.validation)
    if given.make_model is not None:
        require_same_architecture(given.net, inner_net(fresh_net(given.make_model, 0)))


def unlearn_request(
    request: ForgetRequest, *, output: str | Path | None = None, allow_code: bool = False, progress: Progress | None = None
) -> Unlearned:
    """Make the net of a request forget; nothing is measured."""
    target = _target(output)
    plan = _checked_plan(request, allow_code=allow_code)
    return _unlearn(plan, prepare_nets(plan, progress), target, progress)


def _target(output: str | Path | None) -> Path:
    """Return where the net is written to, refused before training where the user's files lie there."""
    return require_replaceable(output) if output is not None else Path(tempfile.mkdtemp(prefix="efface-unlearned-")) / "model"


def _unlearn(plan: NetPlan, models: NetModels, target: Path, progress: Progress | None) -> Unlearned:
    net = load_role(plan, models.places["original"])
    job = _job(plan, net)
    with cpu_threads(threads_for(plan, net)):
        outcome = run_net_job(job, progress=progress)
    return _saved(outcome, job, target, load=lambda path: load_role(plan, path))


def _job(plan: NetPlan, net: nn.Module) -> NetJob:
    problem = plan.problem
    return NetJob(
        net=net,
        method=plan.method,
        forget=plan.forget,
        retain=plan.retain,
        task=problem.task,
        loss=plan.loss,
        validation=problem.validation,
        num_classes=problem.num_classes,
        make_model=plan.fresh,
        recipe=problem.training,
        head=problem.head,
        activations=problem.activations,
        seed=plan.request.seeds.unlearning,
    )


def _checked_plan(request: ForgetRequest, *, allow_code: bool) -> NetPlan:
    """Return the plan of a request whose rows fit its net and its method; no net is trained before that is known."""
    plan = make_net_plan(request, allow_code=allow_code)
    net = plan.fresh(0)
    check_job(_job(plan, net))
    if request.evaluate != "none":
        check_test_rows(plan.problem, net, plan.loss)
    return plan


def _saved(outcome: NetOutcome, job: NetJob, target: Path, *, load: Callable[[Path], nn.Module]) -> Unlearned:
    """Write the unlearned net and return its record."""
    method = {**job.method.resolved(), "mode": job.method.mode}
    net = outcome.net.cpu()
    save_net(net, target, {"kind": "net", "task": job.task, "method": method, "seed": job.seed, "class": type(net).__name__})
    return Unlearned(
        path=target,
        method=method,
        intention=job.method.intention,
        history=outcome.history,
        stopped=outcome.stopped,
        cost=outcome.cost,
        weights_hash=weights_hash(target),
        notes=outcome.notes,
        load=load,
    )


def evaluate_net(
    model: Any,
    problem: Problem | str | None = None,
    *,
    request: ForgetRequest | None = None,
    against: Any = None,
    role: str = "unlearned",
    seed: int = 0,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Measure a net on a problem; see :func:`efface.evaluate`.

    Raises:
        InputError: When neither a problem nor a request that names one is given, or the model is none.
    """
    if request is not None:
        plan = make_net_plan(request, allow_code=allow_code)
        places = prepare_nets(plan, progress).places
        found: Problem = plan.problem
        models: dict[str, Predictor] = {
            name: _predictor(load_role(plan, place), found) for name, place in places.items() if name != "original"
        }
        measured = places.get("original") if model is None else model
        seed = request.seeds.evaluation
    else:
        if problem is None:
            raise InputError("No problem was given. It names the rows to measure a net on. Pass problem=Problem(...).")
        named = isinstance(problem, str)
        found = find_problem(str(problem), allow_code=allow_code)[0] if named else prepare_problem(problem, "problem=")
        models, measured = {}, model
    if against is not None:
        models["retrained"] = _as_predictor(against, found)
    models[role] = _as_predictor(measured, found)
    loss = NetLoss(found.loss, task=found.task, quantiles=found.quantiles)
    is_classifier = found.task == "classification"
    with seeded(seed):  # rows may be drawn from the global generators (augmentation)
        untrained = untrained_of(found, seed) if is_classifier else None
        check_measured({**models, **({"untrained": untrained} if untrained is not None else {})}, found, loss)
        return evaluate_nets(models, found, untrained=untrained, seed=seed, progress=_staged(progress))[role]


def _as_predictor(model: Any, problem: Problem) -> Predictor:
    if isinstance(model, Unlearned):
        model = model.model
    if isinstance(model, str | Path):
        model = load_net(fresh_net(problem.make_model, 0), model)
    if isinstance(model, nn.Module):
        return _predictor(inner_net(model), problem)
    if isinstance(model, Predictor):
        return model
    raise InputError(
        f"The model is a {type(model).__name__}. A net, its checkpoint, or something with predict and features can be measured. "
        "Pass one of these."
    )


def _predictor(net: nn.Module, problem: Problem) -> NetPredictor:
    return NetPredictor(net, head=problem.head)


def _staged(progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda role, done, total: progress(f"evaluation of the {role.replace('_', ' ')} net", done, total)


def execute_net(
    request: ForgetRequest,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Unlearn, evaluate and report for an ordinary net; see :func:`efface.run.execute`."""
    plan = _checked_plan(request, allow_code=allow_code)
    folder = RunFolder(output_folder(request, output, f"{plan.method.name}-{plan.hash[:8]}"), plan.record, overwrite=overwrite)
    with folder.open():
        (folder.path / "request.yaml").write_text(request.as_yaml(), encoding="utf-8")
        models = prepare_nets(plan, progress)
        unlearned, steps_now = _unlearn_once(plan, models, folder, progress)
        results, rows_now = _evaluate_once(plan, models, unlearned, folder, progress)
        now = {"steps_executed": float(steps_now), "items_scored": float(rows_now)}
        report = _report(plan, models, folder, unlearned, results)
        folder.finish("report", {})
    return RunResult(folder.path, unlearned, results, report, now)


def _unlearn_once(plan: NetPlan, models: NetModels, folder: RunFolder, progress: Progress | None) -> tuple[Unlearned, int]:
    """Return the unlearned net and the steps executed now; a finished stage is read back."""
    target = folder.path / "model"
    if folder.is_done("unlearning") and target.is_dir():
        return replace(read_unlearned(folder.read("unlearned.json"), target), load=lambda path: load_role(plan, path)), 0
    unlearned = _unlearn(plan, models, target, progress)
    folder.write("unlearned.json", unlearned_record(unlearned))
    folder.finish("unlearning", {"weights_hash": unlearned.weights_hash, "steps_executed": unlearned.cost.steps})
    return unlearned, unlearned.cost.steps or 0


def _evaluate_once(
    plan: NetPlan, models: NetModels, unlearned: Unlearned, folder: RunFolder, progress: Progress | None
) -> tuple[dict[str, Results], int]:
    """Return the figures by role and the rows put through a net now; what is shipped is loaded from disk and measured."""
    if plan.request.evaluate == "none":
        return {}, 0
    kept = folder.read("metrics.json")
    if folder.is_done("evaluation") and kept:
        return {role: Results.from_dict(data) for role, data in kept.items()}, 0
    places = {**models.places, "unlearned": unlearned.path}
    predictors = {role: _predictor(load_role(plan, places[role]), plan.problem) for role in ROLES if role in places}
    seed = plan.request.seeds.evaluation
    relearning = None if plan.problem.training is None else Relearning(relearner(plan.problem, seed=seed), cap=RELEARN_CAP)
    started = time.perf_counter()
    untrained = untrained_of(plan.problem, seed) if plan.problem.task == "classification" else None
    with cpu_threads(threads_for(plan, next(iter(predictors.values())).net)):
        results = evaluate_nets(
            predictors,
            plan.problem,
            untrained=untrained,
            relearning=relearning,
            seed=seed,
            progress=_staged(progress),
        )
    folder.write("metrics.json", {role: result.as_dict() for role, result in results.items()})
    rows = (len(plan.problem.train) + len(plan.problem.test)) * len(predictors)
    folder.finish("evaluation", {"items_scored": rows, "seconds": time.perf_counter() - started})
    return results, rows


def _report(plan: NetPlan, models: NetModels, folder: RunFolder, unlearned: Unlearned, results: Mapping[str, Results]) -> Path:
    left_out = ("method", "training", "seeds", "forget", "retain", "test", "weights")
    measuring = {
        f"evaluation of the {role.replace('_', ' ')} net": Cost(result.cost.get("seconds_in_all", 0.0))
        for role, result in results.items()
    }
    in_all = folder.manifest.get("stages", {}).get("evaluation", {}).get("seconds")
    if in_all is not None and results:  # what is left is of no single net
        rest = in_all - sum(cost.seconds for cost in measuring.values())
        untrained = ["the untrained net"] if plan.problem.task == "classification" else []
        relearning = ["relearning"] if plan.problem.training is not None else []
        measuring[" and ".join(relearning + untrained) or "comparison of the nets"] = Cost(max(rest, 0.0))
    report = Report(
        request={**{key: value for key, value in plan.record.items() if key not in left_out}, "output": folder.path.name},
        unlearned=unlearned,
        results=results,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=plan.describe_data(),
        costs={**models.costs, "unlearning": unlearned.cost, **measuring},
        manifest={**environment(), "created": folder.manifest.get("created", ""), "seeds": plan.record["seeds"]},
        notes=(*plan.notes, *models.notes),
    )
    return write_report(report, folder.path)
