"""Membership inference on measured rows. Specification: evaluation §6.

Every score rises as membership becomes less likely; the forget rows are compared with holdout rows the model never saw, and
AUC = P(holdout score > forget score) + ties / 2. So 1 = the forget rows are plainly still members, 0.5 = no difference, below
0.5 = the forget rows look *less* like members than unseen data (over-unlearned).
"""

from __future__ import annotations

import math
import zlib
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from efface.data.items import TokenRow
from efface.evals.metrics.base import Definition, TokenMetric, Variant
from efface.evals.metrics.tokens import EPSILON, answer_nll, first_tokens
from efface.registry import METRICS
from efface.results import Aim

__all__ = [
    "MIN_K",
    "MembershipGradNorm",
    "MembershipLoss",
    "MembershipMinK",
    "MembershipMinKPlusPlus",
    "MembershipReference",
    "MembershipZlib",
    "PrivLeak",
    "RelDiff",
    "attack_score",
    "loss_ratio",
    "min_k",
    "min_k_plus_plus",
    "privleak",
    "reference_score",
    "rel_diff",
    "zlib_score",
]

MIN_K = 0.4
"""Share of least likely tokens; OpenUnlearning's and MUSE's setting."""

_VAR_FLOOR = 1e-6


def zlib_score(row: TokenRow, text: str | None = None, *, variant: Variant = "strict") -> float | None:
    """Return loss per token divided by the bytes of the zlib-compressed text (the row's own unless ``text`` is given)."""
    loss = answer_nll(row, variant=variant)
    return None if loss is None else loss / len(zlib.compress((row.text if text is None else text).encode()))


def _smallest(values: NDArray[np.floating], share: float, variant: Variant) -> float | None:
    """Negative mean of the smallest ``share`` of the values."""
    n = len(values)
    count = int(share * n)
    if variant != "original":
        if n == 0:
            return 0.0 if variant == "openunlearning" else None
        count = max(1, count)
    if count == 0:  # MUSE: a text shorter than 1/share tokens has no score
        return math.nan
    return float(-np.mean(np.sort(values.astype(np.float64))[:count]))


def _content(row: TokenRow, values: NDArray[np.floating], variant: Variant) -> NDArray[np.floating]:
    return values if variant == "original" else first_tokens(row, values, variant)


def min_k(row: TokenRow, *, share: float = MIN_K, variant: Variant = "strict") -> float | None:
    """Return minus the mean of the ``share`` smallest token log-probabilities.

    ``openunlearning`` leaves out the last labelled token and scores an empty row 0; ``original`` (MUSE) takes all tokens and has no
    lower bound of one token; ``strict`` leaves out EOS only and skips empty rows.
    """
    return _smallest(_content(row, row.logp, variant), share, variant)


def min_k_plus_plus(row: TokenRow, *, share: float = MIN_K, variant: Variant = "strict") -> float | None:
    """Return minus the mean of the ``share`` smallest standardised log-probabilities (log p - mean) / sd over the vocabulary."""
    deviation = np.sqrt(np.maximum(row.var.astype(np.float64), _VAR_FLOOR))
    return _smallest(_content(row, (row.logp - row.mean) / deviation, variant), share, variant)


def reference_score(row: TokenRow, reference: TokenRow, *, variant: Variant = "strict") -> float | None:
    """Return the loss under the model minus the loss under a reference model with the same tokenizer."""
    own, other = answer_nll(row, variant=variant), answer_nll(reference, variant=variant)
    return None if own is None or other is None else own - other


def attack_score(name: str, row: TokenRow, *, share: float = MIN_K, variant: Variant = "strict") -> float | None:
    """Return the score of one row under a registered attack; ``share`` is the k of the min-k attacks."""
    definition = METRICS.get(name)
    if issubclass(definition, MembershipMinK | MembershipMinKPlusPlus):
        score = min_k if definition is MembershipMinK else min_k_plus_plus
        return score(row, share=share, variant=variant)
    value: float | None = definition.item(row, variant=variant)
    return value


def loss_ratio(row: TokenRow, lowered: TokenRow) -> float | None:
    """Return the loss of a text divided by that of the same text in lower case (MUSE's "PPL/lower")."""
    own, other = answer_nll(row), answer_nll(lowered)
    return None if own is None or not other else own / other


def privleak(auc: float, auc_reference: float | None, *, variant: Variant = "strict") -> float | None:
    """Return 100 ((1 - auc) - (1 - ref)) / (1 - ref) in MUSE's sign: 0 is the aim, negative = under-unlearned, positive = over.

    Args:
        auc: AUC of the model, as defined at the top of this module.
        auc_reference: AUC of the retrained model; without it ``openunlearning`` takes 0.5, the others have no value.
        variant: ``openunlearning`` adds 1e-10 to the denominator; elsewhere a denominator of 0 gives None.
    """
    if variant == "openunlearning":
        reference = 0.5 if auc_reference is None else auc_reference
        return 100 * ((1 - auc) - (1 - reference)) / ((1 - reference) + EPSILON)
    if auc_reference is None or auc_reference >= 1:
        return None
    return 100 * ((1 - auc) - (1 - auc_reference)) / (1 - auc_reference)


def rel_diff(auc: float, auc_reference: float | None, *, variant: Variant = "strict") -> float | None:
    """Return 100 (auc - ref) / ref: 0 is the aim. Rules for a missing or zero reference as in :func:`privleak`."""
    if variant == "openunlearning":
        reference = 0.5 if auc_reference is None else auc_reference
        return 100 * (auc - reference) / (reference + EPSILON)
    if not auc_reference:
        return None
    return 100 * (auc - auc_reference) / auc_reference


_INTERVAL = "bootstrap over entities of both sets, 2000 draws, percentile"
_NEEDS = "holdout rows the model never saw"
_COST = "the scoring pass over the holdout rows, shared by all membership metrics"
_PLAIN = {
    "openunlearning": "the definition; an empty row counts with NaN or 0",
    "original": "the definition",
    "strict": "an empty row is left out and counted",
}


class _Membership(TokenMetric):
    aim: ClassVar[Aim] = "reference"
    variants: ClassVar[dict[str, str]] = _PLAIN
    interval: ClassVar[str] = _INTERVAL
    cost: ClassVar[str] = _COST
    needs: ClassVar[str] = _NEEDS


class MembershipLoss(_Membership):
    """Loss attack."""

    name: ClassVar[str] = "mia_loss"
    title: ClassVar[str] = "membership AUC, loss"
    definition: ClassVar[str] = "AUC of the loss per token, forget against holdout rows; 1 = plainly members, 0.5 = no difference."
    paper: ClassVar[str] = "Yeom et al. 2018"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the score of one row."""
        return answer_nll(row, variant=variant)


class MembershipZlib(_Membership):
    """Loss against compressed size."""

    name: ClassVar[str] = "mia_zlib"
    title: ClassVar[str] = "membership AUC, zlib"
    definition: ClassVar[str] = "AUC of the loss per token divided by the bytes of the zlib-compressed answer."
    paper: ClassVar[str] = "Carlini et al. 2021"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the score of one row."""
        return zlib_score(row, variant=variant)


class MembershipMinK(_Membership):
    """Least likely tokens."""

    name: ClassVar[str] = "mia_min_k"
    title: ClassVar[str] = "membership AUC, min-40%"
    definition: ClassVar[str] = "AUC of minus the mean of the 40 % least likely token log-probabilities."
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "the last labelled token is left out, at least one token counts, an empty row scores 0",
        "original": "MUSE: all tokens, a text shorter than 1/k tokens is NaN",
        "strict": "EOS is left out, at least one token counts, an empty row is left out and counted",
    }
    paper: ClassVar[str] = "Shi et al. 2023; MUSE, arXiv 2407.06460"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the score of one row."""
        return min_k(row, variant=variant)


class MembershipMinKPlusPlus(_Membership):
    """Least likely tokens, standardised over the vocabulary."""

    name: ClassVar[str] = "mia_min_k_plus_plus"
    title: ClassVar[str] = "membership AUC, min-40%++"
    definition: ClassVar[str] = (
        "As min-40% with each token's log-probability standardised by the mean and standard deviation of log p over the vocabulary."
    )
    variants: ClassVar[dict[str, str]] = MembershipMinK.variants
    paper: ClassVar[str] = "Zhang et al., arXiv 2404.02936"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the score of one row."""
        return min_k_plus_plus(row, variant=variant)


class MembershipReference(Definition):
    """Loss against a reference model."""

    name: ClassVar[str] = "mia_reference"
    title: ClassVar[str] = "membership AUC, reference"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = "AUC of the loss per token minus the loss under the retrained model."
    variants: ClassVar[dict[str, str]] = _PLAIN
    interval: ClassVar[str] = _INTERVAL
    cost: ClassVar[str] = "none beside the losses of both models"
    needs: ClassVar[str] = "holdout rows, and results of the retrained model on the same rows"
    paper: ClassVar[str] = "Carlini et al. 2021"


class MembershipGradNorm(Definition):
    """Gradient norm."""

    name: ClassVar[str] = "mia_gradnorm"
    title: ClassVar[str] = "membership AUC, gradient norm"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = (
        "AUC of the 2-norm of the gradient, by all weights, of the loss per token: a trained row pulls the weights less."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": (
            "mean over weight tensors of the norm of each; dropout acts (seeded here); the last labelled token is left out"
        ),
        "original": "norm of the whole gradient; dropout off; EOS is left out",
        "strict": "norm of the whole gradient; dropout off; EOS is left out; a row without a token is skipped and counted",
    }
    interval: ClassVar[str] = _INTERVAL
    cost: ClassVar[str] = "one forward and one backward pass per row of both sets, one row at a time, and memory for one gradient"
    needs: ClassVar[str] = "holdout rows the model never saw; a local model, whose gradients can be taken"
    paper: ClassVar[str] = "OpenUnlearning, arXiv 2506.12618"


class PrivLeak(Definition):
    """Privacy leakage against the retrained model."""

    name: ClassVar[str] = "privleak"
    title: ClassVar[str] = "privacy leakage"
    aim: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = (
        "100 ((1 - AUC) - (1 - AUC of the retrained model)) / (1 - AUC of the retrained model), AUC of min-40%. "
        "Strongly negative = "
        "under-unlearned (-100 at worst), positive = over-unlearned. Both AUCs are shown, since the ratio blows up near 1."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "1e-10 in the denominator; without a retrained model its AUC is taken to be 0.5",
        "original": "MUSE: not available without a retrained model",
        "strict": "not available without a retrained model",
    }
    interval: ClassVar[str] = "from the interval of the AUC, the retrained model's held fixed"
    cost: ClassVar[str] = "none beside min-40%"
    needs: ClassVar[str] = "holdout rows, and results of the retrained model on the same rows"
    paper: ClassVar[str] = "MUSE, arXiv 2407.06460"


class RelDiff(Definition):
    """Relative difference of AUCs."""

    name: ClassVar[str] = "rel_diff_min_k"
    title: ClassVar[str] = "relative AUC difference"
    aim: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = "100 (AUC - AUC of the retrained model) / AUC of the retrained model, AUC of min-40%."
    variants: ClassVar[dict[str, str]] = PrivLeak.variants
    interval: ClassVar[str] = "from the interval of the AUC, the retrained model's held fixed"
    cost: ClassVar[str] = "none beside min-40%"
    needs: ClassVar[str] = "holdout rows, and results of the retrained model on the same rows"
    paper: ClassVar[str] = "OpenUnlearning, arXiv 2506.12618"
