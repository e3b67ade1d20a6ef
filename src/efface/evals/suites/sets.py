"""Which figures each set gets, and how they are made of measured rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from efface.data.items import ScoreItem, TokenRow
from efface.evals.measure import Measured
from efface.evals.metrics.answers import chance_level, rouge_scores
from efface.evals.metrics.base import Definition, OptionMetric, TextMetric, TokenMetric, Truth, Variant
from efface.evals.metrics.membership import MIN_K
from efface.evals.metrics.tokens import Probability
from efface.evals.suites.data import AS_IT_IS, Asking, Part, SetView, SuiteData
from efface.evals.summary import not_available, summarise
from efface.registry import METRICS
from efface.results import Aim, Metric

__all__ = ["EVERYTHING", "HOLDOUT", "OPTIONS", "STANDARD", "Context", "SetSpec", "own_metrics", "set_metrics", "spec_of"]

Floats = list[float | None]


@dataclass(frozen=True)
class Context:
    """What a computation knows beside the rows.

    Attributes:
        data: All sets.
        views: The sets as items, by key.
        measured: What the model said.
        variant: Which definitions to follow.
        seed: Seed of the bootstraps.
        min_k: Share of the min-k attacks.
    """

    data: SuiteData
    views: dict[str, SetView]
    measured: Measured
    variant: Variant
    seed: int
    min_k: float = MIN_K


@dataclass(frozen=True, slots=True)
class SetSpec:
    """What is measured of a set.

    Attributes:
        parts: Items that are asked of the model.
        metrics: Figures, in the order shown.
        role: Whether the set is judged like the forget set, the holdout set, or like what must not change.
        wanted: Aims that differ from the rule of ``role``.
        asking: How the rows are put to the model.
        named: Figures with a full name of their own, as (metric, name); the others are called ``<set>_<metric>``.
        is_required: Whether the figures are listed as not available when the set is missing; else they are left out.
        is_open: Whether registered metrics of other packages are measured here as well.
    """

    parts: tuple[Part, ...]
    metrics: tuple[str, ...]
    role: Literal["forget", "holdout", "kept"] = "kept"
    wanted: tuple[tuple[str, Aim], ...] = ()
    asking: Asking = AS_IT_IS
    named: tuple[tuple[str, str], ...] = ()
    is_required: bool = False
    is_open: bool = False

    def figure(self, key: str, metric: str) -> str:
        """Return the full name of a metric on the set called ``key``."""
        return dict(self.named).get(metric, f"{key}_{metric}")

    @property
    def required(self) -> SetSpec:
        """The same, listed as not available when the set is missing."""
        return replace(self, is_required=True)

    def aim(self, metric: str, definition: type[Definition]) -> Aim:
        """Return which way is better for a metric on this set."""
        for name, aim in self.wanted:
            if name == metric:
                return aim
        if self.role == "holdout":
            return "reference"
        return definition.aim if self.role == "forget" else definition.aim_elsewhere


_RATIOS = ("truth_ratio", "truth_ratio_knowledge", "log_truth_ratio")
_WRITTEN = ("rouge", "paraphrased_rouge", "fact_accuracy", "refusal_rate", "word_entropy")
_FORMS = ("paraphrased_probability", "perturbed_probability", "paraphrased_question_probability")
_OPTIONS = ("probability_w_options", "perturbed_probability", "truth_ratio")

EVERYTHING = SetSpec(
    ("answers", "paraphrased", "perturbed", "paraphrased_questions", "generations"),
    ("nll", "probability", *_FORMS, *_RATIOS, "extraction_strength", "exact_memorization", *_WRITTEN),
    is_open=True,
)
"""Every item-level figure the rows allow."""
OPTIONS = SetSpec(
    ("answers", "perturbed", "generations"), ("nll", "probability", *_OPTIONS, "rouge", "fact_accuracy", "refusal_rate")
)
"""Rows with wrong answers, of which nothing is to change."""
HOLDOUT = SetSpec(("answers", "generations"), ("nll", "probability", "fact_accuracy", "refusal_rate"), "holdout")
STANDARD: Mapping[str, SetSpec] = {
    "forget": replace(EVERYTHING, role="forget"),
    "retain": EVERYTHING,
    "holdout": HOLDOUT,
    "real_authors": OPTIONS,
    "world_facts": OPTIONS,
    "refusals": SetSpec(("generations",), ("refusal_rate",), wanted=(("refusal_rate", "higher"),)),
    "context": SetSpec(("generations",), ("fact_accuracy", "refusal_rate")),
}
"""The sets that have a meaning of their own in most suites."""
_WORDING = SetSpec(("generations",), ("fact_accuracy", "rouge", "refusal_rate"))
_PASSAGE = SetSpec(("answers", "generations"), ("nll", "rouge", "extraction_strength", "exact_memorization"))
_OTHER = SetSpec(("answers", "generations"), ("nll", "probability", "rouge", "fact_accuracy", "refusal_rate"))


def spec_of(key: str) -> SetSpec:
    """Return what is measured of the set called ``key`` by its name; an unknown one gets the figures any row allows."""
    if key in STANDARD:
        return STANDARD[key]
    found = _OTHER
    if key.startswith(("unseen_frames", "rewordings")):
        found = _WORDING
    elif key.startswith("passages"):
        found = _PASSAGE
    if key.endswith("_forget"):
        return replace(found, role="forget")
    return replace(found, role="holdout") if key.endswith("_holdout") else found


def own_metrics() -> list[str]:
    """Return registered item-level metrics of other packages, which are measured on the forget and the retain set."""
    return [
        name
        for name in METRICS.names()
        if issubclass(definition := METRICS.get(name), TokenMetric | OptionMetric | TextMetric)
        and not definition.__module__.startswith("efface.")
    ]


def set_metrics(key: str, spec: SetSpec, context: Context) -> dict[str, Metric]:
    """Compute every figure of one set, named ``<set>_<metric>``; what a missing set would have given is not available."""
    if key not in context.views:
        return {
            spec.figure(key, name): not_available(
                spec.figure(key, name), spec.aim(name, _definition(name, spec)), context.variant, f"no {key} set was given"
            )
            for name in spec.metrics
        }
    names = [*spec.metrics, *(own_metrics() if spec.is_open else ())]
    return {spec.figure(key, name): _one(key, name, spec, context) for name in names}


def _definition(name: str, spec: SetSpec) -> type[Definition]:
    """Return the registered metric behind a figure of a set."""
    if name in _SPECIAL:
        name = "rouge" if name == "paraphrased_rouge" else "probability"
    registered = "truth_preference" if name == "truth_ratio" and spec.role != "forget" else name
    found: type[Definition] = METRICS.get(registered)
    return found


def _one(key: str, name: str, spec: SetSpec, context: Context) -> Metric:
    maker = _SPECIAL.get(name)
    if maker is not None:
        return maker(key, name, spec, context)
    definition = _definition(name, spec)
    if issubclass(definition, TextMetric):
        return _text_metric(key, name, definition, spec, context)
    if context.measured.not_scored:
        return not_available(spec.figure(key, name), spec.aim(name, definition), context.variant, context.measured.not_scored)
    if issubclass(definition, OptionMetric):
        return _option_metric(key, name, definition, spec, context)
    if not issubclass(definition, TokenMetric):
        raise TypeError(f"{name} is no figure of single rows. A set lists token, option and text metrics. Put it into aggregate().")
    return _token_metric(key, name, definition, context.views[key].answers, spec, context)


def _token_metric(
    key: str,
    name: str,
    definition: type[TokenMetric],
    items: Sequence[ScoreItem | None],
    spec: SetSpec,
    context: Context,
    missing: str = "",
) -> Metric:
    values: Floats = [
        None if item is None else definition.item(context.measured.row(item), variant=context.variant) for item in items
    ]
    aim = spec.aim(definition.name, definition)
    return _summary(spec.figure(key, name), key, values, aim, context, missing or "no answer token")


def _option_metric(key: str, name: str, definition: type[OptionMetric], spec: SetSpec, context: Context) -> Metric:
    view, measured = context.views[key], context.measured
    against_options = name == "probability_w_options"
    values: Floats = []
    used: list[str] = []
    for answer, paraphrase, wrong in zip(view.answers, _paraphrases(spec, view, against_options), view.perturbed, strict=True):
        if not wrong:
            values.append(None)
            continue
        correct = answer if paraphrase is None else paraphrase
        used += [correct.hash, *(item.hash for item in wrong)]
        values.append(definition.item(measured.row(correct), [measured.row(item) for item in wrong], variant=context.variant))
    metric = _summary(
        spec.figure(key, name),
        key,
        values,
        spec.aim(name, definition),
        context,
        "no wrong answers (perturbed_answer) in the row",
        # Comparing models on other questions or answers would mean nothing: what was scored is part of the result.
        {"items_sha256": hashlib.sha256("\n".join(used).encode()).hexdigest()} if used else {},
    )
    return _as_median(metric) if name == "log_truth_ratio" else metric


def _paraphrases(spec: SetSpec, view: SetView, against_options: bool) -> Sequence[ScoreItem | None]:
    if against_options or "paraphrased" not in spec.parts:
        return [None] * len(view.rows)
    return view.paraphrased


def _as_median(metric: Metric) -> Metric:
    if metric.value is None:
        return metric
    median = float(np.median([value for value in metric.per_item if value is not None]))
    return Metric(
        metric.name,
        median,
        metric.aim,
        metric.variant,
        n=metric.n,
        n_skipped=metric.n_skipped,
        reason=metric.reason,
        details=metric.details,
        per_item=metric.per_item,
        item_ids=metric.item_ids,
    )


def _text_metric(key: str, name: str, definition: type[TextMetric], spec: SetSpec, context: Context) -> Metric:
    view, measured = context.views[key], context.measured
    pool = context.data.refusal_pool
    values: Floats = []
    for index, row in enumerate(view.rows):
        truth = Truth(view.reference(row, index, measured, context.variant), row.value, row.value_aliases, pool)
        values.append(definition.item(measured.text(view.generations[index]), truth, variant=context.variant))
    details: dict[str, float | str | None] = {}
    missing = ""
    if name == "rouge":
        details = _rouge_details(view, context)
        missing = "nothing to compare with"
    elif name == "fact_accuracy":
        retained = context.data.retain.rows if context.data.retain is not None else ()
        chance = chance_level(view.rows, retained)
        missing = "no value in the row"
        if chance is not None:
            details = {"chance": chance.level, "chance_basis": chance.basis}
    return _summary(spec.figure(key, name), key, values, spec.aim(name, definition), context, missing, details)


def _rouge_details(view: SetView, context: Context) -> dict[str, float | str | None]:
    found = [
        rouge_scores(
            context.measured.text(item), view.reference(row, index, context.measured, context.variant), variant=context.variant
        )
        for index, (row, item) in enumerate(zip(view.rows, view.generations, strict=True))
    ]
    scores = [entry for entry in found if entry is not None]
    if not scores:
        return {}
    return {name: float(np.mean([getattr(entry, name) for entry in scores])) for name in ("rougeL_f1", "rouge1_recall")}


def _form_probability(part: Literal["paraphrased", "paraphrased_questions"], missing: str) -> Callable[..., Metric]:
    def make(key: str, name: str, spec: SetSpec, context: Context) -> Metric:
        if context.measured.not_scored:
            aim = spec.aim("probability", Probability)
            return not_available(spec.figure(key, name), aim, context.variant, context.measured.not_scored)
        return _token_metric(key, name, Probability, getattr(context.views[key], part), spec, context, missing)

    return make


def _perturbed_probability(key: str, name: str, spec: SetSpec, context: Context) -> Metric:
    aim: Aim = "reference"
    if context.measured.not_scored:
        return not_available(spec.figure(key, name), aim, context.variant, context.measured.not_scored)

    def mean(rows: Sequence[TokenRow]) -> float | None:
        found = [Probability.item(row, variant=context.variant) for row in rows]
        valid = [value for value in found if value is not None]
        return float(np.mean(valid)) if valid else None

    values = [mean([context.measured.row(item) for item in items]) for items in context.views[key].perturbed]
    return _summary(spec.figure(key, name), key, values, aim, context, "no wrong answers (perturbed_answer) in the row")


def _paraphrased_rouge(key: str, name: str, spec: SetSpec, context: Context) -> Metric:
    view = context.views[key]
    values: Floats = []
    for row, item in zip(view.rows, view.generations, strict=True):
        scores = None
        if row.paraphrased_answer:
            scores = rouge_scores(context.measured.text(item), row.paraphrased_answer, variant=context.variant)
        values.append(None if scores is None else scores.rougeL_recall)
    aim = spec.aim("rouge", METRICS.get("rouge"))
    return _summary(spec.figure(key, name), key, values, aim, context, "no paraphrased_answer in the row")


_SPECIAL: dict[str, Callable[..., Metric]] = {
    "paraphrased_probability": _form_probability("paraphrased", "no paraphrased_answer in the row"),
    "paraphrased_question_probability": _form_probability("paraphrased_questions", "no paraphrased_question in the row"),
    "perturbed_probability": _perturbed_probability,
    "paraphrased_rouge": _paraphrased_rouge,
}


def _summary(
    figure: str,
    key: str,
    values: Floats,
    aim: Aim,
    context: Context,
    missing: str,
    details: dict[str, float | str | None] | None = None,
) -> Metric:
    return summarise(
        figure,
        values,
        context.views[key].rows,
        aim=aim,
        variant=context.variant,
        seed=context.seed,
        details=details,
        missing=missing,
    )
