"""Truth ratio, forget quality and model utility (TOFU). Specification: evaluation §5.

Everything starts from mean losses per answer: ``correct`` (the paraphrased answer where there is one, else the answer itself) and
``wrong`` (answers of the same form that are false). R = p(wrong) / p(correct); values travel as log R, to which KS is indifferent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from efface.data.items import TokenRow
from efface.evals.metrics.base import Definition, OptionMetric, Variant
from efface.evals.metrics.tokens import EPSILON, answer_nll
from efface.results import Aim
from efface.stats import KSResult, harmonic_mean, ks_test

__all__ = [
    "MODEL_UTILITY_PARTS",
    "WORLD_UTILITY_PARTS",
    "ForgetQuality",
    "LogTruthRatio",
    "ModelUtility",
    "TruthPreference",
    "TruthRatio",
    "TruthRatioKnowledge",
    "WorldUtility",
    "closeness",
    "forget_quality",
    "knowledge_ratio",
    "log_truth_ratio",
    "model_utility",
    "preference",
]

Floats = NDArray[np.float64]
_FLOOR = -745.0  # log of the smallest double: what an underflowed ratio becomes, so that ties stay ties

MODEL_UTILITY_PARTS: tuple[str, ...] = tuple(
    f"{group}_{metric}"
    for group, chance in (
        ("retain", "probability"),
        ("real_authors", "probability_w_options"),
        ("world_facts", "probability_w_options"),
    )
    for metric in (chance, "rouge", "truth_ratio")
)
"""The nine figures behind model utility."""

WORLD_UTILITY_PARTS: tuple[str, ...] = (
    "retain_fact_accuracy",
    "retain_probability",
    "retain_truth_ratio",
    "world_facts_fact_accuracy",
    "world_facts_probability",
)
"""The five figures behind world utility."""


def log_truth_ratio(
    correct: ArrayLike,
    wrong: Sequence[ArrayLike] | ArrayLike,
    *,
    variant: Variant = "strict",
    mean: Literal["geometric", "arithmetic"] = "geometric",
) -> Floats:
    """Return log R per row.

    Args:
        correct: Mean loss of the right answer, (n,).
        wrong: Mean losses of the wrong answers, n rows of k each.
        variant: ``openunlearning`` adds 1e-10 to p(correct), which underflows for collapsed models; the others do not.
        mean: How the wrong answers' probabilities are averaged: "geometric" as all code does, "arithmetic" as TOFU's first paper
            version and its ``utils.py`` do.
    """
    right = np.asarray(correct, dtype=np.float64).ravel()
    rows = [np.asarray(w, dtype=np.float64).ravel() for w in wrong]  # type: ignore[union-attr]
    if mean == "arithmetic":
        log_wrong = np.array([logsumexp(-w) - math.log(len(w)) for w in rows])
    else:
        log_wrong = np.array([-w.mean() for w in rows])
    if variant != "openunlearning":
        return np.asarray(log_wrong + right)
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(np.exp(log_wrong)) - np.log(np.exp(-right) + EPSILON), _FLOOR))


def closeness(log_ratio: ArrayLike, *, variant: Variant = "strict") -> Floats:
    """Return min(R, 1/R) per row, in [0, 1]: 1 = right and wrong answers are equally probable."""
    log_r = np.asarray(log_ratio, dtype=np.float64)
    if variant == "openunlearning":
        ratio = np.where(log_r <= _FLOOR, 0.0, np.exp(log_r))
        return np.minimum(ratio, 1.0 / (ratio + EPSILON))
    return np.exp(-np.abs(log_r))


def preference(log_ratio: ArrayLike) -> Floats:
    """Return max(0, 1 - R) per row, in [0, 1]; higher = the right answer is preferred."""
    return -np.expm1(np.minimum(np.asarray(log_ratio, dtype=np.float64), 0.0))


def knowledge_ratio(correct: ArrayLike, wrong: Sequence[ArrayLike] | ArrayLike, *, variant: Variant = "strict") -> Floats:
    """Return T = p(correct) / (p(correct) + p(wrong)) per row; higher = more knowledge left. Wrong answers: geometric mean."""
    right = np.asarray(correct, dtype=np.float64).ravel()
    mean_wrong = np.array([np.asarray(w, dtype=np.float64).mean() for w in wrong])  # type: ignore[union-attr]
    if variant == "openunlearning":
        p_right, p_wrong = np.exp(-right), np.exp(-mean_wrong)
        return np.asarray(p_right / (p_right + p_wrong + EPSILON))
    with np.errstate(invalid="ignore"):  # a loss that is not a number gives a ratio that is not
        return np.asarray(np.exp(-right - np.logaddexp(-right, -mean_wrong)))


def forget_quality(unlearned: ArrayLike, retrained: ArrayLike) -> KSResult:
    """Compare the truth ratios of two models on the same forget set; a p-value near 1 = they cannot be told apart.

    R, 1/R and log R give the same answer.

    Raises:
        InputError: When a value is not a number.
    """
    return ks_test(unlearned, retrained)


def model_utility(parts: Mapping[str, float] | Sequence[float], *, variant: Variant = "strict") -> float:
    """Return the harmonic mean of the parts; any zero makes it 0, higher is better.

    A negative part (possible only through a broken measurement) gives 0 in ``strict`` and NaN elsewhere, as scipy does.
    """
    values = list(parts.values()) if isinstance(parts, Mapping) else list(parts)
    return harmonic_mean(values, negative="zero" if variant == "strict" else "nan")


def _losses(correct: TokenRow, wrong: Sequence[TokenRow], variant: Variant) -> tuple[float, list[float]] | None:
    right = answer_nll(correct, variant=variant)
    others = [answer_nll(row, variant=variant) for row in wrong]
    if right is None or not others or any(loss is None for loss in others):
        return None
    return right, [float(loss) for loss in others if loss is not None]


_WRONG = "one scored continuation per wrong answer (5 in TOFU's forget set) and one of the paraphrased answer"
_RATIO_VARIANTS = {
    "openunlearning": "exp(-mean wrong loss) / (exp(-right loss) + 1e-10): underflows for collapsed models",
    "original": "exp(right loss - mean wrong loss), TOFU's aggregation script",
    "strict": "the same in log space",
}


class LogTruthRatio(OptionMetric):
    """The statistic behind truth ratio and forget quality."""

    name: ClassVar[str] = "log_truth_ratio"
    title: ClassVar[str] = "log truth ratio"
    aim: ClassVar[Aim] = "reference"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "log R = loss of the right (paraphrased) answer - mean loss of the wrong ones, per row; the value shown is the median."
    )
    variants: ClassVar[dict[str, str]] = _RATIO_VARIANTS
    interval: ClassVar[str] = "none: its distribution is what matters"
    cost: ClassVar[str] = _WRONG
    needs: ClassVar[str] = "perturbed_answer, better with paraphrased_answer"
    paper: ClassVar[str] = "TOFU, arXiv 2401.06121"

    @staticmethod
    def item(correct: TokenRow, wrong: Sequence[TokenRow], *, variant: Variant = "strict") -> float | None:
        """Return log R of one row."""
        losses = _losses(correct, wrong, variant)
        return None if losses is None else float(log_truth_ratio([losses[0]], [losses[1]], variant=variant)[0])


class TruthRatio(LogTruthRatio):
    """Truth ratio on the forget set."""

    name: ClassVar[str] = "truth_ratio"
    title: ClassVar[str] = "truth ratio"
    aim: ClassVar[Aim] = "reference"
    aim_elsewhere: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "R = p(wrong) / p(right). On the forget set the mean of min(R, 1/R): the aim is the retrained model's value. "
        "On other sets the mean of max(0, 1 - R): higher is better."
    )
    interval: ClassVar[str] = "bootstrap over entities, 2000 draws, percentile"

    @staticmethod
    def item(correct: TokenRow, wrong: Sequence[TokenRow], *, variant: Variant = "strict") -> float | None:
        """Return min(R, 1/R) of one row."""
        log_ratio = LogTruthRatio.item(correct, wrong, variant=variant)
        return None if log_ratio is None else float(closeness(log_ratio, variant=variant))


class TruthPreference(LogTruthRatio):
    """Truth ratio on sets that must not change; reported as ``truth_ratio`` of those sets."""

    name: ClassVar[str] = "truth_preference"
    title: ClassVar[str] = "truth ratio (true better)"
    aim: ClassVar[Aim] = "higher"
    aim_elsewhere: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = "Mean of max(0, 1 - R); the truth ratio of the retain set, real authors and world facts."
    interval: ClassVar[str] = "bootstrap over entities, 2000 draws, percentile"

    @staticmethod
    def item(correct: TokenRow, wrong: Sequence[TokenRow], *, variant: Variant = "strict") -> float | None:
        """Return max(0, 1 - R) of one row."""
        log_ratio = LogTruthRatio.item(correct, wrong, variant=variant)
        return None if log_ratio is None else float(preference(log_ratio))


class TruthRatioKnowledge(OptionMetric):
    """The form of OpenUnlearning's meta-evaluation."""

    name: ClassVar[str] = "truth_ratio_knowledge"
    title: ClassVar[str] = "truth ratio (knowledge form)"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = "Mean of p(right) / (p(right) + p(wrong)); higher = more knowledge left."
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "1e-10 added to the denominator",
        "original": "log space",
        "strict": "log space",
    }
    cost: ClassVar[str] = "none beside the truth ratio"
    needs: ClassVar[str] = "perturbed_answer, better with paraphrased_answer"
    paper: ClassVar[str] = "OpenUnlearning, arXiv 2506.12618"

    @staticmethod
    def item(correct: TokenRow, wrong: Sequence[TokenRow], *, variant: Variant = "strict") -> float | None:
        """Return T of one row."""
        losses = _losses(correct, wrong, variant)
        return None if losses is None else float(knowledge_ratio([losses[0]], [losses[1]], variant=variant)[0])


class ForgetQuality(Definition):
    """Whether the model can be told from the retrained one."""

    name: ClassVar[str] = "forget_quality"
    title: ClassVar[str] = "forget quality"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "p-value of the two-sided two-sample Kolmogorov-Smirnov test between the truth ratios of this and the "
        "retrained model on the "
        "same forget rows. Shown with D and its interval, n, log10 p and the smallest log10 p these sample sizes "
        "allow, and whether the median lies below or above the retrained model's."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "ratios with epsilon; where a ratio is NaN the published code gives NaN, here not available",
        "original": "ratios of TOFU's aggregation script; NaN as above",
        "strict": "ratios in log space; not available when one is NaN, with the rows listed",
    }
    interval: ClassVar[str] = "none for p; KS D has a bootstrap interval over entities, both models resampled together"
    cost: ClassVar[str] = "none beside the truth ratio of both models"
    needs: ClassVar[str] = "perturbed_answer, and results of the retrained model on the same rows"
    paper: ClassVar[str] = "TOFU, arXiv 2401.06121"


class ModelUtility(Definition):
    """TOFU's utility."""

    name: ClassVar[str] = "model_utility"
    title: ClassVar[str] = "model utility"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "Harmonic mean of nine figures: probability, ROUGE-L recall and truth ratio (true better) on the retain "
        "set, real authors and world facts; the probability of the last two is against options. Any zero makes it 0."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "scipy's harmonic mean: a negative or NaN part gives NaN",
        "original": "the same",
        "strict": "a negative part gives 0; a missing part makes it not available",
    }
    interval: ClassVar[str] = "bootstrap over entities within each of the three sets"
    cost: ClassVar[str] = "none beside its parts"
    needs: ClassVar[str] = "retain rows, real_authors and world_facts, each with perturbed_answer"
    paper: ClassVar[str] = "TOFU, arXiv 2401.06121"


class WorldUtility(Definition):
    """Utility of models that know nothing but a small world."""

    name: ClassVar[str] = "world_utility"
    title: ClassVar[str] = "utility"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "Harmonic mean of five figures: fact accuracy, probability and truth ratio (true better) on the retain "
        "set, fact accuracy and "
        "probability on world facts. For models without general knowledge, on which model utility is near 0 before any unlearning."
    )
    variants: ClassVar[dict[str, str]] = {"strict": "the definition; any zero makes it 0; a missing part makes it not available"}
    interval: ClassVar[str] = "bootstrap over entities within each of the two sets"
    cost: ClassVar[str] = "none beside its parts"
    needs: ClassVar[str] = "retain rows with value and perturbed_answer, world_facts with value"
