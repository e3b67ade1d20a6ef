"""MUSE's figures (Shi et al., arXiv 2407.06460), and the pieces of its own evaluator that differ from OpenUnlearning's.

ROUGE without stemming; the verbatim reference cut to the number of generated tokens; membership scores of whole texts.
Specification: evaluation §7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from efface.data.items import TokenRow
from efface.evals.metrics.answers import rouge_scores
from efface.evals.metrics.base import Definition, TextMetric, Truth, Variant
from efface.evals.metrics.membership import loss_ratio, min_k, privleak, zlib_score
from efface.evals.metrics.tokens import answer_nll
from efface.results import Aim
from efface.stats import auc
from efface.text import RougeScores, rouge

__all__ = [
    "AUC_RETRAINED",
    "MIN_K_SHARES",
    "STOP_WORDS",
    "KnowMem",
    "MusePrivLeak",
    "Scalability",
    "Sustainability",
    "VerbMem",
    "muse_auc",
    "muse_membership",
    "muse_privleak",
    "muse_rouge",
    "rouge_f1",
    "rouge_summary",
    "verbatim_reference",
]

STOP_WORDS = ("\n\n", "\nQuestion", "Question:")
"""Where MUSE cuts the answers to its questions."""

MIN_K_SHARES = (5, 10, 20, 30, 40, 50, 60)
"""Percentages of MUSE's min-k scores."""

AUC_RETRAINED = {"news": 1 - 0.4772, "books": 1 - 0.5393}
"""AUC of min-40 % of MUSE's retrained models, from the constants of its code, in the sense used here (MUSE's is 1 minus it)."""


def verbatim_reference(tokenizer: Any, text: str, tokens: int, *, counts_bos: bool = True) -> str:
    """Return the beginning of ``text`` that verbatim memorisation is judged on: its first ``tokens`` tokens.

    ``counts_bos`` is MUSE's way, in which a tokenizer's BOS is one of them; without it a text of just so many tokens stays whole.
    """
    ids = tokenizer(text, add_special_tokens=counts_bos)["input_ids"][:tokens]
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def muse_rouge(generation: str, reference: str) -> RougeScores:
    """Return ROUGE without stemming."""
    return rouge(generation, reference, stemmer=False)


def rouge_summary(scores: Sequence[RougeScores]) -> dict[str, float]:
    """Return mean and maximum over rows of the figures MUSE prints; "rougeL" and "rouge1" are F1."""
    columns = {
        "rougeL": [score.rougeL_f1 for score in scores],
        "rougeL_recall": [score.rougeL_recall for score in scores],
        "rouge1": [score.rouge1_f1 for score in scores],
        "rouge1_recall": [score.rouge1_recall for score in scores],
    }
    summary = {f"mean_{name}": sum(values) / len(values) for name, values in columns.items()}
    return summary | {f"max_{name}": max(values) for name, values in columns.items()}


def muse_membership(
    row: TokenRow, lowered: TokenRow, text: str, *, shares: Sequence[int] = MIN_K_SHARES
) -> dict[str, float | None]:
    """Return MUSE's membership scores of a text under the names of its output.

    Args:
        row: The text, all tokens but BOS scored.
        lowered: The same text in lower case.
        text: The text itself, for its compressed size.
        shares: Percentages of the min-k scores.
    """
    scores: dict[str, float | None] = {
        "PPL": answer_nll(row),
        "PPL/lower": loss_ratio(row, lowered),
        "PPL/zlib": zlib_score(row, text),
    }
    return scores | {f"Min-{k}%": min_k(row, share=k / 100, variant="original") for k in shares}


def muse_auc(forget: Sequence[float], holdout: Sequence[float]) -> float:
    """Return MUSE's AUC, which is 1 minus the one used elsewhere here: 0 = the forget texts are plainly members."""
    return auc(holdout, forget)


def rouge_f1(generation: str, reference: str, *, variant: Variant = "strict") -> float | None:
    """Return ROUGE-L F1 = 2PR / (P + R); None where the reference holds no word (``strict``)."""
    if variant == "original":
        return muse_rouge(generation, reference).rougeL_f1
    scores = rouge_scores(generation, reference, variant=variant)
    return None if scores is None else scores.rougeL_f1


def muse_privleak(auc: float, auc_reference: float | None, *, variant: Variant = "strict") -> float | None:
    """Return PrivLeak; None without a retrained model, whatever the variant: a fair coin is not what MUSE compares with."""
    return None if auc_reference is None else privleak(auc, auc_reference, variant=variant)


_PAPER = "MUSE, arXiv 2407.06460"


class VerbMem(TextMetric):
    """Verbatim memorisation (MUSE's first criterion)."""

    name: ClassVar[str] = "verbmem"
    title: ClassVar[str] = "verbatim memorisation (VerbMem)"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "ROUGE-L F1 of the greedy continuation (128 tokens) of the beginning of a forget text against its true continuation; "
        "compare with the retrained model's."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "stemmed words, the whole true continuation, however long",
        "original": "MUSE: words as they are, the true continuation cut to 128 tokens of which BOS is one",
        "strict": "stemmed words of every script, the true continuation cut to as many tokens as may be generated",
    }
    cost: ClassVar[str] = "one greedy generation of 128 tokens per passage"
    needs: ClassVar[str] = "passages as beginning and continuation, or plain texts"
    paper: ClassVar[str] = _PAPER

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the ROUGE-L F1 of one continuation."""
        return rouge_f1(generation, truth.reference, variant=variant)


class KnowMem(TextMetric):
    """Knowledge memorisation (MUSE's second criterion), and on retain questions utility (the fourth)."""

    name: ClassVar[str] = "knowmem"
    title: ClassVar[str] = "knowledge memorisation (KnowMem)"
    aim: ClassVar[Aim] = "lower"
    definition: ClassVar[str] = (
        "ROUGE-L F1 of the greedy answer (32 tokens, cut at stop words) to a question after examples, against the true answer. On "
        "forget questions compare with the retrained model's; on retain questions it is MUSE's utility."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "stemmed words; a prompt of more than 512 tokens loses its end, the question with it",
        "original": "MUSE: words as they are, no limit to the prompt",
        "strict": "stemmed words of every script; a prompt that does not fit loses examples from the left, never the question",
    }
    cost: ClassVar[str] = "one greedy generation of 32 tokens per question, after a prompt with the examples"
    needs: ClassVar[str] = "question rows, and a set of examples"
    paper: ClassVar[str] = _PAPER

    @staticmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the ROUGE-L F1 of one answer."""
        return rouge_f1(generation, truth.reference, variant=variant)


class MusePrivLeak(Definition):
    """Privacy leakage of whole texts (MUSE's third criterion)."""

    name: ClassVar[str] = "muse_privleak"
    title: ClassVar[str] = "privacy leakage of texts (PrivLeak)"
    aim: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = (
        "100 ((1 - AUC) - (1 - AUC of the retrained model)) / (1 - AUC of the retrained model), AUC of min-40% over whole forget "
        "and holdout texts. Strongly negative = under-unlearned (-100 at worst), positive = over-unlearned. Both AUCs are shown."
    )
    variants: ClassVar[dict[str, str]] = {
        "openunlearning": "the last token of each text is left out; not available without a retrained model",
        "original": "MUSE: all tokens but BOS; with option corpus (news or books) MUSE's own AUC stands in for a retrained model",
        "strict": "all tokens but BOS; not available without a retrained model",
    }
    interval: ClassVar[str] = "from the interval of the AUC, the retrained model's held fixed"
    cost: ClassVar[str] = "the scoring pass over both sets of texts"
    needs: ClassVar[str] = "forget texts, texts never seen, and results of the retrained model on the same texts"
    paper: ClassVar[str] = _PAPER


class Scalability(Definition):
    """Utility over growing requests (MUSE's fifth criterion)."""

    name: ClassVar[str] = "scalability"
    title: ClassVar[str] = "scalability"
    aim: ClassVar[Aim] = "zero"
    aim_elsewhere: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = (
        "Change of the utility (KnowMem on retain questions) per fold relative to the first, over forget sets that contain each "
        "other, each unlearned from the original model: the slope of the least-squares line, 0 = flat, negative = worse the more "
        "is to be forgotten. The worst step between two folds and the whole curve of all four criteria stand beside it."
    )
    interval: ClassVar[str] = "bootstrap over entities of the retain questions, all folds resampled alike"
    cost: ClassVar[str] = "one unlearning and one evaluation per fold"
    needs: ClassVar[str] = "efface.run.axes: a single model has no curve"
    paper: ClassVar[str] = _PAPER


class Sustainability(Definition):
    """Utility over requests in a row (MUSE's sixth criterion)."""

    name: ClassVar[str] = "sustainability"
    title: ClassVar[str] = "sustainability"
    aim: ClassVar[Aim] = "zero"
    aim_elsewhere: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = (
        "Change of the utility (KnowMem on retain questions) per request relative to the first, over disjoint forget sets, each "
        "unlearned from the model the one before left: the slope of the least-squares line, 0 = flat, negative = worse with every "
        "request. The worst step and the whole curve of all four criteria stand beside it."
    )
    interval: ClassVar[str] = Scalability.interval
    cost: ClassVar[str] = "one unlearning and one evaluation per request"
    needs: ClassVar[str] = Scalability.needs
    paper: ClassVar[str] = _PAPER
