"""Meta-evaluation: does a metric deserve trust? (OpenUnlearning, Dorna et al., arXiv 2506.12618.) Specification: evaluation §10.

For a metric that is oriented so that higher = more knowledge left:

    faithfulness  AUC that tells models trained on the facts (P) from models that never saw them (N)
    R             does the unlearned model regain the metric under relearning no faster than the retrained model gains it?
    Q             does the metric stay where it was when the model is quantised?
    robustness    HM(R, Q);   overall  HM(faithfulness, robustness)

The forms here are symmetric by default, as in gnueaj/unlearning-depth-score: bounded, and without the question which way the
published ratio of Q points, which its text leaves open. ``one_sided`` gives the ratios of that text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from efface.stats import auc, harmonic_mean

__all__ = ["Form", "faithfulness", "meta_overall", "metric_robustness", "quantisation_robustness", "relearning_robustness"]

Form = Literal["symmetric", "one_sided"]
NO_CHANGE = 1e-9
"""Changes below this are none: nothing was regained, so nothing speaks against the metric."""


def faithfulness(trained: Sequence[float], never_trained: Sequence[float]) -> float:
    """Return the AUC of the metric between models that learnt the facts and models that did not; 1 = it tells them apart."""
    return auc(never_trained, trained)


def relearning_robustness(unlearned_change: float, retrained_change: float, *, form: Form = "symmetric") -> float:
    """Return R in [0, 1]; higher = the unlearned model does not come back faster than the retrained one learns.

    Args:
        unlearned_change: Metric before minus after relearning, of the unlearned model.
        retrained_change: The same of the retrained model.
        form: "symmetric": 1 - |Du - Dr| / (|Du| + |Dr|); "one_sided": min(Dr / Du, 1), at least 0.
    """
    if form == "symmetric":
        return _agreement(unlearned_change, retrained_change)
    if abs(unlearned_change) < NO_CHANGE:
        return 1.0
    return min(1.0, max(0.0, retrained_change / unlearned_change))


def quantisation_robustness(before: float, after: float, *, form: Form = "symmetric") -> float:
    """Return Q in [0, 1]; higher = quantisation brings nothing back.

    Args:
        before: Metric of the unlearned model.
        after: Metric of the same model, quantised.
        form: "symmetric": 1 - |a - b| / (|a| + |b|); "one_sided": min(before / after, 1), which penalises a rise only.
    """
    if form == "symmetric":
        return _agreement(before, after)
    if abs(after) < NO_CHANGE:
        return 1.0
    return min(1.0, max(0.0, before / after))


def metric_robustness(relearning: float, quantisation: float) -> float:
    """Return the harmonic mean of R and Q."""
    return harmonic_mean([relearning, quantisation])


def meta_overall(faithful: float, robustness: float) -> float:
    """Return the harmonic mean of faithfulness and robustness."""
    return harmonic_mean([faithful, robustness])


def _agreement(first: float, second: float) -> float:
    size = abs(first) + abs(second)
    return 1.0 if size < NO_CHANGE else 1 - abs(first - second) / size
