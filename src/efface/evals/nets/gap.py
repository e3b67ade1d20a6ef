"""The average gap to the retrained model, the field's summary figure (SalUn, arXiv 2310.12508, Table 1).

gap = mean over the figures m of |m(model) - m(retrained)|, in points (hundredths). For a classifier the figures are accuracy on the
forget, retain and test rows (for classes: kept and forgotten classes of the test rows apart) and the membership attack; for a
regressor the mean absolute errors, in hundredths of the standard deviation of the targets, and the attack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from efface.results import Interval
from efface.stats import DRAWS, bootstrap_replicates

__all__ = ["GapPart", "average_gap", "gap_interval"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GapPart:
    """One figure of the gap as values per item of two models on the same rows.

    Attributes:
        model: (n,).
        retrained: (n,).
        scale: What one unit of the values is in points.
        rows: Name of the rows; figures of the same rows are resampled together.
    """

    model: Floats
    retrained: Floats
    scale: float
    rows: str

    @property
    def points(self) -> float:
        """|difference of the means| in points."""
        return float(abs(self.model.mean() - self.retrained.mean()) * self.scale)


def average_gap(model: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """Return the mean of |difference| over the figures of two models, in their own unit; 0 is equal.

    Average over seeds per figure first: a mean of absolute differences does not average noise away.
    """
    return float(np.mean([abs(model[name] - retrained[name]) for name in retrained]))


def gap_interval(parts: Sequence[GapPart], *, draws: int = DRAWS, seed: int = 0) -> Interval | None:
    """Return the 95 % interval of the average gap of ``parts``, both models on the same resampled rows.

    A gap is never below 0, so the interval of two equal models lies at or above 0.
    """
    if not parts:
        return None
    names = sorted({part.rows for part in parts})
    total = np.zeros(draws)
    for part in parts:
        total += np.abs(_mean_replicates(part.model - part.retrained, draws, seed + names.index(part.rows))) * part.scale
    low, high = np.quantile(total / len(parts), [0.025, 0.975])
    return Interval(float(low), float(high), method="bootstrap over items", n_entities=min(len(part.model) for part in parts))


def _mean_replicates(values: ArrayLike, draws: int, seed: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)

    def mean(weights: Floats) -> Floats:
        return np.asarray(weights @ array / len(array))

    return bootstrap_replicates(mean, np.arange(len(array)), draws=draws, seed=seed)
