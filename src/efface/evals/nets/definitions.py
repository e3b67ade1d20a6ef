"""What each figure of ordinary nets is, for ``efface metrics`` and the page of metrics; the suite is ``nets``."""

from __future__ import annotations

from typing import ClassVar

from efface.evals.metrics.base import Definition
from efface.results import Aim

__all__ = [
    "Accuracy",
    "ActivationDistance",
    "Agreement",
    "AnamnesisIndex",
    "AverageGap",
    "CalibrationError",
    "Confidence",
    "Distribution",
    "Efficacy",
    "Loss",
    "MatchedAttack",
    "MatchedAuc",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MemberEntropy",
    "MemberEntropyLogistic",
    "MemberError",
    "NetFigure",
    "PairedDifference",
    "Pinball",
    "Prediction",
    "RelearnSteps",
    "SuccessRate",
    "Wasserstein",
    "WholeFigure",
    "ZeroRetrainForgetting",
]


class NetFigure(Definition):
    """A figure of ordinary nets, on a set of rows or over several."""

    interval: ClassVar[str] = "bootstrap over rows, taken as independent, 2000 draws, percentile"
    cost: ClassVar[str] = "one forward pass over the rows, shared by all figures of a net"


class WholeFigure(NetFigure):
    """A figure of a net as a whole, whose aim is the retrained net's value."""

    aim_elsewhere: ClassVar[Aim] = "reference"


class Accuracy(NetFigure):
    """Share right."""

    name: ClassVar[str] = "accuracy"
    title: ClassVar[str] = "accuracy"
    definition: ClassVar[str] = "Share of the rows whose most probable class is the label; 1 / classes is chance."
    needs: ClassVar[str] = "a classifier and labels"


class Confidence(NetFigure):
    """Probability of the truth."""

    name: ClassVar[str] = "confidence"
    title: ClassVar[str] = "confidence"
    definition: ClassVar[str] = "Mean softmax probability of the label."
    needs: ClassVar[str] = "a classifier and labels"


class Loss(NetFigure):
    """Cross entropy."""

    name: ClassVar[str] = "loss"
    title: ClassVar[str] = "cross entropy"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = "Mean of -log softmax probability of the label, in nats."
    needs: ClassVar[str] = "a classifier and labels"


class MeanAbsoluteError(NetFigure):
    """How far off."""

    name: ClassVar[str] = "mae"
    title: ClassVar[str] = "mean absolute error"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = "Mean |prediction - target| in the unit of the target; of a quantile forecast the middle quantile."
    needs: ClassVar[str] = "a regressor or forecaster and targets"


class MeanSquaredError(NetFigure):
    """How far off, squared."""

    name: ClassVar[str] = "mse"
    title: ClassVar[str] = "mean squared error"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = "Mean (prediction - target)^2; of a quantile forecast the middle quantile."
    needs: ClassVar[str] = "a regressor or forecaster and targets"


class Prediction(WholeFigure):
    """What it says on average."""

    name: ClassVar[str] = "prediction"
    title: ClassVar[str] = "mean prediction"
    definition: ClassVar[str] = "Mean prediction in the unit of the target: whether a net drifted towards one value."
    needs: ClassVar[str] = "a regressor or forecaster"


class Pinball(NetFigure):
    """Quantile loss."""

    name: ClassVar[str] = "pinball"
    title: ClassVar[str] = "quantile loss"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "Mean over rows of the sum over quantiles q of max(q e, (q - 1) e), e = target - predicted quantile."
    )
    needs: ClassVar[str] = "a quantile forecaster and targets"


class CalibrationError(NetFigure):
    """Whether quantiles are quantiles."""

    name: ClassVar[str] = "calibration_error"
    title: ClassVar[str] = "calibration error"
    aim_elsewhere: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = "Mean over quantiles q of |share of targets below the predicted quantile - q|."
    interval: ClassVar[str] = "none"
    needs: ClassVar[str] = "a quantile forecaster and targets"


class MatchedAttack(WholeFigure):
    """The headline attack."""

    name: ClassVar[str] = "mia_matched"
    title: ClassVar[str] = "membership attack on matched rows"
    definition: ClassVar[str] = (
        "Cross-validated accuracy of a logistic regression on the loss that tells forget rows from test rows of the same class (or "
        "range of targets) in equal numbers; 0.5 is chance."
    )
    interval: ClassVar[str] = "bootstrap over rows, the attack held fixed"
    needs: ClassVar[str] = "labels of the forget and the test rows"
    paper: ClassVar[str] = "SCRUB, Kurmanji et al., arXiv 2302.09880"


class MatchedAuc(WholeFigure):
    """The same rows, without a fit."""

    name: ClassVar[str] = "mia_matched_auc"
    title: ClassVar[str] = "AUC of the loss on matched rows"
    definition: ClassVar[str] = (
        "P(loss of a test row > loss of a forget row) over the rows of mia_matched, ties a half; 0.5 is chance. The true-positive "
        "rate at 1 % false positives stands beside it."
    )
    needs: ClassVar[str] = "labels of the forget and the test rows"


class Efficacy(WholeFigure):
    """SalUn's family."""

    name: ClassVar[str] = "mia_efficacy"
    title: ClassVar[str] = "share of forget rows called unseen"
    definition: ClassVar[str] = (
        "`mia_efficacy_FEATURE`: an SVM tells retain from test rows (equally many) by one feature; the share of the forget rows "
        "that it calls test rows is the figure. FEATURE is confidence, correctness, entropy, modified_entropy or probabilities. "
        "The aim is the retrained net's value, not 1."
    )
    interval: ClassVar[str] = "bootstrap over the rows that are judged, the attack held fixed"
    cost: ClassVar[str] = "an SVM per feature, on at most 2000 rows a side"
    needs: ClassVar[str] = "a classifier and labels of forget, retain and test rows"
    paper: ClassVar[str] = "SalUn, Fan et al., arXiv 2310.12508, after Song and Mittal, arXiv 2003.10595"


class MemberEntropy(WholeFigure):
    """Bad Teacher's attack."""

    name: ClassVar[str] = "mia_member_entropy"
    title: ClassVar[str] = "share of forget rows called members, by entropy"
    definition: ClassVar[str] = (
        "An SVM tells retain from test rows by the entropy of the output; the share of forget rows called retain."
    )
    interval: ClassVar[str] = "bootstrap over the rows that are judged, the attack held fixed"
    cost: ClassVar[str] = "an SVM on at most 2000 rows a side"
    needs: ClassVar[str] = "a classifier"
    paper: ClassVar[str] = "Bad Teacher, Chundawat et al., arXiv 2205.08096"


class MemberEntropyLogistic(WholeFigure):
    """SSD's attack."""

    name: ClassVar[str] = "mia_member_entropy_logistic"
    title: ClassVar[str] = "share of forget rows called members, by entropy (logistic regression)"
    definition: ClassVar[str] = "As mia_member_entropy with a logistic regression."
    interval: ClassVar[str] = "bootstrap over the rows that are judged, the attack held fixed"
    needs: ClassVar[str] = "a classifier"
    paper: ClassVar[str] = "SSD, Foster et al., arXiv 2308.07707"


class SuccessRate(WholeFigure):
    """LAF's attack."""

    name: ClassVar[str] = "mia_success_rate"
    title: ClassVar[str] = "success rate of an attack with boosted trees"
    definition: ClassVar[str] = (
        "Boosted trees on the sorted class probabilities are fitted on retain rows against one half of the test rows and tried on "
        "forget rows against the other half, in equal numbers: share right, 0.5 is chance."
    )
    interval: ClassVar[str] = "bootstrap over the rows that are judged, the attack held fixed"
    cost: ClassVar[str] = "boosted trees on at most 2000 rows a side: the longest of the attacks"
    needs: ClassVar[str] = "a classifier, and ten rows on each side"
    paper: ClassVar[str] = "LAF, Shen et al., arXiv 2404.00506"


class MemberError(WholeFigure):
    """The attack on a regressor."""

    name: ClassVar[str] = "mia_member_error"
    title: ClassVar[str] = "share of forget rows called members, by error"
    definition: ClassVar[str] = "An SVM tells retain from test rows by the absolute error; the share of forget rows called retain."
    interval: ClassVar[str] = "bootstrap over the rows that are judged, the attack held fixed"
    needs: ClassVar[str] = "a regressor or forecaster and targets"
    paper: ClassVar[str] = "Tarun et al., Deep Regression Unlearning, arXiv 2210.08196"


class ActivationDistance(NetFigure):
    """Distance of answers."""

    name: ClassVar[str] = "activation_distance"
    title: ClassVar[str] = "activation distance"
    aim: ClassVar[Aim] = "zero"
    aim_elsewhere: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = "Mean L2 distance of the softmax outputs to the retrained net's on the same rows, 0 to sqrt 2."
    needs: ClassVar[str] = "a classifier and a retrained net"
    paper: ClassVar[str] = "Golatkar et al., arXiv 1911.04933"


class Agreement(NetFigure):
    """Same class."""

    name: ClassVar[str] = "agreement"
    title: ClassVar[str] = "agreement with the retrained net"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = "Share of the rows on which the most probable class is the retrained net's."
    needs: ClassVar[str] = "a classifier and a retrained net"


class Wasserstein(NetFigure):
    """Distance of predictions as a whole."""

    name: ClassVar[str] = "wasserstein"
    title: ClassVar[str] = "Wasserstein distance of predictions"
    aim: ClassVar[Aim] = "zero"
    aim_elsewhere: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = "First Wasserstein distance of all predictions to the retrained net's, in the unit of the target."
    needs: ClassVar[str] = "a regressor or forecaster and a retrained net"
    paper: ClassVar[str] = "Tarun et al., Deep Regression Unlearning, arXiv 2210.08196"


class Distribution(NetFigure):
    """Distance of distributions."""

    name: ClassVar[str] = "ks"
    title: ClassVar[str] = "Kolmogorov-Smirnov distance"
    aim: ClassVar[Aim] = "zero"
    aim_elsewhere: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = (
        "Largest difference of the distribution functions of predictions (of a classifier: margins) to the retrained net's; "
        "log10 p and the smallest log10 p possible stand beside it."
    )
    interval: ClassVar[str] = "bootstrap over rows, the same rows of both nets"
    needs: ClassVar[str] = "a retrained net"


class PairedDifference(NetFigure):
    """Difference row by row."""

    name: ClassVar[str] = "paired_difference"
    title: ClassVar[str] = "paired difference"
    aim: ClassVar[Aim] = "zero"
    aim_elsewhere: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = (
        "Mean |prediction - the retrained net's prediction of the same row|; a Wasserstein distance hides swaps."
    )
    needs: ClassVar[str] = "a regressor or forecaster and a retrained net"


class ZeroRetrainForgetting(WholeFigure):
    """Likeness to a net that learnt nothing."""

    name: ClassVar[str] = "zrf"
    title: ClassVar[str] = "zero-retrain forgetting score"
    definition: ClassVar[str] = (
        "1 - mean Jensen-Shannon divergence (in nats) of the outputs on the forget rows to an untrained net's. `published_code` in "
        "its details is the published code's other formula. The aim is the retrained net's value, not 1."
    )
    cost: ClassVar[str] = "a forward pass of an untrained net over the forget rows"
    needs: ClassVar[str] = "a classifier and a freshly initialised net"
    paper: ClassVar[str] = "Bad Teacher, Chundawat et al., arXiv 2205.08096"


class AverageGap(NetFigure):
    """The summary."""

    name: ClassVar[str] = "average_gap"
    title: ClassVar[str] = "average gap to the retrained net"
    aim: ClassVar[Aim] = "zero"
    aim_elsewhere: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = (
        "Mean over forget, retain and test rows (kept and forgotten classes of the test rows apart) and mia_matched of the "
        "absolute difference to the retrained net, in points: hundredths of accuracy, or of the targets' standard deviation."
    )
    interval: ClassVar[str] = "bootstrap over rows, the same rows of both nets, the attack held fixed"
    needs: ClassVar[str] = "a retrained net"
    paper: ClassVar[str] = "SalUn, Fan et al., arXiv 2310.12508, Table 1"


class RelearnSteps(WholeFigure):
    """How fast it comes back."""

    name: ClassVar[str] = "relearn_steps"
    title: ClassVar[str] = "relearn time"
    definition: ClassVar[str] = (
        "Optimiser steps on all training rows, on a copy, until the error on the forget rows is within 5 % of the original's; not "
        "available where the cap comes first, and the reason names it."
    )
    interval: ClassVar[str] = "none"
    cost: ClassVar[str] = "training, and a look at no more than 500 rows after every step"
    needs: ClassVar[str] = "a net that can be trained, labels and the original net"
    paper: ClassVar[str] = "Tarun et al., Deep Regression Unlearning, arXiv 2210.08196"


class AnamnesisIndex(WholeFigure):
    """Whether it comes back faster than it should."""

    name: ClassVar[str] = "anamnesis_index"
    title: ClassVar[str] = "anamnesis index"
    definition: ClassVar[str] = (
        "Relearn time over the retrained net's, both on copies: near 0 the knowledge was only hidden, near 1 it is learnt no "
        "faster than by a net that never saw the rows."
    )
    variants: ClassVar[dict[str, str]] = {
        "strict": "the definition; the published code trains the retrained net in place, so that a second call starts ahead"
    }
    interval: ClassVar[str] = "none"
    cost: ClassVar[str] = RelearnSteps.cost
    needs: ClassVar[str] = "what relearn_steps needs, and a retrained net"
    paper: ClassVar[str] = "Chundawat et al., Zero-Shot Machine Unlearning, arXiv 2201.05629"
