"""Membership attacks on nets: can the forget rows be told from rows the net never saw?

- :func:`matched_attack`: logistic regression on losses of forget rows against unseen rows of the same classes (or the same range
  of targets), in equal numbers; Kurmanji et al., SCRUB, arXiv 2302.09880. It alone of this family compares like with like, so it
  is the headline.
- :func:`called_members`: an RBF-SVM on one feature, fitted on retain rows against test rows, asked about the forget rows; Fan et
  al., SalUn, arXiv 2310.12508 (confidence, correctness, entropy, modified entropy, all probabilities), Chundawat et al., arXiv
  2205.08096 (entropy), Tarun et al., arXiv 2210.08196 (absolute error of a regressor).
- :func:`called_members_logistic`: the same with balanced logistic regression on the entropy; Foster et al., SSD, arXiv 2308.07707.
- :func:`attack_success_rate`: boosted trees on sorted probabilities; Shen et al., LAF, arXiv 2404.00506, with scikit-learn's
  histogram booster in place of XGBoost.

Deviations: Tarun et al. draw the regression attack's members from all training rows, forget rows included, although a loader of the
retain rows is built; here the caller passes retain rows. At most ``LIMIT`` rows a side are fitted, a seeded sample, where the
published code takes all it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from efface.errors import InputError

__all__ = [
    "LIMIT",
    "MatchedAttack",
    "attack_success_rate",
    "called_members",
    "called_members_logistic",
    "match_rows",
    "matched_attack",
    "strata_of_targets",
]

LIMIT = 2000
"""Rows a side on which an attack is fitted at most."""

_CLIP = 100.0
_STRATA = 10
_LEAST = 10

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def called_members(
    members: ArrayLike, others: ArrayLike, *asked: ArrayLike, c: float = 3.0, gamma: str | float = "auto", seed: int = 0
) -> list[NDArray[np.bool_]]:
    """Fit an RBF-SVM on features of members and non-members; return which rows of each asked set it calls members.

    Args:
        members: Features of rows that were trained on and stay, (m, d) or (m,).
        others: Features of rows never seen, (k, d) or (k,).
        *asked: Features of the rows to judge.
        c: Penalty of the SVM.
        gamma: Width of its kernel.
        seed: Seed of the sample where a side has more than ``LIMIT`` rows.

    Raises:
        InputError: When a side is empty or holds a value that is not a number.
    """
    from sklearn.svm import SVC

    return _fitted(SVC(C=c, gamma=gamma, kernel="rbf"), members, others, asked, seed)


def called_members_logistic(members: ArrayLike, others: ArrayLike, *asked: ArrayLike, seed: int = 0) -> list[NDArray[np.bool_]]:
    """Do as :func:`called_members` with logistic regression whose classes weigh the same."""
    from sklearn.linear_model import LogisticRegression

    return _fitted(LogisticRegression(class_weight="balanced"), members, others, asked, seed)


def attack_success_rate(members: ArrayLike, others: ArrayLike, forget: ArrayLike, unseen: ArrayLike, *, seed: int = 0) -> Floats:
    """Return where LAF's attack is right, 1.0 or 0.0, on the forget rows (called members) and then on as many unseen rows.

    The mean is the attack success rate: 0.5 says the attack is blind, the aim is the retrained model's rate, not the least one.

    Args:
        members: Probabilities of retain rows, (m, K).
        others: Probabilities of test rows, (k, K).
        forget: Probabilities of the forget rows.
        unseen: Probabilities of test rows that are not among ``others``; the first ``len(forget)`` are used.
        seed: Seed of the booster and of the samples.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    unseen_rows = np.asarray(unseen)[: len(np.asarray(forget))]
    sorted_sets = [np.sort(np.asarray(rows, dtype=np.float64), axis=1) for rows in (members, others, forget, unseen_rows)]
    booster = HistGradientBoostingClassifier(max_iter=100, random_state=seed)
    called = _fitted(booster, sorted_sets[0], sorted_sets[1], (sorted_sets[2], sorted_sets[3]), seed)
    return np.concatenate([called[0], ~called[1]]).astype(np.float64)


@dataclass(frozen=True)
class MatchedAttack:
    """What the matched attack found.

    Attributes:
        right: Per row that was tested, how often the attack was right over its splits, (rows,); the mean is its accuracy.
        forget: Matched forget rows.
        unseen: Matched unseen rows.
    """

    right: Floats
    forget: Rows
    unseen: Rows

    @property
    def accuracy(self) -> float:
        """Share of held-out rows told right, in [0, 1]; 0.5 is chance."""
        return float(self.right.mean())


def matched_attack(
    forget: ArrayLike,
    unseen: ArrayLike,
    *,
    strata: tuple[ArrayLike, ArrayLike],
    splits: int = 5,
    seed: int = 0,
) -> MatchedAttack:
    """Tell losses of forget rows from losses of unseen rows of the same strata, in equal numbers, cross-validated.

    Losses are cut to [-100, 100] as in SCRUB's code and standardised for the solver, which changes no decision.

    Args:
        forget: Losses of the forget rows, (n,).
        unseen: Losses of rows never trained on, (m,).
        strata: Class, or interval of the target, of each forget and each unseen row.
        splits: Stratified splits, each holding out a tenth of the rows.
        seed: Seed of the matching and the splits.

    Raises:
        InputError: When fewer than ten rows a side can be matched.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit

    left, right = match_rows(*strata, seed=seed)
    if len(left) < _LEAST:
        raise InputError(
            f"Only {len(left)} forget rows have an unseen row of the same class or range of targets. The matched attack needs at "
            f"least {_LEAST}. Give a larger test set."
        )
    losses = np.concatenate([np.asarray(forget, dtype=np.float64)[left], np.asarray(unseen, dtype=np.float64)[right]])
    losses = np.clip(losses, -_CLIP, _CLIP)
    x = ((losses - losses.mean()) / (losses.std() or 1.0))[:, None]
    y = np.repeat([1, 0], [len(left), len(right)])
    told, asked = np.zeros(len(y)), np.zeros(len(y))
    for train, test in StratifiedShuffleSplit(splits, random_state=seed).split(x, y):
        told[test] += LogisticRegression().fit(x[train], y[train]).predict(x[test]) == y[test]
        asked[test] += 1
    tested = asked > 0
    return MatchedAttack(told[tested] / asked[tested], left, right)


def match_rows(forget: ArrayLike, unseen: ArrayLike, *, seed: int = 0) -> tuple[Rows, Rows]:
    """Return equally many forget and unseen rows of each stratum, drawn without replacement, as two index arrays in order."""
    ours, theirs = np.asarray(forget), np.asarray(unseen)
    rng = np.random.default_rng(seed)
    left: list[Any] = []
    right: list[Any] = []
    for stratum in np.unique(ours):
        mine, others = np.flatnonzero(ours == stratum), np.flatnonzero(theirs == stratum)
        size = min(len(mine), len(others))
        left.extend(rng.choice(mine, size, replace=False))
        right.extend(rng.choice(others, size, replace=False))
    return np.sort(np.asarray(left, dtype=np.int64)), np.sort(np.asarray(right, dtype=np.int64))


def strata_of_targets(forget: ArrayLike, unseen: ArrayLike) -> tuple[Rows, Rows]:
    """Return the tenth of the forget targets that each target falls into, (n,) and (m,); -1 outside of their range.

    Targets of several values count by their mean.
    """
    ours, theirs = (_mean_per_item(side) for side in (forget, unseen))
    edges = np.unique(np.quantile(ours, np.linspace(0, 1, _STRATA + 1)))
    if len(edges) < 2:  # one value only
        return np.zeros(len(ours), dtype=np.int64), np.where(theirs == edges[0], 0, -1).astype(np.int64)

    def places(values: Floats) -> Rows:
        inner = np.digitize(values, edges[1:-1])
        return np.where((values < edges[0]) | (values > edges[-1]), -1, inner).astype(np.int64)

    return places(ours), places(theirs)


def _fitted(model: Any, members: ArrayLike, others: ArrayLike, asked: tuple[ArrayLike, ...], seed: int) -> list[NDArray[np.bool_]]:
    one, zero = _sample(_matrix(members), seed), _sample(_matrix(others), seed + 1)
    model.fit(np.concatenate([one, zero]), np.repeat([1, 0], [len(one), len(zero)]))
    predict: Callable[[Floats], Any] = model.predict
    return [np.asarray(predict(_matrix(rows)) == 1) for rows in asked]


def _sample(rows: Floats, seed: int) -> Floats:
    if len(rows) <= LIMIT:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), LIMIT, replace=False))]


def _matrix(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if not array.size or not np.isfinite(array).all():
        raise InputError(
            "A membership attack was given a set that is empty or holds values that are not finite. It needs finite features of "
            "members, non-members and the rows asked about. Check the sets and the model's outputs."
        )
    return array


def _mean_per_item(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return np.asarray(array.reshape(len(array), -1).mean(axis=1))
