"""Figures over several sets or several models: forget quality, membership, privacy leakage, utility."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.evals.metrics.base import Definition
from efface.evals.metrics.membership import MembershipReference, PrivLeak, RelDiff, attack_score, privleak, rel_diff
from efface.evals.metrics.truth_ratio import (
    MODEL_UTILITY_PARTS,
    WORLD_UTILITY_PARTS,
    ForgetQuality,
    ModelUtility,
    WorldUtility,
    forget_quality,
    model_utility,
)
from efface.evals.suites.attacks import AttackedSides, attack_metric
from efface.evals.suites.sets import Context
from efface.evals.summary import not_available
from efface.registry import METRICS
from efface.results import Interval, Metric, Results
from efface.stats import bootstrap_replicates, ks_interval

__all__ = [
    "ATTACKS",
    "NO_REFERENCE",
    "forget_quality_metric",
    "membership_metrics",
    "registered_attack",
    "relative_metric",
    "utility_metric",
]

ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
NO_REFERENCE = "needs results of the retrained model on the same rows"
_STATISTIC = "forget_log_truth_ratio"


def forget_quality_metric(metrics: Mapping[str, Metric], context: Context, against: Results | None) -> Metric:
    """Compare the truth ratios of this model with the retrained one's.

    Raises:
        InputError: When the retrained results were made with other rows, answers or another variant.
    """
    ours = metrics[_STATISTIC]
    missing = _missing_reference(ours, against, _STATISTIC)
    if missing or against is None:
        return not_available("forget_quality", ForgetQuality.aim, context.variant, missing)
    theirs = against.metrics[_STATISTIC]
    _require_same(ours, theirs, against)
    rows = context.views["forget"].rows
    for metric, whose in ((ours, "this model"), (theirs, "the retrained model")):
        if metric.value is None:
            return not_available("forget_quality", ForgetQuality.aim, context.variant, f"truth ratios of {whose}: {metric.reason}")
    pairs = [
        (mine, other, row.entity) for mine, other, row in zip(ours.per_item, theirs.per_item, rows, strict=True) if mine is not None
    ]
    if any(other is None for _, other, _ in pairs):
        return not_available(
            "forget_quality", ForgetQuality.aim, context.variant, "the retrained model has no truth ratio on some rows"
        )
    mine = [float(pair[0]) for pair in pairs]
    other = [float(pair[1]) for pair in pairs if pair[1] is not None]
    entities = [pair[2] for pair in pairs]
    test = forget_quality(mine, other)
    interval = ks_interval(mine, other, (entities, entities), paired=True, seed=context.seed)
    shift = float(np.median(mine) - np.median(other))
    return Metric(
        "forget_quality",
        test.p_value,
        ForgetQuality.aim,
        context.variant,
        n=test.n1,
        n_skipped=ours.n_skipped,
        details={
            "ks_d": test.statistic,
            "ks_d_low": interval.low if interval else None,
            "ks_d_high": interval.high if interval else None,
            "n_retrained": float(test.n2),
            "log10_p": test.log10_p,
            "log10_p_floor": test.log10_floor,
            "median_shift": shift,
            "direction": _direction(shift),
        },
    )


def _direction(shift: float) -> str:
    if shift == 0:
        return "no shift against the retrained model"
    if shift < 0:
        return "right answers are preferred more than by the retrained model (knowledge left)"
    return "right answers are preferred less than by the retrained model (over-forgotten)"


def _missing_reference(ours: Metric, against: Results | None, name: str) -> str:
    if not ours.per_item:
        return ours.reason
    if against is None:
        return NO_REFERENCE
    return "" if name in against.metrics else f"the retrained results hold no {name}: measure them with this suite"


def _require_same(ours: Metric, theirs: Metric, against: Results) -> None:
    if not theirs.per_item and theirs.value is None:
        return
    same = ours.item_ids == theirs.item_ids and ours.details.get("items_sha256") == theirs.details.get("items_sha256")
    if not same:
        raise InputError(
            f"The results of the {against.role} model were made with other forget rows ({len(theirs.item_ids)} against "
            f"{len(ours.item_ids)}, or other answers). Two models are compared on the same rows only. Evaluate that "
            "model on this data."
        )
    if ours.variant != theirs.variant:
        raise InputError(
            f"The results of the {against.role} model follow the {theirs.variant!r} definitions, these the {ours.variant!r} ones. "
            "Two models are compared in one variant only. Evaluate that model with the same variant."
        )


def membership_metrics(metrics: Mapping[str, Metric], context: Context, against: Results | None) -> dict[str, Metric]:
    """Compute every membership figure of forget against holdout rows."""
    if "holdout" not in context.views or context.measured.not_scored:
        reason = context.measured.not_scored or "no holdout set"
        names = [*ATTACKS, "mia_reference", "privleak", "rel_diff_min_k"]
        return {name: not_available(name, METRICS.get(name).aim, context.variant, reason) for name in names}
    found: dict[str, Metric] = {}
    for name in ATTACKS:
        found[name] = registered_attack(name, context)
    found["mia_reference"] = _reference_attack(metrics, context, against)
    rule: tuple[tuple[type[Definition], Callable[..., float | None]], ...] = ((PrivLeak, privleak), (RelDiff, rel_diff))
    for leak, formula in rule:
        found[leak.name] = relative_metric(leak, formula, found["mia_min_k"], context, against)
    return found


def registered_attack(attack: str, context: Context, *, name: str = "", sides: tuple[str, str] = ("forget", "holdout")) -> Metric:
    """Return the AUC of a registered attack on the rows of two sets, of which the second holds what the model never saw.

    Args:
        attack: Registered name.
        context: What was measured.
        name: Name of the figure; default the attack's.
        sides: Keys of the two sets.
    """
    scores = [_scores(attack, key, context) for key in sides]
    found = attack_metric(METRICS.get(attack), scores[0], scores[1], **_sides(context, sides))
    items = [item.hash for key in sides for item in context.views[key].answers]
    details = {**found.details, "items_sha256": hashlib.sha256("\n".join(items).encode()).hexdigest()}
    return replace(found, name=name or attack, details=details)


def _sides(context: Context, keys: tuple[str, str] = ("forget", "holdout")) -> AttackedSides:
    members, strangers = (context.views[key].rows for key in keys)
    return {"members": members, "strangers": strangers, "variant": context.variant, "seed": context.seed}


def _scores(name: str, key: str, context: Context) -> list[float | None]:
    rows = [context.measured.row(item) for item in context.views[key].answers]
    return [attack_score(name, row, share=context.min_k, variant=context.variant) for row in rows]


def _reference_attack(metrics: Mapping[str, Metric], context: Context, against: Results | None) -> Metric:
    differences: list[list[float | None]] = []
    for key in ("forget", "holdout"):
        ours = metrics[f"{key}_nll"]
        theirs = against.metrics.get(f"{key}_nll") if against is not None else None
        if theirs is None or not theirs.per_item:
            return not_available("mia_reference", MembershipReference.aim, context.variant, NO_REFERENCE)
        if ours.item_ids != theirs.item_ids:
            raise InputError(
                f"The results of the retrained model were made with other {key} rows. Two models are compared on the same "
                "rows only. Evaluate that model on this data."
            )
        pairs = zip(ours.per_item, theirs.per_item, strict=True)
        differences.append([None if a is None or b is None else a - b for a, b in pairs])
    return attack_metric(MembershipReference, differences[0], differences[1], **_sides(context))


def relative_metric(
    definition: type[Definition],
    formula: Callable[..., float | None],
    attack: Metric,
    context: Context,
    against: Results | None,
    *,
    name: str = "",
    fallback: float | None = None,
    fallback_reason: str = "",
) -> Metric:
    """Return an attack's AUC relative to the retrained model's on the same rows.

    Args:
        definition: What is computed.
        formula: Maps both AUCs to the figure; None where it has none.
        attack: This model's attack; the retrained model's has the same name.
        context: What was measured.
        against: Results of the retrained model.
        name: Name of the figure; default the definition's.
        fallback: AUC to compare with where there are no results of the retrained model.
        fallback_reason: Where that comes from.

    Raises:
        InputError: When the retrained model was attacked on other rows.
    """
    name, variant = name or definition.name, context.variant
    if attack.value is None:
        return not_available(name, definition.aim, variant, attack.reason)
    theirs = against.metrics.get(attack.name) if against is not None else None
    if theirs is not None and against is not None and "items_sha256" in theirs.details:
        _require_same(attack, theirs, against)
    reference = fallback if theirs is None else theirs.value
    value = formula(attack.value, reference, variant=variant)
    if value is None:
        reason = NO_REFERENCE if reference is None else "the retrained model's AUC is 1"
        return not_available(name, definition.aim, variant, reason)
    interval = None
    if attack.interval is not None:
        ends = [formula(end, reference, variant=variant) for end in (attack.interval.low, attack.interval.high)]
        valid = sorted(end for end in ends if end is not None)
        interval = replace(attack.interval, low=valid[0], high=valid[-1])
    return Metric(
        name,
        value,
        definition.aim,
        variant,
        interval=interval,
        n=attack.n,
        n_skipped=attack.n_skipped,
        reason=_reference_reason(theirs, reference, fallback_reason),
        details={"auc": attack.value, "auc_retrained": reference, "k": context.min_k},
    )


def _reference_reason(theirs: Metric | None, reference: float | None, fallback_reason: str) -> str:
    if reference is None:
        return "without a retrained model its AUC is taken to be 0.5"
    return fallback_reason if theirs is None else ""


def utility_metric(kind: Literal["model_utility", "world_utility"], metrics: Mapping[str, Metric], context: Context) -> Metric:
    """Put the parts of a utility together; without one of them it is not available."""
    definition: type[Definition] = ModelUtility if kind == "model_utility" else WorldUtility
    names = MODEL_UTILITY_PARTS if kind == "model_utility" else WORLD_UTILITY_PARTS
    missing = [name for name in names if name not in metrics or metrics[name].value is None]
    if missing:
        return not_available(kind, definition.aim, context.variant, f"needs {', '.join(missing)}")
    parts = [metrics[name] for name in names]
    value = model_utility([float(part.value or 0.0) for part in parts], variant=context.variant)
    if math.isnan(value):
        return not_available(kind, definition.aim, context.variant, "a part is negative or not a number")
    return Metric(
        kind,
        value,
        definition.aim,
        context.variant,
        interval=_utility_interval(names, parts, context),
        n=sum(part.n for part in parts),
        n_skipped=sum(part.n_skipped for part in parts),
        details={name: part.value for name, part in zip(names, parts, strict=True)},
    )


def _utility_interval(names: Sequence[str], parts: Sequence[Metric], context: Context) -> Interval | None:
    """Resample the entities of each set; all figures of a set see the same draw, and the sets are independent."""
    inverse: NDArray[np.float64] | None = None
    entities = []
    keys = sorted(context.views, key=len, reverse=True)
    for name, part in zip(names, parts, strict=True):
        key = next(k for k in keys if name.startswith(f"{k}_"))
        clusters = [row.entity for row in context.views[key].rows]
        entities.append(len(set(clusters)))
        valid = np.array([value is not None for value in part.per_item], dtype=np.float64)
        values = np.array([0.0 if value is None else value for value in part.per_item], dtype=np.float64)

        def mean(
            weights: NDArray[np.float64], v: NDArray[np.float64] = values, m: NDArray[np.float64] = valid
        ) -> NDArray[np.float64]:
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray((weights @ v) / (weights @ m))

        draws = bootstrap_replicates(mean, clusters, seed=context.seed + 1 + sorted(context.views).index(key))
        with np.errstate(divide="ignore"):
            inverse = (0.0 if inverse is None else inverse) + 1.0 / np.maximum(draws, 0.0)
    if inverse is None:
        return None
    replicates = len(parts) / inverse
    low, high = np.nanquantile(replicates, [0.025, 0.975])
    return Interval(float(low), float(high), n_entities=min(entities))
