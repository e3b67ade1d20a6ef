"""From values per row to figures: means with bootstrap intervals, all columns of one set on the same resampled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.results import Aim, Interval, Metric
from efface.stats import bootstrap_replicates

__all__ = ["OVER_ROWS", "Column", "figures_of", "interval_of"]

OVER_ROWS = "bootstrap over rows"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """Values per row of one figure.

    Attributes:
        values: (n,), finite or not.
        aim: Which way is better.
        keep: Whether the values per row are handed on.
        details: Further figures.
    """

    values: Floats
    aim: Aim
    keep: bool = False
    details: Mapping[str, float | str | None] | None = None


def figures_of(columns: Mapping[str, Column], ids: Sequence[str], *, seed: int) -> dict[str, Metric]:
    """Average each column; its interval resamples rows, the same draw for all columns.

    A column that holds a value that is not finite has no mean: the metric says how many rows broke it.
    """
    broken = {name: int((~np.isfinite(column.values)).sum()) for name, column in columns.items()}
    whole = [name for name in columns if not broken[name] and len(columns[name].values)]
    found: dict[str, Metric] = {}
    intervals = _intervals([columns[name].values for name in whole], seed) if whole else []
    for name, interval in zip(whole, intervals, strict=True):
        column = columns[name]
        found[name] = Metric(
            name,
            float(column.values.mean()),
            column.aim,
            interval=interval,
            n=len(column.values),
            details=dict(column.details or {}),
            per_item=tuple(map(float, column.values)) if column.keep else (),
            item_ids=tuple(ids) if column.keep else (),
        )
    for name, column in columns.items():
        if name not in found:
            size = len(column.values)
            reason = f"{broken[name]} of {size} rows gave no finite number" if size else "the set has no rows"
            found[name] = Metric(name, None, column.aim, n=size, reason=reason)
    return {name: found[name] for name in columns}


def interval_of(replicates: Floats, rows: int, *, method: str = OVER_ROWS) -> Interval:
    """Return the 95 % percentile interval of bootstrap replicates, (draws,)."""
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Interval(float(low), float(high), method=method, n_entities=rows)


def _intervals(columns: Sequence[Floats], seed: int) -> list[Interval]:
    table = np.stack(columns, axis=1)
    rows = len(table)

    def means(weights: Floats) -> Floats:
        return np.asarray(weights @ table / rows)

    replicates = bootstrap_replicates(means, np.arange(rows), seed=seed)
    return [interval_of(replicates[:, index], rows) for index in range(table.shape[1])]
