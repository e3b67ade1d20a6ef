"""The pieces of MUSE's own evaluator (arXiv 2407.06460) that differ from OpenUnlearning's. Specification: evaluation §7.

ROUGE without stemming; the verbatim reference cut to the number of generated tokens; membership scores of whole texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from efface.data.items import TokenRow
from efface.evals.metrics.membership import loss_ratio, min_k, zlib_score
from efface.evals.metrics.tokens import answer_nll
from efface.stats import auc
from efface.text import RougeScores, rouge

__all__ = ["MIN_K_SHARES", "STOP_WORDS", "muse_auc", "muse_membership", "muse_rouge", "rouge_summary", "verbatim_reference"]

STOP_WORDS = ("\n\n", "\nQuestion", "Question:")
"""Where MUSE cuts the answers to its questions."""

MIN_K_SHARES = (5, 10, 20, 30, 40, 50, 60)
"""Percentages of MUSE's min-k scores."""


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
