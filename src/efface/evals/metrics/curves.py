"""A figure over folds (MUSE's scalability and sustainability, arXiv 2407.06460): its slope and its worst step.

    slope = sum_k (k - mean k) u_k / sum_k (k - mean k)^2 / u_1

the least-squares line through the utilities u_k of folds k = 1..K, as a share of the first fold's per fold. MUSE shows the curves
and gives no such number; specification: evaluation §7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from efface.evals.metrics.base import Definition
from efface.results import Interval, Metric
from efface.stats import bootstrap_replicates

__all__ = ["relative_slope", "slope_metric", "worst_step"]


def relative_slope(values: ArrayLike) -> NDArray[np.float64]:
    """Return the slope per fold as a share of the first value; not a number where that is 0.

    Args:
        values: (..., K), K >= 2 folds in order.
    """
    curve = np.asarray(values, dtype=np.float64)
    steps = np.arange(curve.shape[-1]) - (curve.shape[-1] - 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((curve @ steps) / (steps @ steps) / curve[..., 0])


def worst_step(values: Sequence[float]) -> tuple[float, int]:
    """Return the largest drop from one fold to the next (negative, or the smallest rise) and the number of the fold it leads to."""
    steps = np.diff(np.asarray(values, dtype=np.float64))
    return float(steps.min()), int(steps.argmin()) + 2


def slope_metric(definition: type[Definition], curve: Sequence[Metric], entities: Mapping[str, str], *, seed: int) -> Metric:
    """Return the slope of a figure over folds, with the worst step in its details.

    The interval resamples the entities of the rows that all folds were measured on; it has none where the rows differ.

    Args:
        definition: What the figure is called, and its aim.
        curve: The figure at every fold.
        entities: Row id -> entity.
        seed: Seed of the bootstrap.
    """
    name, variant = definition.name, curve[0].variant
    missing = [
        f"fold {number}: {metric.reason or 'no value'}" for number, metric in enumerate(curve, start=1) if metric.value is None
    ]
    if missing:
        return Metric(name, None, definition.aim, variant, reason="; ".join(missing))
    values = [float(metric.value or 0.0) for metric in curve]
    if values[0] == 0:
        return Metric(name, None, definition.aim, variant, reason=f"{curve[0].name} is 0 at the first fold already")
    step, leads_to = worst_step(values)
    return Metric(
        name,
        float(relative_slope(values)),
        definition.aim,
        variant,
        interval=_interval(curve, entities, seed),
        n=curve[0].n,
        details={
            "figure": curve[0].name,
            "folds": float(len(values)),
            "first": values[0],
            "last": values[-1],
            "worst_step": step,
            "worst_step_to_fold": float(leads_to),
        },
    )


def _interval(curve: Sequence[Metric], entities: Mapping[str, str], seed: int) -> Interval | None:
    ids = curve[0].item_ids
    if not ids or any(metric.item_ids != ids for metric in curve):
        return None
    given = np.array([[value is not None for value in metric.per_item] for metric in curve], dtype=np.float64)
    values = np.array([[0.0 if value is None else value for value in metric.per_item] for metric in curve], dtype=np.float64)

    def slope(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return relative_slope((weights @ values.T) / (weights @ given.T))

    clusters = [entities.get(row, row) for row in ids]
    draws = bootstrap_replicates(slope, clusters, seed=seed)
    valid = draws[np.isfinite(draws)]
    if not len(valid):
        return None
    low, high = np.quantile(valid, [0.025, 0.975])
    return Interval(float(low), float(high), method="bootstrap over entities, all folds alike", n_entities=len(set(clusters)))
