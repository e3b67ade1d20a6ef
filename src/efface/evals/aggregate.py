"""The aggregate score over the results of up to three models: the one judged, the original, the retrained.

A part that is missing makes what is built on it *not available*, with the missing names; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from efface.evals.metrics.aggregate import (
    MEMORIZATION_PARTS,
    AggregateScore,
    AggregateScoreWithoutPrivacy,
    MemorizationScore,
    UtilityScore,
    aggregate_score,
    memorization_score,
    relative_utility,
    utility_score,
)
from efface.evals.metrics.base import Definition
from efface.evals.metrics.privacy_score import SCALED_ATTACKS, privacy_score, s_mia
from efface.results import Aim, Interval, Metric, Results

__all__ = ["AGGREGATES", "FLUENCY_PARTS", "UTILITY_PARTS", "aggregate_metrics", "with_aggregates"]

AGGREGATES = ("memorization_score", "utility_score", "privacy_score", "aggregate", "aggregate_without_privacy")

UTILITY_PARTS = ("model_utility", "world_utility")
"""Utility figures, the first that is there is taken; world utility is that of models without general knowledge."""
FLUENCY_PARTS = ("forget_gibberish", "forget_classifier_fluency", "forget_word_entropy")
"""Fluency figures, the first that is there is taken; the published score uses a gibberish classifier."""

_PUBLISHED = ("model_utility", "forget_gibberish")
_METHOD = "ends of its parts' intervals: at least as wide as it should be"
_NO_ORIGINAL = "needs results of the original model"
_NO_RETRAINED = "needs results of the retrained model"


@dataclass(frozen=True, slots=True)
class _Part:
    """A figure with the ends of its interval, where it has one; or why it is missing."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    entities: int | None = None
    reason: str = ""

    @classmethod
    def of(cls, results: Results, name: str) -> _Part:
        metric = results.metrics.get(name)
        if metric is None or metric.value is None:
            return cls(name, None, reason=f"{name} ({metric.reason})" if metric is not None and metric.reason else name)
        interval = metric.interval
        if interval is None:
            return cls(name, metric.value)
        return cls(name, metric.value, interval.low, interval.high, interval.n_entities)


def with_aggregates(results: Mapping[str, Results]) -> dict[str, Results]:
    """Return the results of several roles, each with its aggregate figures; "original" and "retrained" serve the others."""
    original, retrained = results.get("original"), results.get("retrained")
    return {
        role: replace(each, metrics={**each.metrics, **aggregate_metrics(each, original=original, retrained=retrained)})
        for role, each in results.items()
    }


def aggregate_metrics(results: Results, *, original: Results | None = None, retrained: Results | None = None) -> dict[str, Metric]:
    """Return the memorisation, privacy and utility scores of a model, both aggregates and their distance to the retrained model's.

    Args:
        results: The model that is judged.
        original: Results of the original model, for the relative utility.
        retrained: Results of the retrained model, for the privacy score and the distances.

    Returns:
        Figures by name; empty where the suite measures none of the parts.
    """
    if MEMORIZATION_PARTS[0] not in results.metrics:
        return {}
    own = _scores(results, original, retrained)
    theirs = {} if retrained is None else _scores(retrained, original, retrained)
    for name in ("aggregate", "aggregate_without_privacy"):
        own[f"{name}_distance"] = _distance(name, own[name], theirs.get(name))
    return own


def _scores(results: Results, original: Results | None, retrained: Results | None) -> dict[str, Metric]:
    variant = results.metrics[MEMORIZATION_PARTS[0]].variant
    memorization = _memorization(results, variant)
    utility = _utility(results, original, variant)
    privacy = results.metrics.get("privacy_score") or _privacy(results, retrained, variant)
    parts = {metric.name: _part_of(metric) for metric in (memorization, utility, privacy)}
    both = [parts["memorization_score"], parts["utility_score"]]
    whole = _combined(AggregateScore, [*both, parts["privacy_score"]], lambda v: aggregate_score(v[0], v[1], v[2]), variant)
    without = _combined(AggregateScoreWithoutPrivacy, both, lambda v: aggregate_score(v[0], v[1]), variant)
    return {metric.name: metric for metric in (memorization, utility, privacy, whole, without)}


def _memorization(results: Results, variant: str) -> Metric:
    parts = [_Part.of(results, name) for name in MEMORIZATION_PARTS]
    return _combined(MemorizationScore, parts, lambda v: memorization_score(*v), variant, falling=True)


def _utility(results: Results, original: Results | None, variant: str) -> Metric:
    parts = [_first(results, UTILITY_PARTS), _first(results, FLUENCY_PARTS)]
    names = tuple(part.name for part in parts)
    raw = _combined(UtilityScore, parts, lambda v: utility_score(*v), variant)
    if raw.value is None:
        return raw
    if original is None:
        return replace(raw, value=None, interval=None, reason=_NO_ORIGINAL, details={**raw.details, "raw": raw.value})
    theirs = _combined(UtilityScore, [_Part.of(original, name) for name in names], lambda v: utility_score(*v), variant)
    if not theirs.value:
        reason = theirs.reason if theirs.value is None else "its utility is 0"
        return replace(raw, value=None, interval=None, reason=f"of the original model: {reason}", details={"raw": raw.value})
    scale = theirs.value
    interval = raw.interval and replace(
        raw.interval, low=min(1.0, raw.interval.low / scale), high=min(1.0, raw.interval.high / scale)
    )
    details = {**raw.details, "raw": raw.value, "raw_original": scale}
    reason = "" if names == _PUBLISHED else f"made of {names[0]} and {names[1]}: not comparable with published scores"
    return replace(raw, value=relative_utility(raw.value, scale), interval=interval, reason=reason, details=details)


def _privacy(results: Results, retrained: Results | None, variant: str) -> Metric:
    parts = [_Part.of(results, name) for name in SCALED_ATTACKS]
    missing = [part.reason for part in parts if part.value is None]
    aim: Aim = "higher"
    if missing or retrained is None:
        reason = f"needs {', '.join(missing)}" if missing else _NO_RETRAINED
        return Metric("privacy_score", None, aim, variant, reason=reason)
    scores: dict[str, float] = {}
    for name in SCALED_ATTACKS:
        ours, theirs = results.value(name), retrained.value(name)
        score = None if ours is None or theirs is None else s_mia(ours, theirs)
        if score is None:
            return Metric("privacy_score", None, aim, variant, reason=f"needs {name} above 0 of the retrained model")
        scores[f"s_{name}"] = score
    return Metric("privacy_score", privacy_score(list(scores.values())), aim, variant, details=scores)


def _first(results: Results, names: Sequence[str]) -> _Part:
    """Return the first figure that is there; none of them: the first name, as what is missing."""
    parts = [_Part.of(results, name) for name in names]
    return next((part for part in parts if part.value is not None), replace(parts[0], reason=" or ".join(names)))


def _part_of(metric: Metric) -> _Part:
    interval = metric.interval
    if metric.value is None:
        return _Part(metric.name, None, reason=f"{metric.name} ({metric.reason})")
    if interval is None:
        return _Part(metric.name, metric.value)
    return _Part(metric.name, metric.value, interval.low, interval.high, interval.n_entities)


def _combined(
    definition: type[Definition],
    parts: Sequence[_Part],
    formula: Callable[[list[float]], float],
    variant: str,
    *,
    falling: bool = False,
) -> Metric:
    """Put parts together; ``falling`` where a higher part makes a lower figure."""
    missing = [part.reason for part in parts if part.value is None]
    if missing:
        return Metric(definition.name, None, definition.aim, variant, reason=f"needs {', '.join(missing)}")
    values = [float(part.value or 0.0) for part in parts]
    value = formula(values)
    details: dict[str, float | str | None] = {part.name: part.value for part in parts}
    zeros = [part.name for part, each in zip(parts, values, strict=True) if (1 - each if falling else each) <= 0]
    reason = f"0 because of {', '.join(zeros)}" if zeros else ""
    return Metric(
        definition.name, value, definition.aim, variant, interval=_interval(parts, formula, falling), reason=reason, details=details
    )


def _interval(parts: Sequence[_Part], formula: Callable[[list[float]], float], falling: bool) -> Interval | None:
    lows = [part.low for part in parts if part.low is not None]
    highs = [part.high for part in parts if part.high is not None]
    if len(lows) < len(parts) or len(highs) < len(parts):
        return None
    ends = (formula(highs), formula(lows)) if falling else (formula(lows), formula(highs))
    entities = [part.entities for part in parts if part.entities is not None]
    return Interval(*ends, method=_METHOD, n_entities=min(entities, default=None))


def _distance(name: str, own: Metric, theirs: Metric | None) -> Metric:
    full = f"{name}_distance"
    if own.value is None or theirs is None or theirs.value is None:
        reason = (
            own.reason if own.value is None else (_NO_RETRAINED if theirs is None else f"of the retrained model: {theirs.reason}")
        )
        return Metric(full, None, "zero", own.variant, reason=reason)
    reference = theirs.value
    interval = own.interval and replace(own.interval, low=own.interval.low - reference, high=own.interval.high - reference)
    details = {"own": own.value, "retrained": reference}
    return Metric(full, own.value - reference, "zero", own.variant, interval=interval, details=details)
