"""From figures per item to a :class:`~efface.results.Metric`: mean, interval, what was skipped and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from efface.data.schema import Row
from efface.evals.metrics.base import Variant
from efface.results import Aim, Interval, Metric
from efface.stats import bootstrap_mean, bootstrap_replicates

__all__ = ["broken_rows", "difference_interval", "entity_interval", "not_available", "statistic_interval", "summarise"]

_LISTED = 5


def not_available(name: str, aim: Aim, variant: Variant, reason: str) -> Metric:
    """Return a metric without a value, and why."""
    return Metric(name, None, aim, variant, reason=reason)


def broken_rows(values: Sequence[float | None], rows: Sequence[Row]) -> str:
    """Return a sentence that counts and lists rows whose value is not a number; empty when there is none."""
    ids = [row.id for value, row in zip(values, rows, strict=True) if value is not None and not math.isfinite(value)]
    if not ids:
        return ""
    more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
    return f"{len(ids)} of {len(values)} rows gave no number (NaN or infinite): {', '.join(ids[:_LISTED])}{more}"


def entity_interval(values: Sequence[float], rows: Sequence[Row], *, seed: int) -> Interval | None:
    """Return the bootstrap interval of a mean over the rows' entities; it says so when every row is its own."""
    interval = bootstrap_mean(values, [row.entity for row in rows], seed=seed)
    if interval is not None and all(row.entity == row.id for row in rows):
        return replace(interval, method="bootstrap over rows (no entities given)")
    return interval


def statistic_interval(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], rows: Sequence[Row], *, seed: int
) -> Interval | None:
    """Return the bootstrap interval of any statistic of row weights (draws, n) -> (draws,), resampling entities."""
    entities = [row.entity for row in rows]
    return _percentiles(bootstrap_replicates(statistic, entities, seed=seed), len(set(entities)))


def difference_interval(
    first: Sequence[float], second: Sequence[float], rows: tuple[Sequence[Row], Sequence[Row]], *, seed: int
) -> Interval | None:
    """Return the interval of the mean of ``first`` less that of ``second``, two sets that share no entity.

    Args:
        first: One figure per row of the first set.
        second: One per row of the second.
        rows: The rows of both.
        seed: Seed of the bootstrap.
    """
    sides = []
    for number, (values, owners) in enumerate(zip((first, second), rows, strict=True)):
        array = np.asarray(values, dtype=np.float64)

        def mean(weights: NDArray[np.float64], array: NDArray[np.float64] = array) -> NDArray[np.float64]:
            return np.asarray((weights @ array) / weights.sum(-1))

        # Two seeds: the sets are drawn independently.
        sides.append(bootstrap_replicates(mean, [row.entity for row in owners], seed=seed + number))
    fewest = min(len({row.entity for row in owners}) for owners in rows)
    return _percentiles(sides[0] - sides[1], fewest)


def _percentiles(replicates: NDArray[np.float64], entities: int) -> Interval | None:
    valid = replicates[np.isfinite(replicates)]
    if not len(valid):
        return None
    low, high = np.quantile(valid, [0.025, 0.975])
    return Interval(float(low), float(high), n_entities=entities)


def summarise(
    name: str,
    values: Sequence[float | None],
    rows: Sequence[Row],
    *,
    aim: Aim,
    variant: Variant,
    seed: int,
    details: Mapping[str, float | str | None] | None = None,
    missing: str = "",
) -> Metric:
    """Average figures per row.

    A row without a figure (None) is skipped and counted. A figure that is not a number is never averaged away: the metric has no
    value then, and the reason lists the rows.

    Args:
        name: Name of the metric with its set.
        values: One per row.
        rows: The rows.
        aim: Which way is better.
        variant: Which definition the figures follow.
        seed: Seed of the bootstrap.
        details: Further figures.
        missing: Why rows may lack a figure, for the case that all do.
    """
    ids = tuple(row.id for row in rows)
    extra = dict(details or {})
    used = [(value, row) for value, row in zip(values, rows, strict=True) if value is not None]
    skipped = len(rows) - len(used)
    per_item = tuple(None if value is None or math.isnan(value) else float(value) for value in values)
    if not used:
        return Metric(name, None, aim, variant, n_skipped=skipped, reason=missing or "no row has a valid value", details=extra)
    broken = broken_rows(values, rows)
    if broken:
        return Metric(
            name, None, aim, variant, n=len(used), n_skipped=skipped, reason=broken, details=extra, per_item=per_item, item_ids=ids
        )
    numbers = [float(value) for value, _ in used]
    return Metric(
        name,
        float(np.mean(numbers)),
        aim,
        variant,
        interval=entity_interval(numbers, [row for _, row in used], seed=seed),
        n=len(used),
        n_skipped=skipped,
        reason=f"{skipped} rows left out: {missing or 'no valid value'}" if skipped else "",
        details=extra,
        per_item=per_item,
        item_ids=ids,
    )
