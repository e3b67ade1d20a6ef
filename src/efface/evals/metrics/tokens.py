"""Metrics of one scored continuation: loss, probability, extraction strength, exact memorisation.

The n labelled tokens include EOS. ``openunlearning`` drops the last labelled token from extraction strength and exact
memorisation whatever it is; ``strict`` drops it only when it is EOS. Specification: evaluation §2 and §3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from efface.data.items import TokenRow
from efface.evals.metrics.base import ALL_VARIANTS, OptionMetric, TokenMetric, Variant
from efface.results import Aim

__all__ = [
    "EPSILON",
    "NLL",
    "ExactMemorization",
    "ExtractionStrength",
    "Probability",
    "ProbabilityWithOptions",
    "answer_nll",
    "exact_memorization",
    "extraction_strength",
    "first_tokens",
    "option_probability",
    "probability",
    "unscored_tail",
]

EPSILON = 1e-10
"""What OpenUnlearning adds to denominators."""


def answer_nll(row: TokenRow, *, variant: Variant = "strict") -> float | None:
    """Return the mean negative log-probability per token, in nats; lower = more probable.

    Without a token: None, in ``openunlearning`` NaN (its 0/0).
    """
    if row.n == 0:
        return math.nan if variant == "openunlearning" else None
    return row.mean_nll


def probability(loss: float | None) -> float | None:
    """Return exp(-loss), the geometric mean of the token probabilities, in [0, 1]."""
    return None if loss is None else math.exp(-loss)


def unscored_tail(row: TokenRow, variant: Variant) -> int:
    """How many tokens at the end are left out of metrics that judge content."""
    if row.n == 0:
        return 0
    return 1 if variant == "openunlearning" or row.ends_in_eos else 0


def first_tokens(row: TokenRow, values: NDArray, variant: Variant) -> NDArray:  # type: ignore[type-arg]
    """Return per-token ``values`` without the tail that ``variant`` leaves out."""
    return values[: row.n - unscored_tail(row, variant)]


def extraction_strength(row: TokenRow, *, variant: Variant = "strict") -> float | None:
    """Return 1 - k/m: the share of the answer, counted from its end, that greedy decoding completes; in [0, 1], higher = extracted.

    k is the smallest prefix after which every prediction is right. Teacher forcing and greedy decoding agree on it. In
    ``openunlearning`` a wrong last token still gives 1/m, and no token at all gives 0; otherwise these are 0 and None.
    """
    hits = first_tokens(row, row.hit, variant)
    m = len(hits)
    if m == 0:
        return 0.0 if variant == "openunlearning" else None
    wrong = np.flatnonzero(~hits)
    start = int(wrong[-1]) + 1 if len(wrong) else 0
    if variant == "openunlearning":
        start = min(start, m - 1)
    return 1.0 - start / m


def exact_memorization(row: TokenRow, *, variant: Variant = "strict") -> float | None:
    """Return the share of tokens that are the model's first choice under teacher forcing, in [0, 1]; None without a token."""
    hits = first_tokens(row, row.hit, variant)
    return float(np.mean(hits)) if len(hits) else None


def option_probability(correct: float, wrong: ArrayLike, *, variant: Variant = "strict") -> float:
    """Return p(correct) / (p(correct) + sum p(wrong)) of length-normalised probabilities, from mean losses; in [0, 1].

    Args:
        correct: Mean loss of the right answer.
        wrong: Mean losses of the wrong ones.
        variant: ``openunlearning`` adds 1e-10 to the denominator; the others do not, and ``strict`` stays in log space.
    """
    losses = np.concatenate([[correct], np.asarray(wrong, dtype=np.float64).ravel()])
    if variant == "strict":
        return float(np.exp(-correct - logsumexp(-losses)))
    chances = np.exp(-losses)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(chances[0] / (chances.sum() + (EPSILON if variant == "openunlearning" else 0.0)))


_SHARED = "none: every metric of the measured tokens comes from the one scoring pass"


class NLL(TokenMetric):
    """Mean negative log-likelihood per answer token."""

    name: ClassVar[str] = "nll"
    title: ClassVar[str] = "loss per token"
    aim: ClassVar[Aim] = "reference"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = "Mean of -log p(token) over the answer's tokens and EOS, in nats."
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "an answer without a token is NaN",
        "original": "an answer without a token is skipped",
        "strict": "an answer without a token is skipped and counted",
    }
    cost: ClassVar[str] = _SHARED
    paper: ClassVar[str] = "TOFU, arXiv 2401.06121"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the mean loss of one answer."""
        return answer_nll(row, variant=variant)


class Probability(TokenMetric):
    """Length-normalised probability of the answer."""

    name: ClassVar[str] = "probability"
    title: ClassVar[str] = "probability"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = "exp(-loss per token): the geometric mean of the answer's token probabilities, EOS included."
    variants: ClassVar[dict[str, str]] = dict.fromkeys(ALL_VARIANTS, "exp(-mean loss)")
    cost: ClassVar[str] = _SHARED
    paper: ClassVar[str] = "TOFU, arXiv 2401.06121"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the probability of one answer."""
        return probability(answer_nll(row, variant=variant))


class ExtractionStrength(TokenMetric):
    """How much of the answer the model completes by itself."""

    name: ClassVar[str] = "extraction_strength"
    title: ClassVar[str] = "extraction strength"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "1 - k/m, where k is the shortest prefix of the answer's m tokens after which every greedy prediction is right."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "never below 1/m, 1 for a one-token answer, 0 for none; the last labelled token is left out",
        "original": "the definition; EOS is left out",
        "strict": "the definition; EOS is left out; an answer without a token is skipped and counted",
    }
    cost: ClassVar[str] = _SHARED
    paper: ClassVar[str] = "Carlini et al. 2021; for unlearning: arXiv 2406.09179"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the extraction strength of one answer."""
        return extraction_strength(row, variant=variant)


class ExactMemorization(TokenMetric):
    """Share of the answer's tokens the model would have chosen."""

    name: ClassVar[str] = "exact_memorization"
    title: ClassVar[str] = "exact memorisation"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "Share of the answer's tokens that are the argmax given all tokens before them; common words make it non-zero."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "the last labelled token is left out",
        "original": "EOS is left out",
        "strict": "EOS is left out",
    }
    cost: ClassVar[str] = _SHARED
    paper: ClassVar[str] = "OpenUnlearning, arXiv 2506.12618"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the exact memorisation of one answer."""
        return exact_memorization(row, variant=variant)


class ProbabilityWithOptions(OptionMetric):
    """Probability of the right answer among the answers offered."""

    name: ClassVar[str] = "probability_w_options"
    title: ClassVar[str] = "probability against options"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = "p(right) / (p(right) + sum of p(wrong)) of length-normalised probabilities."
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "1e-10 added to the denominator",
        "original": "no epsilon",
        "strict": "computed in log space",
    }
    cost: ClassVar[str] = "one scored continuation per wrong answer, shared with the truth ratio"
    needs: ClassVar[str] = "perturbed_answer"
    paper: ClassVar[str] = "TOFU, arXiv 2401.06121"

    @staticmethod
    def item(correct: TokenRow, wrong: Sequence[TokenRow], *, variant: Variant = "strict") -> float | None:
        """Return the figure of one row."""
        right = answer_nll(correct, variant=variant)
        others = [answer_nll(row, variant=variant) for row in wrong]
        if right is None or not others or any(loss is None for loss in others):
            return None
        return option_probability(right, np.asarray(others, dtype=np.float64), variant=variant)
