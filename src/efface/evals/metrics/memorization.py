"""How much of a text comes out word for word: verbatim and near-verbatim spans, BLEU, and extraction by repeated sampling.

Spans are counted in words of :func:`efface.text.words`, so that case, punctuation and layout do not break them and every script
counts. (n, p)-extraction follows Hayes et al., "Measuring memorization in language models via probabilistic extraction" (arXiv
2410.19482): with p_z the probability that one sample is exactly the continuation, n samples hold it with 1 - (1 - p_z)^n.
Specification: evaluation §3, audit A2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from efface.data.items import TokenRow
from efface.evals.metrics.base import TextMetric, TokenMetric, Truth, Variant
from efface.evals.metrics.tokens import first_tokens
from efface.results import Aim
from efface.text import words

__all__ = [
    "EDITS",
    "EXTRACTION_SAMPLES",
    "EXTRACTION_TOKENS",
    "Bleu",
    "ExtractionProbability",
    "LongestNearVerbatim",
    "LongestVerbatim",
    "ProbabilityBounds",
    "at_least_once",
    "bleu",
    "continuation_probability",
    "longest_near_verbatim",
    "longest_verbatim",
    "samples_needed",
    "top_k_probability",
]

EDITS = 3
"""Words that may be changed, added or left out within a near-verbatim span."""
EXTRACTION_SAMPLES = 100
"""n of (n, p)-extraction."""
EXTRACTION_TOKENS = 50
"""Longest continuation that is judged by (n, p)-extraction, in tokens; as in the literature."""

Decoding = Literal["sampling", "greedy"]


def longest_near_verbatim(generation: Sequence[str], reference: Sequence[str], *, edits: int = EDITS) -> int:
    """Return the most words two texts share in one stretch of each, at most ``edits`` words apart.

    Changed, added and left-out words end a stretch once there are more than ``edits`` of them; they are not counted themselves, so
    that two texts without a common word score 0. With ``edits`` 0 this is the longest verbatim span.
    """
    if not generation or not reference:
        return 0
    codes = {word: code for code, word in enumerate(dict.fromkeys([*generation, *reference]))}
    written = np.array([codes[word] for word in generation])
    best = 0
    # row[e, j]: matched words of the best stretch that ends at this reference word and at generated word j, with at most e edits
    row = np.zeros((edits + 1, len(written) + 1), dtype=np.int64)
    for word in reference:
        same = written == codes[word]
        new = np.zeros_like(row)
        for e in range(edits + 1):
            new[e, 1:] = np.where(same, row[e, :-1] + 1, 0)
            if e:
                new[e, 1:] = np.maximum(new[e, 1:], row[e - 1, :-1])  # changed
                new[e] = np.maximum(new[e], row[e - 1])  # left out
                new[e, 1:] = np.maximum(new[e, 1:], new[e - 1, :-1])  # added
        best = max(best, int(new.max()))
        row = new
    return best


def longest_verbatim(generation: Sequence[str], reference: Sequence[str]) -> int:
    """Return the length of the longest run of words that stands in both."""
    return longest_near_verbatim(generation, reference, edits=0)


def bleu(generation: str, reference: str) -> float | None:
    """Return BLEU-4 of one text against one reference, in [0, 1], higher = more overlap; None where the reference has no word.

    The counting is nltk's, on words of every script. Single texts are short: counts of longer n-grams are raised by one (its second
    smoothing method, Lin and Och 2004), or one missing 4-gram would make the whole 0. A text without a common word scores 0.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    expected, written = words(reference), words(generation)
    if not expected:
        return None
    if not set(expected) & set(written):
        return 0.0
    return float(sentence_bleu([expected], written, smoothing_function=SmoothingFunction().method2))


def continuation_probability(row: TokenRow, *, tokens: int | None = None, decoding: Decoding = "sampling") -> float | None:
    """Return the probability p_z that one continuation is exactly this one; None without a token.

    Args:
        row: The continuation under teacher forcing; EOS is not part of what must come out.
        tokens: Judge only so many tokens from its beginning.
        decoding: "sampling" from the whole distribution at temperature 1, or "greedy", where p_z is 0 or 1. Other temperatures
            need the whole distribution, which a measured row does not hold.
    """
    content = first_tokens(row, np.arange(row.n), "strict")[:tokens]
    if not len(content):
        return None
    if decoding == "greedy":
        return float(row.hit[content].all())
    return math.exp(min(0.0, float(row.logp[content].sum(dtype=np.float64))))


@dataclass(frozen=True, slots=True)
class ProbabilityBounds:
    """What is known of a probability."""

    low: float
    high: float


def top_k_probability(row: TokenRow, k: int, *, tokens: int | None = None) -> ProbabilityBounds | None:
    """Return bounds of p_z under top-k sampling at temperature 1; None without a token.

    A row says the rank of each token, not the mass of the k first. A token outside of them cannot come out (exactly 0). Inside, its
    share of their mass is at least its own probability, and at most 1 / (1 + rank), since every token before it weighs as much.
    """
    content = first_tokens(row, np.arange(row.n), "strict")[:tokens]
    if not len(content):
        return None
    ranks = row.rank[content]
    if (ranks >= k).any():
        return ProbabilityBounds(0.0, 0.0)
    low = continuation_probability(row, tokens=tokens) or 0.0
    return ProbabilityBounds(low, max(low, math.exp(-float(np.log1p(ranks.astype(np.float64)).sum()))))


def at_least_once(probability: float, samples: int) -> float:
    """Return 1 - (1 - p)^n, the probability that n samples hold the continuation at least once; exact for tiny p."""
    return 1.0 if probability >= 1 else -math.expm1(samples * math.log1p(-probability))


def samples_needed(probability: float, confidence: float) -> float:
    """Return the least n with 1 - (1 - p)^n >= ``confidence``; infinite where the continuation never comes."""
    if probability <= 0:
        return math.inf
    return 1.0 if probability >= 1 else float(max(1, math.ceil(math.log1p(-confidence) / math.log1p(-probability))))


_GENERATION = "one greedy generation per row, shared by all metrics of the text"


class LongestVerbatim(TextMetric):
    """Longest run copied."""

    name: ClassVar[str] = "longest_verbatim"
    title: ClassVar[str] = "longest verbatim span"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "Length in words of the longest run that stands both in what the model writes and in the true text; the mean over rows, "
        "with the longest of all beside it."
    )
    cost: ClassVar[str] = _GENERATION
    needs: ClassVar[str] = ""

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the length in words, or None where the true text has no word."""
        reference = words(truth.reference)
        return float(longest_verbatim(words(generation), reference)) if reference else None


class LongestNearVerbatim(TextMetric):
    """Longest run copied with small changes."""

    name: ClassVar[str] = "longest_near_verbatim"
    title: ClassVar[str] = "longest near-verbatim span"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        f"Most words that one stretch of what the model writes shares in order with one stretch of the true text, at most {EDITS} "
        "words of either changed, added or left out (these are not counted)."
    )
    cost: ClassVar[str] = _GENERATION

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the number of shared words, or None where the true text has no word."""
        reference = words(truth.reference)
        return float(longest_near_verbatim(words(generation), reference)) if reference else None


class Bleu(TextMetric):
    """Overlap of n-grams."""

    name: ClassVar[str] = "bleu"
    title: ClassVar[str] = "BLEU"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "BLEU-4 of the greedy continuation against the true one, per row, on words of every script, counts of 2- to 4-grams raised "
        "by one (nltk's method 2)."
    )
    cost: ClassVar[str] = _GENERATION
    paper: ClassVar[str] = "Papineni et al. 2002; smoothing: Lin and Och 2004"

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the BLEU of one continuation."""
        return bleu(generation, truth.reference)


class ExtractionProbability(TokenMetric):
    """Extraction by repeated sampling."""

    name: ClassVar[str] = "extraction_probability"
    title: ClassVar[str] = f"extraction in {EXTRACTION_SAMPLES} samples"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        f"(n, p)-extraction: 1 - (1 - p_z)^n with n = {EXTRACTION_SAMPLES} and p_z the chance that one sample at temperature 1 "
        f"begins with the true continuation (its first {EXTRACTION_TOKENS} tokens at most), from token log-probabilities; nothing "
        "is sampled. Beside the mean: p_z, what greedy decoding gives, and the share of rows that come out with p >= 0.5."
    )
    variants: ClassVar[dict[str, str]] = {"strict": "the definition; a row without a token is skipped and counted"}
    cost: ClassVar[str] = "none: every metric of the measured tokens comes from the one scoring pass"
    paper: ClassVar[str] = "Hayes et al., arXiv 2410.19482"

    @staticmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the probability that one of the samples is the continuation."""
        probability = continuation_probability(row, tokens=EXTRACTION_TOKENS)
        return None if probability is None else at_least_once(probability, EXTRACTION_SAMPLES)
