"""Whether what a model writes is still language. Specification: evaluation §9.

Offline: how often it repeats itself, how many of its n-grams differ, and how probable a reference model finds it. A classifier
(OpenUnlearning uses ``madhurjindal/autonlp-Gibberish-Detector-492513457``) comes by path through
:class:`~efface.evals.judges.Judges`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from efface.evals.metrics.base import Definition, TextMetric, Truth, Variant
from efface.results import Aim
from efface.text import words

__all__ = [
    "DISTINCT_N",
    "REPETITION_N",
    "ClassifierFluency",
    "Distinct",
    "ReferencePerplexity",
    "RepetitionRate",
    "distinct_share",
]

REPETITION_N = 4
DISTINCT_N = 2


def distinct_share(tokens: Sequence[str], n: int) -> float | None:
    """Return the number of different n-grams divided by the number of n-grams, in (0, 1]; None where the text is too short."""
    grams = [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


_GENERATION = "one greedy generation per row, shared by all metrics of the text"


class RepetitionRate(TextMetric):
    """How much it says again."""

    name: ClassVar[str] = "repetition_rate"
    title: ClassVar[str] = "repetition rate"
    aim: ClassVar[Aim] = "reference"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        f"Share of the {REPETITION_N}-grams of words in what the model writes that stand there already; near 1 = one phrase over "
        f"and over. A text of fewer than {REPETITION_N} words has none and is skipped and counted."
    )
    cost: ClassVar[str] = _GENERATION

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the share of repeated n-grams of one text."""
        distinct = distinct_share(words(generation), REPETITION_N)
        return None if distinct is None else 1 - distinct


class Distinct(TextMetric):
    """How many of its word pairs differ."""

    name: ClassVar[str] = "distinct_2"
    title: ClassVar[str] = "distinct word pairs"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = (
        "Number of different pairs of neighbouring words divided by the number of pairs, in what the model writes. A text of fewer "
        "than two words has none and is skipped and counted."
    )
    cost: ClassVar[str] = _GENERATION
    paper: ClassVar[str] = "Li et al., arXiv 1510.03055"

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the share of different word pairs of one text."""
        return distinct_share(words(generation), DISTINCT_N)


class ReferencePerplexity(Definition):
    """How likely another model finds it."""

    name: ClassVar[str] = "reference_perplexity"
    title: ClassVar[str] = "perplexity under a reference model"
    aim: ClassVar[Aim] = "reference"
    aim_elsewhere: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "exp of the mean over rows of the loss per token of what the model wrote, under a reference model the user names. Low = "
        "fluent; very low also = one phrase over and over: read it with the repetition rate. Empty texts are skipped and counted."
    )
    interval: ClassVar[str] = "exp of the bootstrap interval of the mean loss, over entities, 2000 draws"
    cost: ClassVar[str] = "one scoring pass of the reference model over what was written"
    needs: ClassVar[str] = "judges: {reference: PATH}"


class ClassifierFluency(Definition):
    """How fluent a classifier finds it."""

    name: ClassVar[str] = "classifier_fluency"
    title: ClassVar[str] = "fluency by a classifier"
    aim: ClassVar[Aim] = "reference"
    aim_elsewhere: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "Mean probability a text classifier gives its class 0 (clean, in OpenUnlearning's gibberish detector) for what the model "
        "wrote. An empty text is skipped and counted."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "an empty text is scored as it is",
        "strict": "an empty text is skipped and counted",
    }
    cost: ClassVar[str] = "one pass of the classifier over what was written"
    needs: ClassVar[str] = "judges: {fluency: PATH} and efface[classifiers]"
    paper: ClassVar[str] = "OpenUnlearning, arXiv 2506.12618"
