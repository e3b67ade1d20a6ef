"""A per-example membership attack with shadow models (U-LiRA), and the score it is made of.

Hayes et al., Inexact Unlearning Needs More Careful Evaluations, arXiv 2403.01218, after Carlini et al., LiRA, arXiv 2112.03570.
For each example two sets of models are made: trained with it and then made to forget it, and trained without it. With
phi = log(p / (1 - p)) of the true answer's probability p, the score of the model under attack is

    log N(phi; mu_unlearned, sd_unlearned) - log N(phi; mu_retrained, sd_retrained)

and a high score says: this model looks like one that had seen the example. Attacks on whole populations overstate protection; this
one asks example by example. Without the true answer's probability (a regressor) phi is minus the error's logarithm.

Making the models is the caller's: :func:`shadow_attack` receives ``make_unlearned`` and ``make_retrained``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from efface.errors import InputError
from efface.results import Interval
from efface.stats import auc, auc_interval, tpr_at_fpr

__all__ = ["MIN_PAIRS", "PerExampleAttack", "lira_score", "logit_of_probability", "shadow_attack"]

MIN_PAIRS = 16
"""Pairs of shadow models from which on the figure is not of low power."""

_LEAST_SPREAD = 1e-3

Floats = NDArray[np.float64]
MakeModel = Callable[[NDArray[np.int64], int], Any]
"""(rows that belong to the training set, seed) -> a model; ``make_unlearned`` also makes it forget the rest of the candidates."""


@dataclass(frozen=True)
class PerExampleAttack:
    """What the attack reaches.

    Attributes:
        auc: P(score of an example that was seen and unlearned > score of one never seen), 0.5 is chance.
        interval: Interval of ``auc``, examples resampled.
        tpr_at_fpr: True-positive rate at 1 % false positives.
        scores_seen: Scores of examples that were trained on and forgotten.
        scores_unseen: Scores of examples never trained on.
        pairs: Shadow models of each kind.
    """

    auc: float
    interval: Interval | None
    tpr_at_fpr: float
    scores_seen: tuple[float, ...]
    scores_unseen: tuple[float, ...]
    pairs: int

    @property
    def is_low_power(self) -> bool:
        """Whether fewer than 16 shadow models of each kind stand behind the figure."""
        return self.pairs < MIN_PAIRS


def logit_of_probability(probability: ArrayLike) -> Floats:
    """Return log(p / (1 - p)) with p kept off 0 and 1."""
    p = np.clip(np.asarray(probability, dtype=np.float64), 1e-12, 1 - 1e-12)
    return np.asarray(np.log(p) - np.log1p(-p))


def lira_score(
    phi: ArrayLike, *, mu_unlearned: ArrayLike, sd_unlearned: ArrayLike, mu_retrained: ArrayLike, sd_retrained: ArrayLike
) -> Floats:
    """Return log N(phi; unlearned) - log N(phi; retrained), broadcast over the examples; higher: looks more like seen."""
    return np.asarray(norm.logpdf(phi, mu_unlearned, sd_unlearned) - norm.logpdf(phi, mu_retrained, sd_retrained), dtype=np.float64)


def shadow_attack(
    make_unlearned: MakeModel,
    make_retrained: MakeModel,
    phi: Callable[[Any], ArrayLike],
    *,
    examples: int,
    pairs: int,
    targets: int = 2,
    seed: int = 0,
) -> PerExampleAttack:
    """Train shadow models, fit a Gaussian per example and kind, and attack models that took no part in the fit.

    Each model draws half of the examples at random, every second one the other half of the one before it, as LiRA does: each
    example falls into equally many. A model made by ``make_unlearned`` was trained with its half and made to forget
    it; one made by ``make_retrained`` was trained without it. Of every shadow model the figures of its own half are used.

    Args:
        make_unlearned: (indices of the half, seed) -> model trained with the half that then forgot it.
        make_retrained: (indices of the half, seed) -> model trained without the half.
        phi: model -> one figure per example, (examples,), such as :func:`logit_of_probability` of the true class.
        examples: Number of candidate examples.
        pairs: Shadow models of each kind; 16 or more for a figure that is not of low power, at least 4.
        targets: Models of each kind that are attacked.
        seed: Seed of the halves; the models get seeds counted up from it.

    Raises:
        InputError: When there are too few pairs, or an example fell into fewer than two halves.
    """
    if pairs < 4:
        raise InputError(f"{pairs} pairs of shadow models were asked for. A Gaussian per example needs at least 4. Raise pairs.")
    rng = np.random.default_rng(seed)
    halves = _halves(rng, examples, pairs) + _halves(rng, examples, targets)
    seen = _figures(make_unlearned, phi, halves, examples, seed)
    unseen = _figures(make_retrained, phi, halves, examples, seed + 10_000)
    fits = [_fit(table[:pairs]) for table in (seen, unseen)]
    scores = []
    for table in (seen[pairs:], unseen[pairs:]):
        score = lira_score(
            table, mu_unlearned=fits[0][0], sd_unlearned=fits[0][1], mu_retrained=fits[1][0], sd_retrained=fits[1][1]
        )
        scores.append([row[np.isfinite(row)] for row in score])
    positive, negative = (np.concatenate(side) for side in scores)
    ids = [np.concatenate([half for half in halves[pairs:]]) for _ in (0, 1)]
    return PerExampleAttack(
        auc=auc(negative, positive),
        interval=auc_interval(negative, positive, (ids[1], ids[0]), seed=seed),
        tpr_at_fpr=tpr_at_fpr(negative, positive),
        scores_seen=tuple(map(float, positive)),
        scores_unseen=tuple(map(float, negative)),
        pairs=pairs,
    )


def _halves(rng: np.random.Generator, examples: int, count: int) -> list[NDArray[np.int64]]:
    found: list[NDArray[np.int64]] = []
    for _ in range(0, count, 2):
        order = rng.permutation(examples)
        found += [np.sort(order[: examples // 2]), np.sort(order[examples // 2 :])]
    return found[:count]


def _figures(make: MakeModel, phi: Callable[[Any], ArrayLike], halves: list[NDArray[np.int64]], examples: int, seed: int) -> Floats:
    """Figures of each model on its own half, NaN elsewhere: (models, examples)."""
    table = np.full((len(halves), examples), np.nan)
    for index, half in enumerate(halves):
        values = np.asarray(phi(make(half, seed + index)), dtype=np.float64)
        if values.shape != (examples,):
            raise InputError(
                f"phi returned shape {values.shape} for {examples} examples. It gives one figure per candidate example. Check it."
            )
        table[index, half] = values[half]
    return table


def _fit(table: Floats) -> tuple[Floats, Floats]:
    counts = np.isfinite(table).sum(axis=0)
    if (counts < 2).any():
        raise InputError(
            f"{int((counts < 2).sum())} examples fell into fewer than two shadow models. A Gaussian each needs more. Raise pairs."
        )
    return np.nanmean(table, axis=0), np.maximum(np.nanstd(table, axis=0, ddof=1), _LEAST_SPREAD)
