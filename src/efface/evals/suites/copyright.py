"""Copyright: how much of a work comes out when a model is given a passage's beginning. Specification: evaluation §3 and §9.

Rows: the plain texts among the sets; of the embedded world its passages, otherwise a folder of works (``texts:DIR``) as forget,
retain or holdout. Passes: each passage scored and continued after its first third. Metrics: word-for-word and near copies, BLEU,
ROUGE-L, extraction by sampling, each with its gap to the retrained model; and whether what is written is still language.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from efface.data.items import GenerateItem, ScoreItem
from efface.data.schema import RowSet
from efface.evals.judges import Judges
from efface.evals.measure import Measured
from efface.evals.metrics.answers import Rouge, WordEntropy, rouge_scores
from efface.evals.metrics.base import TextMetric, TokenMetric, Variant
from efface.evals.metrics.fluency import Distinct, RepetitionRate
from efface.evals.metrics.memorization import (
    EXTRACTION_TOKENS,
    Bleu,
    ExtractionProbability,
    LongestNearVerbatim,
    LongestVerbatim,
    continuation_probability,
)
from efface.evals.metrics.tokens import NLL, ExactMemorization, ExtractionStrength
from efface.evals.suites.base import Plan, Suite
from efface.evals.suites.data import TEXT_MAX_NEW_TOKENS, SetView, SuiteData
from efface.evals.suites.figures import Sheet
from efface.evals.suites.judged import fluency_figures
from efface.results import Example, Metric, Results
from efface.stats import clopper_pearson

__all__ = ["Copyright", "PassagePlan"]

_COPIED_TOKENS: tuple[type[TokenMetric], ...] = (ExtractionStrength, ExactMemorization, ExtractionProbability)
_COPIED_TEXTS: tuple[type[TextMetric], ...] = (Rouge, Bleu, LongestVerbatim, LongestNearVerbatim)
_LANGUAGE: tuple[type[TextMetric], ...] = (RepetitionRate, Distinct, WordEntropy)
_EXAMPLES = 3
_BEGINNING = "(beginning of a text)"
_NO_TEXT = "no row is a plain text: name works as texts:DIR"


@dataclass(frozen=True)
class PassagePlan(Plan):
    """Every passage, scored and continued."""

    def score_items(self) -> Iterator[ScoreItem]:
        """Yield every passage."""
        for view in self.views.values():
            yield from view.answers

    def generate_items(self) -> Iterator[GenerateItem]:
        """Yield the beginning of every passage."""
        for view in self.views.values():
            yield from view.generations


class Copyright(Suite):
    """Continuation of passages.

    Args:
        judges: Models that judge the language of what is written.
    """

    name: ClassVar[str] = "copyright"
    title: ClassVar[str] = "Copyright: passages continued word for word"
    max_new_tokens: ClassVar[int] = TEXT_MAX_NEW_TOKENS

    def __init__(self, *, judges: Judges | None = None) -> None:
        super().__init__()
        self.judges = judges or Judges()

    def plan(self, data: SuiteData, *, max_new_tokens: int | None = None) -> PassagePlan:
        """Return the plain texts of every set.

        Raises:
            InputError: When a set is empty or badly named.
        """
        data.check()
        longest = max_new_tokens or self.max_new_tokens
        texts = {key: RowSet(tuple(row for row in rows if row.is_text), rows.source) for key, rows in data.sets.items()}
        return PassagePlan(data, {key: SetView(key, rows, max_new_tokens=longest) for key, rows in texts.items() if len(rows)})

    def compute(self, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None) -> dict[str, Metric]:
        """Return every figure by name; without a plain text among the forget rows they are not available."""
        sheet = Sheet(measured, variant, seed, against)
        found: dict[str, Metric] = {}
        for view in plan.views.values():
            copied = _copied(view, sheet)
            found |= {f"{view.key}_nll": sheet.tokens(view, NLL)}
            found |= {metric.name: metric for metric in copied}
            found |= {gap.name: gap for gap in (sheet.gap(metric, view.rows) for metric in copied)}
            found |= {f"{view.key}_{each.name}": sheet.texts(view, each) for each in _LANGUAGE}
            found |= fluency_figures(view, sheet, self.judges)
        if not any(key.rpartition("_")[2] == "forget" for key in plan.views):
            absent = [*_COPIED_TOKENS, *_COPIED_TEXTS]
            found |= {f"forget_{each.name}": sheet.absent("forget", each, _NO_TEXT) for each in absent}
        return found

    def examples(self, plan: Plan, measured: Measured) -> tuple[Example, ...]:
        """Return a few continuations of each set."""
        return tuple(
            Example(row.id, key, _BEGINNING, view.reference(row, index, measured), measured.text(view.generations[index]))
            for key, view in plan.views.items()
            for index, row in enumerate(view.rows[:_EXAMPLES])
        )


def _copied(view: SetView, sheet: Sheet) -> list[Metric]:
    found = [sheet.tokens(view, each, _chances(view, sheet) if each is ExtractionProbability else None) for each in _COPIED_TOKENS]
    for each in _COPIED_TEXTS:
        metric = sheet.texts(view, each)
        if each in (LongestVerbatim, LongestNearVerbatim):
            longest = [value for value in metric.per_item if value is not None]
            metric = sheet.texts(view, each, {"longest": max(longest)} if longest else None)
        elif each is Rouge:
            metric = sheet.texts(view, each, _rouge_f1(view, sheet))
        found.append(metric)
    return found


def _rouge_f1(view: SetView, sheet: Sheet) -> dict[str, float | str | None]:
    scores = [rouge_scores(written, reference, variant=sheet.variant) for _, written, reference in sheet.written(view)]
    valid = [score.rougeL_f1 for score in scores if score is not None]
    return {"rougeL_f1": float(np.mean(valid))} if valid else {}


def _chances(view: SetView, sheet: Sheet) -> dict[str, float | str | None]:
    """What stands beside the extraction probability: one sample's, greedy decoding's, and the share of likely extractions."""
    if sheet.measured.not_scored:
        return {}
    rows = [sheet.measured.row(item) for item in view.answers]
    one = [continuation_probability(row, tokens=EXTRACTION_TOKENS) for row in rows]
    greedy = [continuation_probability(row, tokens=EXTRACTION_TOKENS, decoding="greedy") for row in rows]
    valid = [value for value in one if value is not None]
    if not valid:
        return {}
    likely = [value for value in (ExtractionProbability.item(row) for row in rows) if value is not None and value >= 0.5]
    bounds = clopper_pearson(len(likely), len(valid))
    return {
        "one_sample": float(np.mean(valid)),
        "greedy": float(np.mean([value for value in greedy if value is not None])),
        "share_extractable": len(likely) / len(valid),
        "share_extractable_low": bounds.low,
        "share_extractable_high": bounds.high,
    }
