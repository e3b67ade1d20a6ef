"""The figures of "A Closer Look at Machine Unlearning for Large Language Models" (Yuan et al., arXiv 2410.08109).

Reference code: sail-sg/closer-look-LLM-unlearning. Six figures per set (ROUGE-L recall, probability, truth ratio, token entropy,
cosine similarity, entailment) and two aggregates. On the forget rows the truth ratio is 1 - mean min(R, 1/R), so that it is low
where right and wrong answers are told apart no better than chance. Deviation: the reference code gates entailment by ROUGE with the
index of another loop; here each row is gated by its own ROUGE. Specification: evaluation §9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from efface.evals.metrics.base import Definition
from efface.results import Aim
from efface.stats import harmonic_mean

__all__ = [
    "ENTAILMENT_ROUGE",
    "FIGURES",
    "CosineSimilarity",
    "Entailment",
    "ForgetEfficacy",
    "UtilityOfEighteen",
    "entailment_score",
    "forget_efficacy",
    "utility_of_eighteen",
]

FIGURES = ("rouge", "probability", "truth_ratio", "token_entropy", "cosine_similarity", "entailment")
"""What is measured of each set."""
ENTAILMENT_ROUGE = 0.1
"""ROUGE-L recall below which an entailment does not count: an empty or unrelated text entails nothing."""


def entailment_score(is_entailed: bool, rouge_recall: float) -> float:
    """Return 1 where the likeliest label is "entailment" and the text shares words with the reference, else 0."""
    return float(is_entailed and rouge_recall >= ENTAILMENT_ROUGE)


def forget_efficacy(figures: Mapping[str, float]) -> float:
    """Return 1 - the mean of the five forget figures; token entropy, which says nothing of forgetting, is not among them."""
    kept = [figures[name] for name in FIGURES if name != "token_entropy"]
    return 1 - sum(kept) / len(kept)


def utility_of_eighteen(sets: Mapping[str, Mapping[str, float]]) -> float:
    """Return the harmonic mean of the six figures of each set; 0 where one of them is 0 or below."""
    return harmonic_mean([figures[name] for figures in sets.values() for name in FIGURES])


class CosineSimilarity(Definition):
    """Nearness of two embeddings."""

    name: ClassVar[str] = "cosine_similarity"
    title: ClassVar[str] = "cosine similarity"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "max(0, cosine) of the sentence embeddings of the greedy answer and the true one (paraphrase-MiniLM-L6-v2 in the paper). "
        "An empty answer is skipped and counted."
    )
    cost: ClassVar[str] = "one pass of the embedder over both texts"
    needs: ClassVar[str] = "judges: {embedder: PATH} and efface[classifiers]"
    paper: ClassVar[str] = "Yuan et al., arXiv 2410.08109"


class Entailment(Definition):
    """Whether the answer and the truth follow from each other."""

    name: ClassVar[str] = "entailment"
    title: ClassVar[str] = "entailment"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "Share of rows whose likeliest label is entailment and whose ROUGE-L recall is at least 0.1; on forget rows the true "
        "answer must follow from what was written, elsewhere what was written from the true answer."
    )
    cost: ClassVar[str] = "one pass of the classifier over both texts"
    needs: ClassVar[str] = "judges: {entailment: PATH}"
    paper: ClassVar[str] = "Yuan et al., arXiv 2410.08109"


class ForgetEfficacy(Definition):
    """The forget figures in one."""

    name: ClassVar[str] = "forget_efficacy"
    title: ClassVar[str] = "forget efficacy"
    aim: ClassVar[Aim] = "reference"
    definition: ClassVar[str] = (
        "1 - mean of ROUGE-L recall, probability, 1 - mean min(R, 1/R) of the truth ratio, cosine similarity and entailment on the "
        "forget rows. Not available without all five."
    )
    interval: ClassVar[str] = "none: its parts have one each"
    cost: ClassVar[str] = "none beside its parts"
    needs: ClassVar[str] = "judges: {embedder: PATH, entailment: PATH}; perturbed_answer"
    paper: ClassVar[str] = "Yuan et al., arXiv 2410.08109"


class UtilityOfEighteen(Definition):
    """All figures of what should stay in one."""

    name: ClassVar[str] = "closer_look_utility"
    title: ClassVar[str] = "model utility of eighteen figures"
    aim: ClassVar[Aim] = "higher"
    definition: ClassVar[str] = (
        "Harmonic mean of six figures (ROUGE-L recall, probability, truth ratio, token entropy, cosine similarity, entailment) on "
        "retain, real authors and world facts. Not available without all eighteen."
    )
    interval: ClassVar[str] = "none: its parts have one each"
    cost: ClassVar[str] = "none beside its parts"
    needs: ClassVar[str] = "judges: {embedder: PATH, entailment: PATH}; retain, real_authors and world_facts with perturbed_answer"
    paper: ClassVar[str] = "Yuan et al., arXiv 2410.08109"
