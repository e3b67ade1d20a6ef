"""The verbs of the Python face: thin calls into the stages of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.evals.aggregate import aggregate_metrics
from efface.evals.metrics.base import Variant
from efface.models.endpoint import WrittenElsewhere
from efface.models.language_model import LocalModel, load_language_model
from efface.models.loading import check_model, save_model
from efface.models.processes import is_main, share
from efface.models.protocol import LanguageModel
from efface.places import require_replaceable
from efface.request import EMBEDDED_WORLDS, LANGUAGE_MODEL, ForgetRequest, SuiteChoice
from efface.results import Results, Unlearned
from efface.run.evaluation import measure_suites, side_by_side
from efface.run.plan import Plan, make_job, make_plan, open_trackers, prepare_models
from efface.run.progress import Progress, within
from efface.run.references import is_results_file, read_results
from efface.train.language_model import cpu_threads
from efface.train.unlearn import run_job

__all__ = ["changed", "evaluate", "load", "unlearn"]

Plugged = str | Mapping[str, Any] | Any
"""A plug by name, as ``{"name": ..., **settings}``, or as an object."""


def unlearn(
    model: str | Path | LocalModel | None = None,
    request: ForgetRequest | None = None,
    *,
    method: Plugged = None,
    retention: Plugged = None,
    rule: Plugged = None,
    adapter: Plugged = None,
    seed: int | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
    task: str | None = None,
    forget: Any = None,
    retain: Any = None,
    validation: Any = None,
    target: str | None = None,
    make_model: Callable[[int], Any] | None = None,
    training: Any = None,
    loss: Any = None,
    head: str | None = None,
    activations: tuple[str, ...] | None = None,
    inplace: bool = False,
    allow_code: bool = False,
) -> Unlearned:
    """Make a model forget; several processes (``accelerate launch``) train together and return the same record.

    A language model is given with a request. An ordinary net (any ``torch.nn.Module``) is given with its ``task`` and its rows, or
    by a request that names a task and a problem; the arguments from ``task`` on are for nets.

    Args:
        model: Directory, hub id, "embedded", or a loaded model; None takes the request's. Or a net, which is not changed.
        request: What must go and what must stay. Arguments given here win over its fields.
        method: A preset or an objective, by name or as an object ("npo", ``NPO(beta=0.2)``).
        retention: The term that protects the rest.
        rule: How the two losses become one update.
        adapter: What is trained: "auto", "full", "lora".
        seed: Unlearning seed.
        output: Directory for the model, new, empty or one of efface's; None makes a temporary one (``Unlearned.save`` copies it).
        progress: Told of (stage, done, in all).
        task: What a net does: "classification", "regression" or "forecasting".
        forget: Rows that must go: a data set of ``(x, y)``, a pair of tensors or arrays, or a data frame.
        retain: Rows to keep, likewise.
        validation: Rows the net never learned from, for methods that choose by them.
        target: Column of the data frames that is the target.
        make_model: Seed -> freshly initialised net, for methods that train a second one; None draws the net's modules anew.
        training: ``NetTraining(...)``, how the net was trained, for methods that repeat it.
        loss: "cross_entropy", "l1", "mse", "quantile" or a function ``(outputs, y) -> loss per row``; None: the task's.
        head: Name of the net's head, for methods that split it; None: its last linear layer.
        activations: Names of the modules whose activations Blindspot compares; None: the nonlinearities.
        inplace: Whether the net that was given gets the new weights.
        allow_code: Whether the problem file that a request names may be run.

    Returns:
        The model on disk, the forget/retain path, why training ended and what it cost.

    Raises:
        InputError: When the request, the method or the model is wrong; raised before any model is loaded.
    """
    if task is not None or forget is not None:
        from efface.run.nets import NetInput, unlearn_net

        _refuse({"request": request, "retention": retention, "rule": rule, "adapter": adapter}, "a net given with its rows")
        given = NetInput(model, forget, retain, task, validation, target, make_model, training, loss, head, activations, inplace)
        return unlearn_net(given, method=method, seed=0 if seed is None else seed, output=output, progress=progress)
    changes = {"model": _place(model), "method": method, "retention": retention, "rule": rule, "adapter": adapter}
    asked = changed(request, {key: value for key, value in changes.items() if value is not None})
    if seed is not None:
        asked = changed(asked, {"seeds": {**asked.seeds.model_dump(), "unlearning": seed}})
    if asked.task != LANGUAGE_MODEL:
        from efface.run.nets import unlearn_request

        return unlearn_request(asked, output=output, allow_code=allow_code, progress=progress)
    return _unlearn_language_model(asked, output, progress)


def _unlearn_language_model(asked: ForgetRequest, output: str | Path | None, progress: Progress | None) -> Unlearned:
    if output is not None:
        require_replaceable(output)
    plan = make_plan(asked)
    models = share(lambda: prepare_models(plan, progress))
    directory = Path(output) if output is not None else Path(tempfile.mkdtemp(prefix="efface-unlearned-")) / "model"
    job = make_job(plan, models["original"])
    with cpu_threads(job.settings.threads), open_trackers(plan, directory.with_name(f"{directory.name}-logs")) as trackers:
        job = replace(job, trackers=trackers)
        made = run_job(job, directory, progress=within(progress, "unlearning") if is_main() else None)
    return replace(made, load=load_language_model)


def evaluate(
    model: str | Path | LanguageModel | Unlearned | None = None,
    *,
    suite: str = "auto",
    request: ForgetRequest | None = None,
    against: str | Path | LanguageModel | Results | None = None,
    original: str | Path | LanguageModel | Results | None = None,
    writer: LanguageModel | None = None,
    role: str = "unlearned",
    variant: Variant = "strict",
    progress: Progress | None = None,
    problem: Any = None,
    allow_code: bool = False,
) -> Results:
    """Measure a model on a request's rows, or a net on a problem's.

    Several processes (``accelerate launch``) share a language model's rows and return the same figures.

    Args:
        model: What to measure: a directory, a hub id, or anything that speaks the two verbs, such as an endpoint
            (:func:`efface.models.endpoint.open_endpoint`); None takes the request's original model.
        suite: "auto" (what the rows allow) or the name of a suite; a request's own choice of suites wins over "auto".
        request: Where the rows come from.
        against: The retrained model or its results, for what is defined relative to it; None takes the request's ``retrained``.
            A JSON file is read as results: ours, or a log of OpenUnlearning made on the same rows.
        original: The original model or its results, for the aggregate score; without it that is not available.
        writer: What writes the texts in the model's place, such as an endpoint that serves it; the model itself then only scores.
        role: Label of the model in tables.
        variant: "strict", "openunlearning" or "original".
        progress: Told of (stage, done, in all).
        problem: For a net: a ``Problem`` or the name of one, where no request names it.
        allow_code: Whether a problem file may be run.

    Returns:
        Figures with intervals; ``print(results)`` shows a table.
    """
    if problem is not None or (request is not None and request.task != LANGUAGE_MODEL):
        from efface.run.nets import evaluate_net

        odd = {"suite": None if suite in ("auto", "nets") else suite, "variant": None if variant == "strict" else variant}
        _refuse({**odd, "original": original, "writer": writer}, "a net")
        return evaluate_net(model, problem, request=request, against=against, role=role, allow_code=allow_code, progress=progress)
    if request is None:
        raise InputError("No request was given. It names the rows to measure on. Pass request=, or problem= for a net.")
    asked = request if suite == "auto" else changed(request, {"evaluate": (SuiteChoice(suite=suite),)})
    plan = make_plan(asked, trains=False)
    progress = progress if is_main() else None
    roles = share(lambda: prepare_models(plan, progress))
    measured = _resolve(model, roles, "original")
    if measured is None:
        raise InputError("There is no model to measure. Give one, or a request that names it. Pass model=... .")
    pass_over = _Measuring(plan, variant, progress)
    compared = pass_over.results(_resolve(against, roles, "retrained"), "retrained")
    before = None if original is None else pass_over.results(_resolve(original, roles, "original"), "original", compared)
    asked_of = _loaded(measured, plan)
    asked_of = asked_of if writer is None else WrittenElsewhere(asked_of, writer)
    found = side_by_side(pass_over.measured(asked_of, role, compared))
    first = side_by_side(before) if before else None
    last = side_by_side(compared) if compared else None
    return replace(found, metrics={**found.metrics, **aggregate_metrics(found, original=first, retrained=last)})


def _refuse(given: Mapping[str, Any], what: str) -> None:
    """Refuse arguments of language models that would say nothing of a net."""
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise InputError(
            f"{', '.join(named)} cannot be given for {what}. These belong to language models, and a net would not heed them. Leave "
            "them out."
        )


@dataclass(frozen=True)
class _Measuring:
    """How every model of one call is measured."""

    plan: Plan
    variant: Variant
    progress: Progress | None

    def results(self, place: Any, role: str, against: Mapping[str, Results] | None = None) -> dict[str, Results]:
        """Return a model's results by suite, measured where they are not given; {} where there is no model."""
        if place is None:
            return {}
        if is_results_file(place):
            place = read_results(place, data=self.plan.data, variant=self.variant, role=role)
        return {place.suite: place} if isinstance(place, Results) else self.measured(place, role, against)

    def measured(self, model: Any, role: str, against: Mapping[str, Results] | None) -> dict[str, Results]:
        return measure_suites(
            _loaded(model, self.plan),
            self.plan.request,
            self.plan.data,
            role=role,
            against=against,
            variant=self.variant,
            progress=self.progress,
        )


def load(path: str | Path) -> LocalModel:
    """Load a model directory or hub id as a model that generates and scores."""
    return load_language_model(path)


def _resolve(model: Any, roles: Mapping[str, str | Path], default: str) -> Any:
    if model is None or (isinstance(model, str) and model in EMBEDDED_WORLDS):
        return roles.get(default)
    if isinstance(model, str) and model in roles:
        return roles[model]
    return model.path if isinstance(model, Unlearned) else model


def _loaded(model: Any, plan: Plan) -> LanguageModel:
    return model if isinstance(model, LanguageModel) else load_language_model(model, template=plan.request.template)


def changed(request: ForgetRequest | None, changes: Mapping[str, Any]) -> ForgetRequest:
    """Return the request with some fields replaced, checked again as a whole."""
    fields = {} if request is None else {name: getattr(request, name) for name in request.model_fields_set}
    return ForgetRequest(**{**fields, **changes})


def _place(model: str | Path | LocalModel | None) -> str | None:
    """Return where a model lies; a loaded one is written to a temporary directory first, as it is."""
    if model is None or isinstance(model, (str, Path)):
        return None if model is None else str(model)
    if not isinstance(model, LocalModel):
        raise InputError(
            f"The model is a {type(model).__name__}. A language model is a directory, a hub id or what efface.load gives; an "
            "ordinary net is given with its rows. For a net pass task=, forget= and retain= as well."
        )
    directory = Path(tempfile.mkdtemp(prefix="efface-original-")) / "model"
    kind = next(model.model.parameters()).dtype
    save_model(model.model, model.tokenizer, directory, dtype=kind, metadata={"template": model.template.record()})
    check_model(directory)
    return str(directory)
