"""How near a model's membership attacks come to the retrained model's, on a scale from 0 to 1: sMIA and the privacy score.

OpenUnlearning (Dorna et al., arXiv 2506.12618) names a scaled membership score without a formula that could be read, so two stand
here under names of their own. ``smia_<attack>`` divides the distance by the retrained model's AUC, as the re-implementation in
gnueaj/unlearning-depth-score does; it is 1 at the retrained model and still positive at a model that forgot nothing, which fits
the privacy of 0.10 that the paper prints for its finetuned model. ``smia_full_<attack>`` divides by the distance of the original
model and so is 0 there; the printed 0.10 speaks against it being the paper's. The privacy score is the harmonic mean of the
loss, zlib, min-k and min-k++ scores. Specification: evaluation §6.2, published results §11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from efface.evals.metrics.base import ALL_VARIANTS, Definition
from efface.results import Aim, Interval
from efface.stats import harmonic_mean

__all__ = [
    "SCALED_ATTACKS",
    "PrivacyScore",
    "PrivacyScoreFull",
    "ScaledMembership",
    "ScaledMembershipFull",
    "privacy_score",
    "s_mia",
    "s_mia_full",
    "scaled_interval",
]

SCALED_ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
"""The attacks behind the privacy score."""


def s_mia(auc: float, auc_retrained: float) -> float | None:
    """Return 1 - |auc - retrained| / retrained, cut to [0, 1]; None where the retrained model's AUC is 0."""
    return None if auc_retrained <= 0 else _unit(1 - abs(auc - auc_retrained) / auc_retrained)


def s_mia_full(auc: float, auc_retrained: float, auc_original: float) -> float | None:
    """Return 1 - |auc - retrained| / |original - retrained|, cut to [0, 1]; None where the denominator is 0."""
    distance = abs(auc_original - auc_retrained)
    return None if distance == 0 else _unit(1 - abs(auc - auc_retrained) / distance)


def privacy_score(scores: Sequence[float]) -> float:
    """Return the harmonic mean of the scaled scores, in [0, 1]; 0 where one of them is 0."""
    return harmonic_mean(scores)


def scaled_interval(interval: Interval, auc_retrained: float, distance: float) -> Interval | None:
    """Carry the interval of an AUC over to its scaled score, the other models' AUCs held fixed.

    The score is 1 at the retrained model's AUC and falls on both sides, so an interval around it ends at 1.

    Args:
        interval: Interval of the AUC.
        auc_retrained: AUC of the retrained model.
        distance: What the score is scaled by.
    """
    if distance <= 0:
        return None
    ends = [_unit(1 - abs(end - auc_retrained) / distance) for end in (interval.low, interval.high)]
    high = 1.0 if interval.low <= auc_retrained <= interval.high else max(ends)
    return Interval(min(ends), high, interval.level, interval.method, interval.n_entities)


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))


class ScaledMembership(Definition):
    """Membership AUC on the scale of the retrained model's."""

    name: ClassVar[str] = "smia"
    title: ClassVar[str] = "scaled membership (by the retrained model)"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "max(0, 1 - |AUC - AUC of the retrained model| / AUC of the retrained model), for each of loss, zlib, min-k and min-k++ "
        "(smia_loss, ...). 1 = as the retrained model, whichever side a model errs on."
    )
    variants: ClassVar[dict[str, str]] = dict.fromkeys(ALL_VARIANTS, "the definition, on the AUC of that variant")
    interval: ClassVar[str] = "from the interval of the AUC, the retrained model's held fixed"
    cost: ClassVar[str] = "none beside the membership attacks of both models"
    needs: ClassVar[str] = "holdout rows, and results of the retrained model on the same rows"
    paper: ClassVar[str] = "after OpenUnlearning, arXiv 2506.12618 (its own formula is not published)"


class ScaledMembershipFull(ScaledMembership):
    """Membership AUC on the scale from the original to the retrained model."""

    name: ClassVar[str] = "smia_full"
    title: ClassVar[str] = "scaled membership (by the original model)"
    definition: ClassVar[str] = (
        "max(0, 1 - |AUC - AUC of the retrained model| / |AUC of the original model - AUC of the retrained model|), for each of "
        "loss, zlib, min-k and min-k++ (smia_full_loss, ...). 0 = as the original model, 1 = as the retrained one."
    )
    interval: ClassVar[str] = "from the interval of the AUC, the other models' held fixed"
    cost: ClassVar[str] = "none beside the membership attacks of all three models"
    needs: ClassVar[str] = "holdout rows, and results of the original and the retrained model on the same rows"


class PrivacyScore(Definition):
    """Four scaled memberships in one figure."""

    name: ClassVar[str] = "privacy_score"
    title: ClassVar[str] = "privacy score"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "Harmonic mean of smia_loss, smia_zlib, smia_min_k and smia_min_k_plus_plus; 0 where one of them is 0."
    )
    variants: ClassVar[dict[str, str]] = ScaledMembership.variants
    interval: ClassVar[str] = "harmonic mean of the lower and of the upper ends of its parts: at least as wide as it should be"
    cost: ClassVar[str] = ScaledMembership.cost
    needs: ClassVar[str] = ScaledMembership.needs
    paper: ClassVar[str] = ScaledMembership.paper


class PrivacyScoreFull(PrivacyScore):
    """The same on the scale from the original to the retrained model."""

    name: ClassVar[str] = "privacy_score_full"
    title: ClassVar[str] = "privacy score (scaled by the original model)"
    definition: ClassVar[str] = "Harmonic mean of smia_full_loss, smia_full_zlib, smia_full_min_k and smia_full_min_k_plus_plus."
    cost: ClassVar[str] = ScaledMembershipFull.cost
    needs: ClassVar[str] = ScaledMembershipFull.needs
