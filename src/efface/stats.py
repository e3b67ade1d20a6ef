"""Statistics of the evaluation and the audit: bootstraps over entities, KS, AUC, exact binomial bounds, Holm, harmonic mean.

Everything is seeded and vectorised; nothing here knows what a metric is. Entities ("clusters") are resampled with all their
items, because the facts of one entity are not independent.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats
from scipy.special import gammaln

from efface.errors import InputError
from efface.results import Interval

__all__ = [
    "DRAWS",
    "KSResult",
    "auc",
    "auc_interval",
    "bootstrap_mean",
    "bootstrap_replicates",
    "clopper_pearson",
    "harmonic_mean",
    "hierarchical_bootstrap",
    "hierarchical_interval",
    "holm",
    "holm_log10",
    "ks_interval",
    "ks_test",
    "log10_separation_floor",
    "tpr_at_fpr",
]

DRAWS = 2000
_CHUNK = 4_000_000  # matrix entries held at once
_OVER_ENTITIES = "bootstrap over entities"

Floats = NDArray[np.float64]


def _codes(clusters: ArrayLike | Sequence[Any] | None, n: int) -> tuple[NDArray[np.int64], int]:
    if clusters is None:
        return np.arange(n, dtype=np.int64), n
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    codes = codes.astype(np.int64).reshape(-1)
    if len(codes) != n:
        raise InputError(
            f"{len(codes)} clusters were given for {n} values. Each value needs the entity it belongs to. Pass lists of one length."
        )
    return codes, int(codes.max()) + 1 if n else 0


def _multiplicities(rng: np.random.Generator, groups: int, draws: int) -> NDArray[np.int64]:
    """How often each of ``groups`` entities is drawn, per replicate: (draws, groups)."""
    picks = rng.integers(0, groups, (draws, groups))
    offsets = np.arange(draws, dtype=np.int64)[:, None] * groups
    return np.bincount((picks + offsets).ravel(), minlength=draws * groups).reshape(draws, groups)


def _percentile(replicates: Floats, level: float, method: str, entities: int) -> Interval | None:
    valid = replicates[np.isfinite(replicates)]
    if not len(valid):
        return None
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, method, entities)


def bootstrap_replicates(
    statistic: Callable[[Floats], Floats],
    clusters: ArrayLike | Sequence[Any],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Floats:
    """Return bootstrap replicates of any statistic that works on item weights.

    Args:
        statistic: Maps item weights (chunk, n) to one value per row of weights; a weight says how often an item was drawn.
        clusters: Entity of each of the n items.
        draws: Number of replicates.
        seed: Seed of the generator.
    """
    n = len(np.asarray(clusters))
    codes, groups = _codes(clusters, n)
    chunk = max(1, _CHUNK // max(n, groups, 1))
    if chunk >= draws:
        return np.asarray(statistic(_all_multiplicities(groups, draws, seed)[:, codes]), dtype=np.float64)
    rng = np.random.default_rng(seed)
    parts = [
        np.asarray(
            statistic(_multiplicities(rng, groups, min(chunk, draws - start))[:, codes].astype(np.float64)), dtype=np.float64
        )
        for start in range(0, draws, chunk)
    ]
    return np.concatenate(parts)


@lru_cache(maxsize=4)
def _all_multiplicities(groups: int, draws: int, seed: int) -> Floats:
    """Every metric of a set resamples the same entities with the same seed: the draw is made once."""
    return _multiplicities(np.random.default_rng(seed), groups, draws).astype(np.float64)


def bootstrap_mean(
    values: ArrayLike,
    clusters: ArrayLike | Sequence[Any] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """Percentile interval of a mean, resampling entities with all their items; None without values.

    Args:
        values: One finite value per item.
        clusters: Entity of each item; without it every item is its own.
        draws: Number of replicates.
        seed: Seed of the generator.
        level: Coverage.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return None
    codes, groups = _codes(clusters, len(array))
    sums = np.bincount(codes, weights=array, minlength=groups)
    counts = np.bincount(codes, minlength=groups).astype(np.float64)

    def mean(weights: Floats) -> Floats:
        result: Floats = (weights @ sums) / (weights @ counts)
        return result

    replicates = bootstrap_replicates(mean, np.arange(groups), draws=draws, seed=seed)
    return _percentile(replicates, level, _OVER_ENTITIES, groups)


def hierarchical_bootstrap(
    values: Sequence[ArrayLike],
    clusters: Sequence[ArrayLike | Sequence[Any] | None] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """Percentile interval of the mean over training seeds of the mean over items: seeds are drawn first, then entities.

    Args:
        values: Per seed, one value per item.
        clusters: Per seed, the entity of each item.
        draws: Number of replicates.
        seed: Seed of the generator.
        level: Coverage.
    """
    arrays = [np.asarray(v, dtype=np.float64) for v in values]
    if not arrays or not all(len(a) for a in arrays):
        return None
    labels = clusters if clusters is not None else [None] * len(arrays)
    rng = np.random.default_rng(seed)
    per_seed = np.empty((len(arrays), draws))
    entities = 0
    for index, (array, label) in enumerate(zip(arrays, labels, strict=True)):
        codes, groups = _codes(label, len(array))
        sums = np.bincount(codes, weights=array, minlength=groups)
        counts = np.bincount(codes, minlength=groups).astype(np.float64)
        weights = _multiplicities(rng, groups, draws).astype(np.float64)
        per_seed[index] = (weights @ sums) / (weights @ counts)
        entities = max(entities, groups)
    return _over_seeds(per_seed, rng, level, entities)


def hierarchical_interval(replicates: Sequence[Floats], *, n_entities: int, seed: int = 0, level: float = 0.95) -> Interval | None:
    """Percentile interval of the mean over training seeds of any figure, given its entity replicates per seed.

    Args:
        replicates: Per seed, one value per draw of entities (:func:`bootstrap_replicates`), of one length.
        n_entities: Entities resampled in a seed.
        seed: Seed of the generator that draws seeds.
        level: Coverage.
    """
    if not len(replicates):
        return None
    return _over_seeds(np.stack(replicates), np.random.default_rng(seed), level, n_entities)


def _over_seeds(per_seed: Floats, rng: np.random.Generator, level: float, entities: int) -> Interval | None:
    """Draw seeds, and for each drawn seed one of its entity replicates: (seeds, draws) -> interval of the mean."""
    seeds, draws = per_seed.shape
    picks = rng.integers(0, seeds, (draws, seeds))
    # Each draw of a seed must bring its own entity resample, else two draws of one seed would be one and the same.
    shuffled = np.stack([rng.permutation(draws) for _ in range(seeds)], axis=1)
    replicates = per_seed[picks, shuffled].mean(axis=1)
    return _percentile(replicates, level, f"bootstrap over {seeds} seeds, then {entities} entities", entities)


@dataclass(frozen=True, slots=True)
class KSResult:
    """A two-sided two-sample Kolmogorov-Smirnov test.

    Attributes:
        statistic: D, in [0, 1].
        p_value: Exact where both samples have at most 10 000 values.
        log10_p: Stays finite where ``p_value`` underflows.
        log10_floor: log10 p at complete separation of samples of these sizes: no smaller value is possible.
        n1: Size of the first sample.
        n2: Size of the second.
    """

    statistic: float
    p_value: float
    log10_p: float
    log10_floor: float
    n1: int
    n2: int


def log10_separation_floor(n1: int, n2: int) -> float:
    """Return log10 of 2 / C(n1 + n2, n1), the p-value of two samples that do not overlap at all (at most 1)."""
    log_choose = gammaln(n1 + n2 + 1) - gammaln(n1 + 1) - gammaln(n2 + 1)
    return float(min(0.0, (math.log(2) - log_choose) / math.log(10)))


def ks_test(first: ArrayLike, second: ArrayLike) -> KSResult:
    """Compare two samples of finite or infinite values (no NaN).

    Raises:
        InputError: When a sample is empty or holds NaN.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    for name, sample in (("first", x), ("second", y)):
        if not len(sample):
            raise InputError(f"The {name} sample is empty. A KS test needs at least one value on both sides. Check both sets.")
        if np.isnan(sample).any():
            raise InputError(
                f"The {name} sample has {int(np.isnan(sample).sum())} values that are not numbers. A KS test needs numbers only. "
                "Find the rows whose loss is NaN."
            )
    with warnings.catch_warnings():
        # Where scipy's exact count loses its precision it falls back to the asymptotic value and warns of it.
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        outcome = scipy_stats.ks_2samp(x, y, alternative="two-sided", method="auto")
    statistic, p_value = float(outcome.statistic), float(outcome.pvalue)
    floor = log10_separation_floor(len(x), len(y))
    log10_p = math.log10(p_value) if p_value > 0 else _log10_tail(statistic, len(x), len(y))
    return KSResult(statistic, p_value, max(log10_p, floor), floor, len(x), len(y))


def _log10_tail(statistic: float, n1: int, n2: int) -> float:
    """Leading term of the p-value where it underflows: exact path count for equal sizes, Kolmogorov's series otherwise."""
    if statistic >= 1.0:
        return log10_separation_floor(n1, n2)
    if n1 == n2:
        n, h = n1, round(statistic * n1)
        log_ratio = 2 * gammaln(n + 1) - gammaln(n - h + 1) - gammaln(n + h + 1)  # C(2n, n-h) / C(2n, n)
        return float((math.log(2) + log_ratio) / math.log(10))
    return float((math.log(2) - 2 * statistic**2 * n1 * n2 / (n1 + n2)) / math.log(10))


def _pooled(first: Floats, second: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order of the pooled sample and the start of each run of equal values in it."""
    pooled = np.concatenate([first, second])
    order = np.argsort(pooled, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(pooled[order]) != 0])
    return order.astype(np.int64), starts.astype(np.int64)


def _two_sample_masses(
    first: Floats, second: Floats, weights: Floats, order: NDArray[np.int64], starts: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Share of each sample's weight on each distinct pooled value, (chunk, values) twice."""
    split = len(first)
    shares = []
    for lower, upper in ((0, split), (split, split + len(second))):
        part = np.zeros_like(weights)
        part[:, lower:upper] = weights[:, lower:upper]
        total = part.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares.append(np.add.reduceat(part[:, order], starts, axis=1) / total)
    return shares[0], shares[1]


def _two_sample_interval(
    kind: Literal["ks", "auc"],
    samples: tuple[Floats, Floats],
    clusters: tuple[Any, Any],
    *,
    paired: bool,
    draws: int,
    seed: int,
    level: float,
) -> Interval | None:
    first, second = samples
    if not len(first) or not len(second):
        return None
    labels = [np.arange(len(s)) if c is None else np.asarray(c) for s, c in zip(samples, clusters, strict=True)]
    order, starts = _pooled(first, second)
    side = [np.unique(part, return_inverse=True)[1].reshape(-1) for part in labels]
    groups = [int(codes.max()) + 1 for codes in side]
    if paired:  # the same entities stand behind both samples and are drawn together
        joint, _ = _codes(np.concatenate(labels), len(first) + len(second))
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // (len(first) + len(second)))
    parts = []
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        if paired:
            weights = _multiplicities(rng, int(joint.max()) + 1, size)[:, joint]
        else:
            weights = np.concatenate(
                [_multiplicities(rng, g, size)[:, codes] for g, codes in zip(groups, side, strict=True)], axis=1
            )
        x_share, y_share = _two_sample_masses(first, second, weights.astype(np.float64), order, starts)
        if kind == "ks":
            parts.append(np.abs(np.cumsum(x_share - y_share, axis=1)).max(axis=1))
        else:  # P(y > x) + P(y = x) / 2
            parts.append(((np.cumsum(x_share, axis=1) - x_share / 2) * y_share).sum(axis=1))
    return _percentile(np.concatenate(parts), level, _OVER_ENTITIES, min(groups))


def ks_interval(
    first: ArrayLike,
    second: ArrayLike,
    clusters: tuple[Any, Any] = (None, None),
    *,
    paired: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """Percentile interval of the KS distance D; entities are resampled, jointly when ``paired``.

    D is never below 0, so the interval of two equal samples lies above 0: read it as "how large D comes out by chance of the draw".
    """
    samples = (np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    return _two_sample_interval("ks", samples, clusters, paired=paired, draws=draws, seed=seed, level=level)


def auc(negatives: ArrayLike, positives: ArrayLike) -> float:
    """Return P(positive > negative) + P(equal) / 2 (Mann-Whitney), in [0, 1].

    Raises:
        InputError: When a side is empty or holds NaN.
    """
    x, y = np.asarray(negatives, dtype=np.float64), np.asarray(positives, dtype=np.float64)
    if not len(x) or not len(y):
        raise InputError("One side of an AUC is empty. Both need at least one score. Check both sets.")
    if np.isnan(x).any() or np.isnan(y).any():
        raise InputError("An AUC was asked of scores that are not numbers. Scores must be numbers. Drop those rows and count them.")
    ranks = scipy_stats.rankdata(np.concatenate([x, y]))
    return float((ranks[len(x) :].sum() - len(y) * (len(y) + 1) / 2) / (len(x) * len(y)))


def auc_interval(
    negatives: ArrayLike,
    positives: ArrayLike,
    clusters: tuple[Any, Any] = (None, None),
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """Percentile interval of :func:`auc`, resampling the entities of each side."""
    samples = (np.asarray(negatives, dtype=np.float64), np.asarray(positives, dtype=np.float64))
    return _two_sample_interval("auc", samples, clusters, paired=False, draws=draws, seed=seed, level=level)


def tpr_at_fpr(negatives: ArrayLike, positives: ArrayLike, *, fpr: float = 0.01) -> float:
    """Return the largest share of positives above a threshold that at most a share ``fpr`` of negatives exceeds."""
    x, y = np.sort(np.asarray(negatives, dtype=np.float64)), np.asarray(positives, dtype=np.float64)
    if not len(x) or not len(y):
        raise InputError("A true-positive rate was asked of an empty set. Both sides need scores. Check both sets.")
    allowed = math.floor(fpr * len(x) + 1e-9)
    if allowed >= len(x):
        return 1.0
    return float(np.mean(y > x[len(x) - 1 - allowed]))


def clopper_pearson(successes: int, trials: int, *, level: float = 0.95, one_sided: bool = False) -> Interval:
    """Return the exact binomial interval of a rate; with ``one_sided`` only the upper end is bounded (low = 0)."""
    if trials < 1 or not 0 <= successes <= trials:
        raise InputError(
            f"{successes} successes of {trials} trials cannot be. Trials are at least 1 and successes between 0 and "
            "trials. Recount."
        )
    tail = 1 - level if one_sided else (1 - level) / 2
    low = 0.0 if one_sided or successes == 0 else float(scipy_stats.beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(scipy_stats.beta.ppf(1 - tail, successes + 1, trials - successes))
    return Interval(low, high, level, "Clopper-Pearson, one-sided" if one_sided else "Clopper-Pearson", trials)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p-values in the order given, capped at 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def holm_log10(log_p_values: Sequence[float]) -> list[float]:
    """Return :func:`holm` of p-values given and returned as their log10, which do not underflow."""
    order = sorted(range(len(log_p_values)), key=lambda i: log_p_values[i])
    adjusted = [0.0] * len(log_p_values)
    running = -math.inf
    for rank, index in enumerate(order):
        running = max(running, min(0.0, math.log10(len(log_p_values) - rank) + log_p_values[index]))
        adjusted[index] = running
    return adjusted


def harmonic_mean(values: Sequence[float], *, negative: Literal["zero", "nan"] = "zero") -> float:
    """Return the harmonic mean; a zero among the values makes it 0.

    Args:
        values: At least one.
        negative: What a negative value makes of the whole: 0 (a factor below 0 is as bad as none), or NaN as scipy does. A value
            that is not a number always gives NaN.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise InputError("A harmonic mean was asked of no values. It needs at least one. Check which parts are available.")
    if np.isnan(array).any() or (negative == "nan" and (array < 0).any()):
        return math.nan
    if (array <= 0).any():
        return 0.0
    return float(len(array) / np.sum(1.0 / array))
