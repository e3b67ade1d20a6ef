"""The verb: one measuring pass over the items of all suites, then every metric."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.errors import InputError
from efface.evals.gradients import with_gradient_norms
from efface.evals.measure import Measured, measure
from efface.evals.metrics.base import ALL_VARIANTS, Variant
from efface.evals.notes import row_notes
from efface.evals.suites.base import Plan, Suite, make_suite
from efface.evals.suites.data import SuiteData
from efface.results import Metric, Results

if TYPE_CHECKING:
    from efface.models.protocol import LanguageModel, Progress

__all__ = ["evaluate", "evaluate_all"]

_LOG = logging.getLogger(__name__)


def evaluate(
    model: LanguageModel,
    *,
    data: SuiteData,
    suite: str | Suite = "auto",
    against: Results | None = None,
    role: str = "unlearned",
    seed: int = 0,
    variant: Variant = "strict",
    max_new_tokens: int | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Results:
    """Measure a model and return every figure of a suite with its interval.

    Args:
        model: Anything that speaks the two verbs; one that cannot score gets the figures of its texts only.
        data: The sets.
        suite: Name of a registered suite, or one of your own.
        against: Results of the retrained model on the same data, for forget quality, privacy leakage and the reference attack.
        role: What the model is called in the results.
        seed: Seed of the bootstraps.
        variant: Which published definitions to follow. A local model is then also encoded as that code does.
        max_new_tokens: Longest generated answer; None takes the suite's.
        cache: Folder in which measured rows are kept; what is there is not measured again.
        progress: Called with (items done, items to do).

    Raises:
        InputError: When a set is empty, the variant or suite unknown, or ``against`` was made with other rows.
    """
    found = evaluate_all(
        model,
        suites=[suite],
        data=data,
        against=None if against is None else {against.suite: against},
        role=role,
        seed=seed,
        variant=variant,
        max_new_tokens=max_new_tokens,
        cache=cache,
        progress=progress,
    )
    return next(iter(found.values()))


def evaluate_all(
    model: LanguageModel,
    *,
    suites: Sequence[str | Suite],
    data: SuiteData,
    against: dict[str, Results] | None = None,
    role: str = "unlearned",
    seed: int = 0,
    variant: Variant = "strict",
    max_new_tokens: int | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Results]:
    """Measure a model once for several suites; arguments as in :func:`evaluate`, results by suite name.

    A suite is given what ``data`` holds for all, and what it holds for this suite alone.
    """
    if variant not in ALL_VARIANTS:
        raise InputError(f"There is no variant {variant!r}. Known: {', '.join(ALL_VARIANTS)}. Choose one of them.")
    chosen = [make_suite(suite) for suite in suites]
    plans = [suite.plan(data.of(suite.name), max_new_tokens=max_new_tokens) for suite in chosen]
    found = {}
    for encoding, group in _by_encoding(chosen, plans, variant).items():
        encoded = _encoded_as(model, *encoding)
        measured = measure(
            encoded,
            (item for _, plan in group for item in plan.score_items()),
            (item for _, plan in group for item in plan.generate_items()),
            cache=cache,
            progress=progress,
        )
        for _, plan in group:
            items = list(plan.gradient_items())
            measured = with_gradient_norms(measured, encoded, items, p=plan.gradient_p, cache=cache, progress=progress)
        for suite, plan in group:
            reference = (against or {}).get(suite.name) or next(iter((against or {}).values()), None)
            found[suite.name] = _results(suite, plan, measured, variant=variant, seed=seed, against=reference, role=role)
    return {suite.name: found[suite.name] for suite in chosen}


def _by_encoding(
    suites: Sequence[Suite], plans: Sequence[Plan], variant: Variant
) -> dict[tuple[Variant, int | None], list[tuple[Suite, Plan]]]:
    """Gather the suites whose tokens are made alike: they share one measuring pass."""
    groups: dict[tuple[Variant, int | None], list[tuple[Suite, Plan]]] = {}
    for suite, plan in zip(suites, plans, strict=True):
        groups.setdefault(suite.encodings.get(variant, (variant, None)), []).append((suite, plan))
    return groups


def _encoded_as(model: Any, variant: Variant, max_length: int | None) -> Any:
    """Return the model with the variant's way of making tokens, where it has one (remote and guarded models have not)."""
    switch = getattr(model, "with_variant", None)
    if switch is None or (variant == getattr(model, "variant", "strict") and max_length is None):
        return model
    return switch(variant, max_length=max_length) if max_length is not None else switch(variant)


def _results(
    suite: Suite, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None, role: str
) -> Results:
    started = time.perf_counter()
    metrics = suite.compute(plan, measured, variant=variant, seed=seed, against=against)
    cost = measured.counts.as_dict() | {"seconds_metrics": time.perf_counter() - started}
    return Results(
        role=role,
        suite=suite.name,
        metrics=metrics,
        fingerprint=measured.fingerprint,
        examples=suite.examples(plan, measured),
        cost=cost,
        notes=(*_notes(suite, metrics, plan, variant), *suite.notes(plan, measured), *row_notes(plan.views, measured, variant)),
    )


def _notes(suite: Suite, metrics: dict[str, Metric], plan: Plan, variant: Variant) -> tuple[str, ...]:
    notes = [f"Definitions: {variant}."]
    missing = [key for key in ("retain", "holdout") if key in suite.sets and key not in plan.views]
    if missing:
        notes.append(f"Not given: {' and '.join(missing)} set; its figures are left out.")
    by_reason: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        if metric.value is None:
            by_reason.setdefault(metric.reason, []).append(name)
    notes += [f"Not available: {', '.join(names)} ({reason})." for reason, names in by_reason.items()]
    if all(row.entity == row.id for row in plan.data.forget):
        notes.append("The forget rows name no entities: intervals resample rows and are too narrow if rows depend on each other.")
    few = len({row.entity for row in plan.data.forget})
    if few < 10:
        notes.append(f"n entities = {few} in the forget set: its intervals are not meaningful.")
    return tuple(notes)
