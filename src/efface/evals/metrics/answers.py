"""Metrics of what a model writes: ROUGE, fact accuracy, refusals, repetition. Specification: evaluation §4 and §9."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from efface.data.schema import Row
from efface.evals.metrics.base import TextMetric, Truth, Variant
from efface.results import Aim
from efface.text import RougeScores, fact_match, is_refusal, normalise, rouge, words

__all__ = [
    "Chance",
    "FactAccuracy",
    "RefusalRate",
    "Rouge",
    "TokenEntropy",
    "WordEntropy",
    "chance_level",
    "rouge_scores",
    "token_entropy",
]


def rouge_scores(generation: str, reference: str, *, variant: Variant = "strict") -> RougeScores | None:
    """Return ROUGE with stemmed words, as TOFU and OpenUnlearning compute it.

    ``strict`` keeps words of every script, where the published tokenizer drops all but ASCII; a reference that holds no word at all
    gives None there instead of 0.
    """
    if variant != "strict":
        return rouge(generation, reference)
    return rouge(generation, reference, tokenizer="unicode") if words(reference) else None


@dataclass(frozen=True, slots=True)
class TokenEntropy:
    """Unigram entropy of a text.

    Attributes:
        bits: Entropy in bits.
        normalised: Divided by log2 of the number of tokens, in [0, 1]; 0 for at most one token; low = repetitive.
    """

    bits: float
    normalised: float


def token_entropy(tokens: Sequence[str]) -> TokenEntropy:
    """Return the unigram entropy of a sequence of tokens; higher = less repetition. Short texts score near 1."""
    if len(tokens) <= 1:
        return TokenEntropy(0.0, 0.0)
    total = len(tokens)
    bits = -sum(count / total * math.log2(count / total) for count in Counter(tokens).values())
    return TokenEntropy(bits + 0.0, bits / math.log2(total) + 0.0)


@dataclass(frozen=True, slots=True)
class Chance:
    """What a model that knows only which values are common would score.

    Attributes:
        level: Expected fact accuracy, in [0, 1].
        basis: How it was made, in words.
    """

    level: float
    basis: str


def chance_level(rows: Iterable[Row], pool: Iterable[Row] = ()) -> Chance | None:
    """Return the chance level of fact accuracy on ``rows``, or None where the rows say nothing about it.

    Rows with an attribute: how often their value is the value of that attribute among ``pool`` (the retain rows: what the model may
    still know), each entity counted once; among the rows themselves without a pool. Rows with wrong answers only: 1 / (1 + their
    number).

    Args:
        rows: The rows that are measured.
        pool: Rows whose values the model has seen.
    """
    judged = [row for row in rows if row.value]
    sources = [row for row in pool if row.value and row.attribute]
    basis = "frequency of the value among the retain rows of its attribute"
    if not sources:
        sources = [row for row in judged if row.attribute]
        basis = "frequency of the value among the rows of its attribute"
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for attribute, _, value in {(row.attribute or "", row.entity, normalise(row.value or "")) for row in sources}:
        counts[attribute][value] += 1
    levels = []
    for row in judged:
        known = counts.get(row.attribute or "")
        if row.attribute and known:
            levels.append(known[normalise(row.value or "")] / known.total())
        elif row.perturbed_answer:
            levels.append(1 / (1 + len(row.perturbed_answer)))
            basis = "one in the number of answers offered"
    return Chance(sum(levels) / len(levels), basis) if levels else None


_GENERATION = "one greedy generation per row, shared by all metrics of the text"


class Rouge(TextMetric):
    """Overlap of the answer's wording."""

    name: ClassVar[str] = "rouge"
    title: ClassVar[str] = "ROUGE-L recall"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "Longest common subsequence of words divided by the reference's words, of the greedy answer against the "
        "true one; ROUGE-L F1 and ROUGE-1 recall stand beside it."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "rouge-score 0.1.2 with stemmer; text without ASCII letters scores 0",
        "original": "the same",
        "strict": "the same on words of every script; a reference without words is skipped and counted",
    }
    cost: ClassVar[str] = _GENERATION
    paper: ClassVar[str] = "TOFU, arXiv 2401.06121"

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the ROUGE-L recall of one answer."""
        scores = rouge_scores(generation, truth.reference, variant=variant)
        return None if scores is None else scores.rougeL_recall


class FactAccuracy(TextMetric):
    """Share of answers that contain the fact."""

    name: ClassVar[str] = "fact_accuracy"
    title: ClassVar[str] = "fact accuracy"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "Share of greedy answers in which the row's value (or an alias) stands between word borders, in NFKC and case-folded. "
        "Its chance level is printed beside it."
    )
    cost: ClassVar[str] = _GENERATION
    needs: ClassVar[str] = "value"

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return 1 where the fact is told, 0 where it is not, None where the row names no value."""
        return float(fact_match(generation, truth.value, truth.aliases)) if truth.value else None


class RefusalRate(TextMetric):
    """Share of answers that decline."""

    name: ClassVar[str] = "refusal_rate"
    title: ClassVar[str] = "refusal rate"
    aim: ClassVar[Aim] = "reference"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "Share of greedy answers whose first sentence declines (a small set of phrasings, or a denial in the first person of "
        "knowing or telling), or that resemble a refusal handed in by the caller. An empty answer is not a refusal."
    )
    cost: ClassVar[str] = _GENERATION

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return 1 for a refusal, else 0."""
        return float(is_refusal(generation, truth.refusals))


class WordEntropy(TextMetric):
    """How little the answers repeat themselves."""

    name: ClassVar[str] = "word_entropy"
    title: ClassVar[str] = "word entropy"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = (
        "Entropy of the words of the greedy answer divided by log2 of their number; 1 = no word twice, near 0 = "
        "one word over and over, 0 for an answer of at most one word. The published token entropy "
        "(efface.evals.metrics.answers.token_entropy) counts the model's own tokens instead."
    )
    cost: ClassVar[str] = _GENERATION
    paper: ClassVar[str] = "after Yuan et al., arXiv 2410.08109 (which counts tokens)"

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the normalised word entropy of one answer."""
        return token_entropy(words(generation)).normalised
