"""What a request comes to, checked before any model is loaded: rows, plugs, models, settings."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from efface.adapters.base import Adapter
from efface.adapters.choice import AUTO, choose_adapter, make_adapter
from efface.adapters.edits import UNNAMED
from efface.data.overlap import drop_overlap, require_disjoint
from efface.data.readers import read_rows
from efface.data.schema import RowSet
from efface.data.stand_ins import STAND_INS, kind_of
from efface.errors import InputError, MissingNeed
from efface.evals import SuiteData
from efface.methods.needs import missing_needs
from efface.methods.presets import MethodSpec, expand
from efface.methods.refusals import refusal_pool
from efface.models.checks import require_trainable
from efface.models.loading import ModelInfo, check_model
from efface.models.memory import MemoryEstimate, available_memory, estimate_memory, require_memory, training_shape
from efface.models.processes import is_main
from efface.request import EMBEDDED_WORLDS, ForgetRequest
from efface.run.evaluation import TINY, suites_of, with_extra_sets
from efface.run.lineage import Lineage, keep_forgotten, read_lineage, require_continuable
from efface.run.progress import Progress, within
from efface.train.settings import StopSettings, TrainSettings
from efface.train.trackers import Trackers, check_trackers
from efface.train.unlearn import UnlearningJob
from efface.world import BuildState, Recipe, build_models
from efface.world.shapes import shape_for

__all__ = ["Plan", "make_job", "make_plan", "open_trackers", "prepare_models"]

DEFAULT_METHOD = "npo"
CHARACTERS_PER_TOKEN = 3
"""A cautious guess for the memory estimate, made before a tokenizer is loaded."""


@dataclass(frozen=True)
class Plan:
    """A request with everything that can be checked without weights.

    Attributes:
        request: The request as asked.
        data: Its sets, and the further sets its suites take.
        spec: The method as plugs, with the defaults for the model's size.
        info: What is known of the original model; None for the embedded one before it is built.
        recipe: Recipe of the embedded world, where it is used.
        is_fictional: Whether every person in the rows is invented.
        notes: Warnings a reader must see.
        lineage: The requests the model has been through before.
        own_retain: Rows to train on that are not those to evaluate on: the embedded world's retain people are measured whatever
            stands in for them.
    """

    request: ForgetRequest
    data: SuiteData
    spec: MethodSpec
    info: ModelInfo | None = None
    recipe: Recipe | None = None
    is_fictional: bool = False
    notes: tuple[str, ...] = ()
    lineage: Lineage = field(default_factory=Lineage)
    own_retain: RowSet | None = None

    @property
    def retain(self) -> RowSet | None:
        """Rows to keep while training."""
        return self.own_retain or self.data.retain

    @cached_property
    def record(self) -> dict[str, Any]:
        """The resolved request as plain types: plugs spelt out, sets by count and hash, no text of any row."""
        resolved = self.request.resolved()
        for name in ("forget", "retain", "holdout"):
            rows: RowSet | None = self.retain if name == "retain" else getattr(self.data, name)
            resolved[name] = None if rows is None else {"rows": len(rows), "sha256": rows.content_hash}
        kind = kind_of(self.request.retain)
        if kind is not None:
            texts = self.request.sampled_texts
            resolved["retain"] = {"kind": kind, **(resolved["retain"] if texts is None else {"texts": texts})}
        resolved["method"] = self.spec.resolved()
        resolved["training"] = _training(self).model_dump(mode="json", exclude={"report_to"})  # who is told changes nothing
        for name in ("forget_weight", "retention", "rule", "adapter", "unlearning"):
            resolved.pop(name, None)
        resolved["max_length"] = self.request.unlearning.max_length
        if self.request.unlearning.forget_subset is not None:
            resolved["forget_subset"] = self.request.unlearning.forget_subset.model_dump(mode="json")
        if self.recipe is not None:
            resolved["recipe"] = self.recipe.hash
        return resolved

    @property
    def hash(self) -> str:
        """SHA-256 of :attr:`record`."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def name(self) -> str:
        """The request's name, or one made from its hash."""
        return self.request.name or f"request-{self.hash[:8]}"

    def entities(self) -> dict[str, dict[str, int]]:
        """Return, per set, the number of each row's entity: what a paired comparison resamples, without saying who it is."""
        found: dict[str, dict[str, int]] = {}
        for name, rows in (*self.data.sets.items(), *_own_sets(self.data)):
            numbers = {entity: number for number, entity in enumerate(dict.fromkeys(row.entity for row in rows))}
            found[name] = {row.id: numbers[row.entity] for row in rows}
        return found

    def describe_data(self) -> dict[str, dict[str, Any]]:
        """Return rows, entities, source and hash of every set, for the report."""
        return {
            name: {
                "rows": len(rows),
                "entities": len({row.entity for row in rows}),
                "source": Path(rows.source).name,
                "sha256": rows.content_hash,
            }
            for name, rows in (*self.data.sets.items(), *_own_sets(self.data))
        }


def make_plan(request: ForgetRequest, *, trains: bool = True) -> Plan:
    """Check a request as a whole; nothing is trained and no weight is loaded.

    Args:
        request: What to do.
        trains: Whether the method will run; a plan that only measures asks neither for its needs nor for memory.

    Raises:
        InputError: When a file, row, name, setting, model or set is wrong.
        MissingNeed: When the method needs something that the request does not give.
    """
    is_embedded = request.model in EMBEDDED_WORLDS
    _expand(request, None)  # names and hyper-parameters first: the cheapest mistakes to find
    suites_of(request)
    recipe = _recipe(request) if is_embedded else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = _data(request, recipe)
        lineage = read_lineage(None if is_embedded else request.model)
        if trains:
            data = replace(data, retain=keep_forgotten(lineage, data.forget, data.retain, drops=request.drop_overlap))
    info = None
    if not is_embedded:
        for role in ("model", "retrained", "retrained_2"):
            place = getattr(request, role)
            if place is not None:
                checked = check_model(place)
                info = info or checked
                if role == "model" and trains:
                    require_trainable(checked)
    spec = _expand(request, TINY - 1 if info is None else info.num_parameters)
    data = replace(data, refusals=refusal_pool(getattr(spec.objective.config, "refusals", None)))
    is_fictional = is_embedded and request.forget is None
    own_retain = _own_retain(request, data) if is_fictional else None
    missing = missing_needs(
        spec,
        has_retain=data.retain is not None or request.sampled_texts is not None,
        has_holdout=data.holdout is not None,
        has_alternates=all(row.perturbed_answer for row in data.forget),
        has_questions=not any(row.is_text for row in data.forget),
        has_retain_questions=not any(row.is_text for row in own_retain or data.retain or ()),
    )
    if missing and trains:
        raise MissingNeed(" ".join(missing))
    if trains:
        check_trackers(request.unlearning.report_to or ())
    notes = [str(item.message) for item in caught if issubclass(item.category, UserWarning)]
    plan = Plan(request, data, spec, info, recipe, is_fictional, tuple(notes), lineage, own_retain)
    if not trains:
        return plan
    warning = spec.warning_for(_training(plan).learning_rate, None if info is None else info.num_parameters)
    plan = _with_notes(plan, [*spec.notes, *([warning] if warning else []), *_reference_notes(request), *_stand_in_notes(request)])
    if info is not None:
        _adapter(plan, info)
    return plan


def prepare_models(plan: Plan, progress: Progress | None = None) -> dict[str, str | Path]:
    """Return role -> model; the embedded world's are built, or taken from the cache, here."""
    request = plan.request
    if plan.recipe is None:
        named = {"original": request.model, "retrained": request.retrained, "retrained_2": request.retrained_2}
        return {role: place for role, place in named.items() if place is not None}
    built = build_models(plan.recipe, roles=("original", "retrained"), progress=_building(progress))
    return {"original": built.original, "retrained": built.retrained}


def _building(progress: Progress | None) -> Callable[[BuildState], None] | None:
    report = within(progress, "building the embedded world's models")
    return None if report is None else lambda state: report(round(100 * state.share), 100)


def make_job(plan: Plan, original: str | Path) -> UnlearningJob:
    """Return the training job on the original model.

    Raises:
        InputError: When the estimated memory does not fit the device.
    """
    info = plan.info or check_model(original)
    adapter, estimate = _adapter(plan, info)
    method = {**plan.spec.resolved(), "adapter": adapter.resolved(), "training": _training(plan).model_dump(mode="json")}
    return UnlearningJob(
        model=original,
        forget=plan.data.forget,
        objective=plan.spec.objective,
        rule=plan.spec.rule,
        adapter=adapter,
        settings=_training(plan),
        method={**method, "estimated_peak_bytes": estimate.total},
        intention=adapter.intention or plan.spec.intention,
        retention=plan.spec.retention,
        retain=plan.retain,
        holdout=plan.data.holdout,
        forget_weight=plan.spec.forget_weight,
        retain_weight=plan.spec.retain_weight,
        template=plan.request.template,
        max_length=plan.request.unlearning.max_length,
        dtype=plan.request.unlearning.dtype or ("float32" if adapter.trains_weights else str(info.dtype).removeprefix("torch.")),
        seed=plan.request.seeds.unlearning,
        notes=(),
        weights=plan.spec.weights,
        sampled_texts=plan.request.sampled_texts,
        subset=plan.request.unlearning.forget_subset,
        lineage=tuple(
            plan.lineage.extended(
                original,
                plan.data.forget,
                name=plan.name,
                request=plan.hash,
                method=plan.spec.name,
                intention=str(plan.spec.intention),
                seed=plan.request.seeds.unlearning,
                **({"module": adapter.resolved()["module"]} if "module" in adapter.resolved() else {}),
            )
        ),
    )


@contextmanager
def open_trackers(plan: Plan, folder: Path) -> Iterator[Trackers | None]:
    """Give the trackers the request names, in the main process, and end their runs when the block does."""
    names = plan.request.unlearning.report_to
    if not names or not is_main():
        yield None
        return
    trackers = Trackers(names, folder, run_name=plan.name)
    try:
        yield trackers
    finally:
        trackers.close()


def _recipe(request: ForgetRequest) -> Recipe:
    world = str(request.model)
    make = Recipe.mini if world.endswith("mini") else Recipe.default
    return make(seed=request.seeds.training, data_seed=request.seeds.data, contacts="contacts" in world)


def _expand(request: ForgetRequest, parameters: int | None) -> MethodSpec:
    method = {"name": DEFAULT_METHOD} if request.method is None else request.method.model_dump()
    return expand(
        method,
        retention=None if request.retention is None else request.retention.model_dump(),
        rule=None if request.rule is None else request.rule.model_dump(),
        adapter=request.adapter.model_dump(),
        forget_weight=request.forget_weight,
        parameters=parameters,
    )


def _data(request: ForgetRequest, recipe: Recipe | None) -> SuiteData:
    if recipe is None:
        rows = request.data()
        return with_extra_sets(SuiteData(rows.forget, rows.retain, rows.holdout, refusals=refusal_pool()), request)
    world = recipe.load_world()
    shapes = {name: shape for name in _suite_names(request) if (shape := shape_for(name, world)) is not None}
    extra = {name: rows for name, rows in world.sets.items() if name not in ("forget", "retain", "holdout")}
    own = {name: shape.sets for name, shape in shapes.items()}
    sets = SuiteData(world.forget, world.retain, world.holdout, extra=extra, refusals=refusal_pool(), own=own)
    for shape in shapes.values() if request.forget is None else ():
        sets = replace(
            sets,
            forget=shape.forget or sets.forget,
            retain=shape.retain or sets.retain,
            holdout=shape.holdout or sets.holdout,
        )
        if shape.note:
            warnings.warn(shape.note, stacklevel=2)
    if request.forget is not None:
        rows = request.data()
        sets = replace(sets, forget=rows.forget, retain=rows.retain or sets.retain, holdout=rows.holdout or sets.holdout)
    return with_extra_sets(sets, request)


def _suite_names(request: ForgetRequest) -> list[str]:
    return [] if isinstance(request.evaluate, str) else [choice.suite for choice in request.evaluate]


def _own_sets(data: SuiteData) -> Iterator[tuple[str, RowSet]]:
    """Yield the sets that one suite alone sees, as ``SUITE.KEY``."""
    for suite, sets in data.own.items():
        yield from ((f"{suite}.{key}", rows) for key, rows in sets.items())


def _own_retain(request: ForgetRequest, data: SuiteData) -> RowSet | None:
    """Return the rows a request on the embedded world names to keep in place of the world's own; None where it names none."""
    if request.retain is None or request.sampled_texts is not None:
        return None
    rows = read_rows(request.retain)
    if request.drop_overlap:
        rows = drop_overlap(data.forget, rows)
    require_disjoint(data.forget, rows)
    return rows


def _training(plan: Plan) -> TrainSettings:
    """Return the training settings: the method's defaults for this size, and what the request sets on top."""
    given = plan.request.unlearning.given()
    own = {key: value for key, value in given.items() if key not in ("max_length", "dtype", "stop", "forget_subset")}
    defaults = plan.spec.training.as_dict()
    stop = StopSettings(**({"forget_nll": defaults.pop("stop")} | given.get("stop", {})))
    return TrainSettings(**{**defaults, "threads": _threads(plan), **own, "stop": stop, "seed": plan.request.seeds.unlearning})


def _threads(plan: Plan) -> int | None:
    is_tiny = plan.info is None or plan.info.num_parameters < TINY
    return 1 if is_tiny else None


def _adapter(plan: Plan, info: ModelInfo) -> tuple[Adapter, MemoryEstimate]:
    """Decide what is trained and refuse what does not fit into memory."""
    available = available_memory()
    asked = plan.spec.adapter
    if asked == AUTO and info.is_adapter and plan.spec.name == "whos_harry_potter":
        asked = "full"
    if asked == AUTO:
        asked = choose_adapter(estimate_memory(_shape(plan, info, make_adapter("full"))).total, available)
    adapter = make_adapter(asked)
    if plan.spec.weights is not None and not adapter.trains_weights:
        raise InputError(
            f"{plan.spec.name} cannot work through the adapter {adapter.name}. It turns around a change of the weights, full or "
            "lora. Set adapter to one of these, or leave it out."
        )
    require_continuable(plan.spec.name, adapter, info)
    if getattr(adapter.config, "module", None) == UNNAMED:
        adapter = make_adapter({**adapter.resolved(), "module": plan.name})
    return adapter, require_memory(_shape(plan, info, adapter), available, info=info)


def _shape(plan: Plan, info: ModelInfo, adapter: Adapter) -> Any:
    settings = _training(plan)
    rows = settings.micro_batch_size or settings.effective_batch(len(plan.data.forget))
    longest = max(len(f"{row.question or ''}{row.answer or ''}{row.text or ''}") for row in plan.data.forget)
    length = longest // CHARACTERS_PER_TOKEN + 16
    limit = plan.request.unlearning.max_length or info.max_positions
    return training_shape(
        info,
        adapter=adapter.name,
        trained_parameters=adapter.count_parameters(info),
        graph_layers=adapter.count_graph_layers(info),
        batch_rows=rows * (2 if plan.spec.retention is not None else 1),
        length=min(length, limit) if limit else length,
        checkpoints_activations=settings.gradient_checkpointing,
        copies_weights=plan.spec.weights is not None and plan.spec.weights.copies_weights,
    )


def _reference_notes(request: ForgetRequest) -> list[str]:
    if request.retrained is None and request.model not in EMBEDDED_WORLDS:
        return ["No retrained model was given: what is defined against one is not available, and no verdict can say removed."]
    return []


def _stand_in_notes(request: ForgetRequest) -> list[str]:
    return [f"No rows to keep were given. {each.protects}" for each in STAND_INS if each.kind == kind_of(request.retain)]


def _with_notes(plan: Plan, notes: list[str]) -> Plan:
    return replace(plan, notes=tuple(dict.fromkeys((*plan.notes, *notes))))
