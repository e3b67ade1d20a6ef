"""One membership attack as a figure: AUC with its interval, true positives at few false ones, and the rows it could not use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from efface.data.schema import Row
from efface.evals.metrics.base import Definition, Variant
from efface.evals.summary import broken_rows, not_available
from efface.results import Metric
from efface.stats import auc, auc_interval, clopper_pearson, tpr_at_fpr

__all__ = ["FALSE_POSITIVES", "AttackedSides", "attack_metric"]

FALSE_POSITIVES = (1, 5)
"""Percentages of strangers that may be taken for members."""


class AttackedSides(TypedDict):
    """What every attack on the same two sets has in common; the arguments of :func:`attack_metric` of the same names."""

    members: Sequence[Row]
    strangers: Sequence[Row]
    variant: Variant
    seed: int


def attack_metric(
    definition: type[Definition],
    scores: Sequence[float | None],
    holdout: Sequence[float | None],
    *,
    members: Sequence[Row],
    strangers: Sequence[Row],
    variant: Variant,
    seed: int,
) -> Metric:
    """Return the AUC of one attack; rows without a score are left out and counted, a score that is no number makes it missing.

    Args:
        definition: The attack.
        scores: Score of each row that may have been trained on; a high score speaks against membership.
        holdout: Score of each row that was never trained on.
        members: The rows of ``scores``.
        strangers: The rows of ``holdout``.
        variant: Which definition the scores follow.
        seed: Seed of the bootstrap.
    """
    name = definition.name
    broken = broken_rows(scores, members) or broken_rows(holdout, strangers)
    if broken:
        return not_available(name, definition.aim, variant, broken)
    ours, own_entities = _valid(scores, members)
    theirs, other_entities = _valid(holdout, strangers)
    if not ours or not theirs:
        return not_available(name, definition.aim, variant, "no row with a valid score on one side")
    dropped = (len(scores) - len(ours), len(holdout) - len(theirs))
    return Metric(
        name,
        auc(ours, theirs),
        definition.aim,
        variant,
        interval=auc_interval(ours, theirs, (own_entities, other_entities), seed=seed),
        n=len(ours) + len(theirs),
        n_skipped=sum(dropped),
        reason=f"{dropped[0]} forget and {dropped[1]} holdout rows without a score are left out" if any(dropped) else "",
        details={
            **_true_positives(ours, theirs),
            "n_forget": float(len(ours)),
            "n_holdout": float(len(theirs)),
            "dropped_forget": float(dropped[0]),
            "dropped_holdout": float(dropped[1]),
            "mean_forget": float(np.mean(ours)),
            "mean_holdout": float(np.mean(theirs)),
        },
        per_item=tuple(scores),
        item_ids=tuple(row.id for row in members),
    )


def _valid(scores: Sequence[float | None], rows: Sequence[Row]) -> tuple[list[float], list[str]]:
    kept = [(float(score), row.entity) for score, row in zip(scores, rows, strict=True) if score is not None]
    return [score for score, _ in kept], [entity for _, entity in kept]


def _true_positives(members: Sequence[float], strangers: Sequence[float]) -> dict[str, float]:
    """Share of members found at each false-positive rate, with its exact binomial interval.

    The interval takes the threshold as given and the rows as independent: where an entity has several rows it is too narrow.
    """
    found: dict[str, float] = {}
    for percent in FALSE_POSITIVES:
        # A member is called where the score is low: the holdout rows are the negatives of that test.
        rate = tpr_at_fpr([-v for v in strangers], [-v for v in members], fpr=percent / 100)
        bounds = clopper_pearson(round(rate * len(members)), len(members))
        name = f"tpr_at_fpr_{percent}_percent"
        found |= {name: rate, f"{name}_low": bounds.low, f"{name}_high": bounds.high}
    return found
