"""OpenUnlearning's aggregate score (Dorna et al., arXiv 2506.12618): memorisation, privacy and utility in one figure.

    Mem     = HM(1 - ES, 1 - EM, 1 - Para. Prob, 1 - Truth Ratio)         truth ratio in the knowledge form T
    Priv    = HM(sMIA of loss, zlib, min-k, min-k++)                      sMIA = 1 - |AUC - AUC_retrained| / AUC_retrained
    Utility = HM(model utility, fluency) / the same of the original model, at most 1
    Agg     = HM(Mem, Priv, Utility);  without privacy  HM(Mem, Utility)

HM is the harmonic mean; a factor of 0 or below makes it 0. The authors released no code: the parts are those they name, the
division by the original model is what makes their printed Utility of 1.00 possible at a model utility of 0.60, and the scaling of
sMIA is that of gnueaj/unlearning-depth-score, which fits their printed cells better than one that is 0 at the original model.
A model that never saw the rows scores well below 1 in Mem (it still guesses tokens), so a higher Mem than the retrained model's is
over-forgetting: read every aggregate beside its distance to the retrained model's. Specification: published results §11.
"""

from __future__ import annotations

from typing import ClassVar

from efface.evals.metrics.base import ALL_VARIANTS, Definition
from efface.results import Aim
from efface.stats import harmonic_mean

__all__ = [
    "MEMORIZATION_PARTS",
    "AggregateScore",
    "AggregateScoreWithoutPrivacy",
    "MemorizationScore",
    "UtilityScore",
    "aggregate_score",
    "memorization_score",
    "relative_utility",
    "utility_score",
]

MEMORIZATION_PARTS: tuple[str, ...] = (
    "forget_extraction_strength",
    "forget_exact_memorization",
    "forget_paraphrased_probability",
    "forget_truth_ratio_knowledge",
)
"""The four figures behind Mem."""


def memorization_score(
    extraction_strength: float, exact_memorization: float, paraphrased_probability: float, truth_ratio: float
) -> float:
    """Return Mem in [0, 1]; higher = less memorised. ``truth_ratio`` is the knowledge form p(right) / (p(right) + p(wrong))."""
    return harmonic_mean([1 - extraction_strength, 1 - exact_memorization, 1 - paraphrased_probability, 1 - truth_ratio])


def utility_score(model_utility: float, fluency: float) -> float:
    """Return the raw utility in [0, 1]: harmonic mean of model utility and of the fluency of what it writes on the forget rows."""
    return harmonic_mean([model_utility, fluency])


def relative_utility(raw: float, original: float) -> float | None:
    """Return raw utility divided by the original model's, at most 1; None where the original has none."""
    return None if original <= 0 else min(1.0, raw / original)


def aggregate_score(memorization: float, utility: float, privacy: float | None = None) -> float:
    """Return the aggregate in [0, 1], higher is better; without ``privacy`` the one that methods are often tuned by."""
    return harmonic_mean([memorization, utility] if privacy is None else [memorization, privacy, utility])


_PAPER = "OpenUnlearning, arXiv 2506.12618"
_ENDS = "from the ends of its parts' intervals, other models' figures held fixed: at least as wide as it should be"


class MemorizationScore(Definition):
    """Four memorisation figures in one."""

    name: ClassVar[str] = "memorization_score"
    title: ClassVar[str] = "memorisation score"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = (
        "Harmonic mean of 1 - extraction strength, 1 - exact memorization, 1 - paraphrased probability and 1 - truth ratio "
        "(knowledge form) on the forget rows. Higher = less memorised; above the retrained model's value = over-forgotten."
    )
    variants: ClassVar[dict[str, str]] = dict.fromkeys(ALL_VARIANTS, "the definition, on the parts of that variant")
    interval: ClassVar[str] = _ENDS
    cost: ClassVar[str] = "none beside its parts"
    needs: ClassVar[str] = "paraphrased_answer and perturbed_answer in the forget rows"
    paper: ClassVar[str] = _PAPER


class UtilityScore(MemorizationScore):
    """Utility relative to the original model."""

    name: ClassVar[str] = "utility_score"
    title: ClassVar[str] = "utility relative to the original model"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "Harmonic mean of model utility and fluency of the answers to the forget rows, divided by the same of the original model, "
        "at most 1. The raw value, the original's and which figures were taken stand beside it."
    )
    needs: ClassVar[str] = "model utility, fluency, and results of the original model"


class AggregateScore(MemorizationScore):
    """Memorisation, privacy and utility in one figure."""

    name: ClassVar[str] = "aggregate"
    title: ClassVar[str] = "aggregate score"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "Harmonic mean of the memorisation score, the privacy score and the utility relative to the original model; 0 where one of "
        "them is 0. `aggregate_distance` is its difference to the retrained model's, which does not reach 1 itself."
    )
    needs: ClassVar[str] = "its three parts: results of the original and of the retrained model, holdout rows"


class AggregateScoreWithoutPrivacy(AggregateScore):
    """Memorisation and utility in one figure."""

    name: ClassVar[str] = "aggregate_without_privacy"
    title: ClassVar[str] = "aggregate score without privacy"
    definition: ClassVar[str] = (
        "Harmonic mean of the memorisation score and the utility relative to the original model. It rewards over-forgetting: read "
        "it beside the aggregate with privacy and `aggregate_without_privacy_distance`, its difference to the retrained model's."
    )
    needs: ClassVar[str] = "its two parts: results of the original model"
