"""The figures of ordinary nets, as the report shows them."""

from __future__ import annotations

from collections.abc import Container, Iterable

from efface.report.families import Family

__all__ = ["NET_FAMILIES", "NET_SETS", "gap_text", "is_mixed"]

NET_SETS = {
    # name: label, question
    "test": ("Test rows", "kept"),
    "test_retain": ("Test rows of what stays", "kept"),
    "test_forget": ("Test rows of what must go", "forgotten"),
}
_MATCHED = "Losses of forget rows against losses of unseen rows of the same kind, in equal numbers"

_POINT_OF_ERROR = "and of the membership attack, in points; a point of error is a hundredth of the targets' standard deviation."

NET_FAMILIES = (
    Family("accuracy", "accuracy", "Share of the rows it gets right.", "share", "*"),
    Family("mae", "mean absolute error", "How far its predictions are off, on average, in the unit of the target.", "open", "*"),
    Family(
        "pinball",
        "quantile loss",
        "How far its predicted quantiles are off, summed over the quantiles, in the unit of the target.",
        "open",
        "*",
    ),
    Family(
        "calibration_error",
        "calibration",
        "How far the share of targets below a predicted quantile lies from the quantile, on average.",
        "score",
        "test test_retain",
    ),
    Family("confidence", "confidence", "How probable it finds the true class, on average.", "score", "forget"),
    Family("prediction", "mean prediction", "The mean of what it predicts, in the unit of the target.", "open", "forget"),
    Family("mse", "mean squared error", "The same, squared.", "open"),
    Family("loss", "cross entropy", "Loss on the true class, in nats.", "open"),
    Family(
        "average_gap",
        "Average gap to the retrained model",
        "Mean difference of accuracy on every set and of the membership attack, in points.",
        "open",
        "*",
        "alike",
    ),
    Family(
        "mia_matched", "Membership attack (matched)", f"{_MATCHED}: how often an attack tells them apart.", "share", "*", "alike"
    ),
    Family("mia_matched_auc", "Membership attack (matched), AUC", f"{_MATCHED}; 0.5 is chance.", "score", "*", "alike"),
    Family(
        "mia_efficacy_confidence",
        "Forget rows called unseen",
        "Share of the forget rows that an attack on the confidence takes for rows never seen.",
        "share",
        "*",
        "alike",
    ),
    Family(
        "mia_member_error",
        "Forget rows called seen",
        "Share of the forget rows that an attack on the error takes for rows it was trained on.",
        "share",
        "*",
        "alike",
    ),
    Family(
        "mia_success_rate",
        "Membership attack (boosted trees)",
        "How often an attack on all probabilities tells forget rows from unseen rows; 50% is chance.",
        "share",
        "*",
        "alike",
    ),
    Family(
        "activation_distance",
        "distance of answers",
        "How far its probabilities lie from the retrained model's, row by row, from 0 to 1.41.",
        "open",
        "forget",
        "alike",
    ),
    Family(
        "agreement", "same answer", "Share of the rows on which it gives the retrained model's class.", "share", "forget", "alike"
    ),
    Family(
        "wasserstein",
        "distance of predictions",
        "How far its predictions as a whole lie from the retrained model's (Wasserstein), in the unit of the target.",
        "open",
        "forget",
        "alike",
    ),
    Family(
        "paired_difference",
        "difference row by row",
        "Mean difference from the retrained model's prediction of the same row, in the unit of the target.",
        "open",
        "forget",
        "alike",
    ),
    Family(
        "ks",
        "distance of distributions",
        "Kolmogorov-Smirnov distance to the retrained model's outputs.",
        "score",
        "forget",
        "alike",
    ),
    Family(
        "zrf",
        "Likeness to an untrained net",
        "How alike its answers on the forget rows are to those of a net that learnt nothing; 1 is equal.",
        "score",
        "*",
        "alike",
    ),
    Family(
        "mia_efficacy_correctness", "Forget rows called unseen, by correctness", "The attack on being right.", "share", "", "alike"
    ),
    Family("mia_efficacy_entropy", "Forget rows called unseen, by entropy", "The attack on the entropy.", "share", "", "alike"),
    Family(
        "mia_efficacy_modified_entropy",
        "Forget rows called unseen, by modified entropy",
        "The attack on the entropy that knows the label.",
        "share",
        "",
        "alike",
    ),
    Family(
        "mia_efficacy_probabilities",
        "Forget rows called unseen, by all probabilities",
        "The attack on all probabilities.",
        "share",
        "",
        "alike",
    ),
    Family("mia_member_entropy", "Forget rows called seen, by entropy", "The attack of Bad Teacher.", "share", "", "alike"),
    Family(
        "mia_member_entropy_logistic", "Forget rows called seen, by entropy (logistic)", "The attack of SSD.", "share", "", "alike"
    ),
    Family("relearn_steps", "Steps to learn again", "Steps until it knows the forget rows again.", "open", "*", "alike"),
    Family(
        "anamnesis_index",
        "Anamnesis index",
        "Steps to learn the forget rows again over the retrained model's; near 0 they were only hidden, "
        "near 1 it learns them no faster than a model that never saw them.",
        "open",
        "*",
        "alike",
    ),
)


def gap_text(names: Iterable[str]) -> str:
    """Return what the average gap is made of, or "" for a classifier; ``names``: every figure of the run."""
    names = tuple(names)
    if any(name.endswith("_pinball") for name in names):
        return f"Mean difference of the quantile loss on every set {_POINT_OF_ERROR}"
    if any(name.endswith("_mae") for name in names):
        return f"Mean difference of the mean absolute error on every set {_POINT_OF_ERROR}"
    return ""


def is_mixed(set_name: str, family: str, names: Container[str]) -> bool:
    """Return whether a figure covers test rows of what must go, while the same of the rows that stay is at hand."""
    return set_name == "test" and f"test_retain_{family}" in names
