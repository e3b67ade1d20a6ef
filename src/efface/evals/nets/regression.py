"""Figures of regressors and forecasters: errors per item, distances between two models' predictions, calibration of quantiles.

Source: Tarun et al., Deep Regression Unlearning, ICML 2023, arXiv 2210.08196 (errors, Wasserstein distance); the KS distance and
the paired difference are added because the Wasserstein distance ignores which prediction belongs to which row.

Shapes: ``predictions`` and ``targets`` are (n,) or (n, ...), one block per item; quantile forecasts have their quantiles last.
Units are those of the target throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance

from efface.errors import InputError
from efface.stats import DRAWS, bootstrap_replicates

__all__ = [
    "absolute_error",
    "paired_difference",
    "pinball",
    "quantile_coverage",
    "squared_error",
    "wasserstein",
    "wasserstein_replicates",
]

Floats = NDArray[np.float64]


def absolute_error(predictions: ArrayLike, targets: ArrayLike) -> Floats:
    """Return the mean |prediction - target| of each item, (n,). Lower is better on what must stay."""
    return _per_item(np.abs(_difference(predictions, targets)))


def squared_error(predictions: ArrayLike, targets: ArrayLike) -> Floats:
    """Return the mean squared error of each item, (n,), in squared units of the target."""
    return _per_item(_difference(predictions, targets) ** 2)


def pinball(predictions: ArrayLike, targets: ArrayLike, quantiles: Sequence[float]) -> Floats:
    """Return the quantile loss of each item: sum over q of max((q - 1) e, q e) with e = target - prediction, mean over the horizon.

    Args:
        predictions: (n, ..., Q).
        targets: (n, ...); axes of length one may be left out or added.
        quantiles: The Q levels, each in (0, 1).
    """
    q = np.asarray(quantiles, dtype=np.float64)
    error = _quantile_error(predictions, targets, q)
    return _per_item(np.maximum((q - 1) * error, q * error).sum(axis=-1))


def quantile_coverage(predictions: ArrayLike, targets: ArrayLike, quantiles: Sequence[float]) -> Floats:
    """Return the share of each item's targets at or below each predicted quantile, (n, Q); its mean should be the level itself."""
    error = _quantile_error(predictions, targets, np.asarray(quantiles, dtype=np.float64))
    return np.asarray((error <= 0).reshape(len(error), -1, error.shape[-1]).mean(axis=1))


def paired_difference(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the mean |first - second| of each item, (n,): how far two models differ on the very same rows."""
    return absolute_error(first, second)


def wasserstein(first: ArrayLike, second: ArrayLike) -> float:
    """Return the 1-Wasserstein distance between two samples of predictions, in units of the target; 0 is equal.

    W1 = integral over t of |F(t) - G(t)|, F and G the empirical distribution functions.

    Raises:
        InputError: When a sample is empty.
    """
    return float(wasserstein_distance(_flat(first), _flat(second)))


def wasserstein_replicates(first: ArrayLike, second: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Return bootstrap replicates of :func:`wasserstein` for paired samples, (draws,).

    Rows are drawn with all their values, the same rows for both models.

    Args:
        first: Predictions of one model, (n,) or (n, ...), a block per row.
        second: The other's, in the same shape up to axes of length one.
        draws: Number of replicates.
        seed: Seed of the draw.

    Raises:
        InputError: When a sample is empty or they are not of the same rows.
    """
    pair = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not _is_same_shape(pair[0].shape, pair[1].shape):
        raise InputError(
            f"Predictions of shapes {pair[0].shape} and {pair[1].shape} cannot be paired. Both models predict the same rows. "
            "Check the sets."
        )
    rows = len(pair[0])
    ordered = []  # what is sorted once and repeated stays sorted: no draw has to sort
    for values in map(_flat, pair):
        order = np.argsort(values)
        ordered.append((values[order], order // (len(values) // rows)))

    def distances(weights: Floats) -> Floats:
        found = np.empty(len(weights))
        for draw, times in enumerate(weights.astype(np.int64)):
            one, other = (values.repeat(times[row]) for values, row in ordered)
            found[draw] = np.abs(one - other).mean()
        return found

    return bootstrap_replicates(distances, np.arange(rows), draws=draws, seed=seed)


def _quantile_error(predictions: ArrayLike, targets: ArrayLike, quantiles: Floats) -> Floats:
    p, t = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if p.shape[-1] != len(quantiles) or not _is_same_shape(p.shape[:-1], t.shape):
        raise InputError(
            f"Predictions of shape {p.shape} do not fit targets of shape {t.shape} at {len(quantiles)} quantiles. "
            "Quantile predictions have the targets' shape with the quantiles last. Check the model's output."
        )
    return np.asarray(t.reshape(p.shape[:-1])[..., None] - p)


def _difference(predictions: ArrayLike, targets: ArrayLike) -> Floats:
    p, t = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if p.shape != t.shape and p.size == t.size:  # (n, 1) against (n,)
        p = p.reshape(t.shape)
    if p.shape != t.shape:
        raise InputError(
            f"Predictions of shape {p.shape} do not fit targets of shape {t.shape}. Both hold one value per item, or one block. "
            "Check the model's output and the data."
        )
    return np.asarray(p - t)


def _is_same_shape(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes hold the same block per item, axes of length one aside."""
    return one[:1] == other[:1] and [size for size in one if size != 1] == [size for size in other if size != 1]


def _per_item(values: Floats) -> Floats:
    return np.asarray(values.reshape(len(values), -1).mean(axis=1)) if values.size else values.reshape(len(values))


def _flat(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64).ravel()
    if not len(array):
        raise InputError("A distance was asked of no predictions. Both samples need at least one. Check both sets.")
    return array
