"""Two models on the same rows: their difference with its interval, and an exact test of whether there is one.

Rows of one entity are not independent, so that an entity is resampled, or its sign turned, with all its rows. The interval draws
seeds first and speaks of seeds not run; the test takes the seeds as they are and speaks of these models.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.results import Interval
from efface.stats import DRAWS, hierarchical_bootstrap

__all__ = ["PairedDifference", "PairedSeed", "SignFlip", "paired_difference", "sign_flip_test"]

_CELLS = 400_000
"""Length of the exact distribution: differences are rounded to a grid that keeps it below this."""


@dataclass(frozen=True, slots=True)
class SignFlip:
    """A two-sided sign-flip (permutation) test of a sum of independent, symmetric differences around zero.

    Attributes:
        p_value: Share of all sign patterns whose sum is at least as far from 0 as the one observed.
        log10_p: Stays finite where ``p_value`` underflows.
        log10_floor: log10 p where all differences point one way: no smaller value is possible with so many.
        n: Differences that are not 0.
    """

    p_value: float
    log10_p: float
    log10_floor: float
    n: int


@dataclass(frozen=True, slots=True)
class PairedSeed:
    """One seed's rows under two models, in one order.

    Attributes:
        first: Figure per row under the first model.
        second: The same rows under the second one.
        entities: Entity of each row; equal labels in two seeds are the same entity.
    """

    first: Sequence[float]
    second: Sequence[float]
    entities: Sequence[Hashable]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Second less first, a mean over seeds of a mean over rows.

    Attributes:
        difference: The mean difference.
        interval: Its interval, seeds drawn first, then entities.
        test: Whether it can be told from no difference.
        n_rows: Rows in a seed, the most of any.
        n_entities: Distinct entities over all seeds.
        n_seeds: Seeds compared.
    """

    difference: float
    interval: Interval | None
    test: SignFlip
    n_rows: int
    n_entities: int
    n_seeds: int


def sign_flip_test(differences: Sequence[float]) -> SignFlip:
    """Test whether independent differences are symmetric around 0, counting every sign pattern.

    The distribution of the sum over all 2^n patterns is counted for the differences rounded to a grid (1/400 of the largest for a
    thousand of them, finer for fewer). Sums that the rounding could have parted count as equal, so that it never lowers p.

    Args:
        differences: One finite value per entity.

    Raises:
        InputError: When there is none, or one is not a number.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise InputError(
            f"A paired test was asked of {len(values)} differences, not all of them numbers. It needs one finite number per "
            "entity. Leave out rows that a model has no figure for."
        )
    # What rounding errors of equal figures leave is no difference.
    values = values[np.abs(values) > 1e-12 * max(1.0, float(np.abs(values).max()))]
    n = len(values)
    if n == 0:
        return SignFlip(1.0, 0.0, 0.0, 0)
    levels = max(1, _CELLS // n)
    steps = np.rint(values / np.abs(values).max() * levels).astype(np.int64)
    sizes, observed = np.abs(steps), abs(int(steps.sum()))
    total = int(sizes.sum())
    shares: NDArray[np.float64] = np.zeros(total + 1)  # of patterns, by the sum of the steps that point upwards
    shares[0] = 1.0
    reached = 0
    for size in map(int, sizes):
        reached += size
        before = shares[: reached + 1 - size].copy()
        shares[: reached + 1] *= 0.5
        shares[size : reached + 1] += 0.5 * before
    sums = np.abs(2 * np.arange(total + 1) - total)
    p_value = float(min(1.0, shares[sums >= observed - n].sum()))
    floor = min(0.0, (1 - n) * math.log10(2))
    return SignFlip(p_value, max(math.log10(p_value), floor) if p_value > 0 else floor, floor, n)


def paired_difference(seeds: Sequence[PairedSeed], *, draws: int = DRAWS, seed: int = 0) -> PairedDifference:
    """Compare two models over rows they share, seed by seed.

    Args:
        seeds: The rows of each seed.
        draws: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Raises:
        InputError: When a seed has no rows, or its columns have other lengths.
    """
    for one in seeds:
        if not len(one.first) or not len(one.first) == len(one.second) == len(one.entities):
            raise InputError(
                f"Two models have {len(one.first)} and {len(one.second)} figures for {len(one.entities)} rows of a seed. A paired "
                "comparison needs the same rows under both, at least one. Compare runs on the same data."
            )
    if not seeds:
        raise InputError("Two models share no seed. A paired comparison needs at least one. Run both with the same seeds.")
    gaps = [np.asarray(one.second, dtype=np.float64) - np.asarray(one.first, dtype=np.float64) for one in seeds]
    shares: dict[Hashable, float] = {}
    for gap, one in zip(gaps, seeds, strict=True):
        for value, entity in zip(gap, one.entities, strict=True):
            shares[entity] = shares.get(entity, 0.0) + float(value) / (len(gap) * len(seeds))
    labels = [_numbered(one.entities) for one in seeds]
    return PairedDifference(
        difference=float(np.mean([gap.mean() for gap in gaps])),
        interval=hierarchical_bootstrap(gaps, labels, draws=draws, seed=seed),
        test=sign_flip_test(list(shares.values())),
        n_rows=max(len(gap) for gap in gaps),
        n_entities=len(shares),
        n_seeds=len(seeds),
    )


def _numbered(entities: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(entity, len(numbers)) for entity in entities]
