"""Figures that another model decides: fluency, similarity, entailment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from efface.evals.judges import Judges
from efface.evals.metrics.fluency import ClassifierFluency, ReferencePerplexity
from efface.evals.metrics.tokens import answer_nll
from efface.evals.suites.data import SetView
from efface.evals.suites.figures import Sheet
from efface.results import Metric

__all__ = ["fluency_figures"]


def fluency_figures(view: SetView, sheet: Sheet, judges: Judges) -> dict[str, Metric]:
    """Return what the judges say of the language of a set's generations, by name."""
    texts = [written for _, written, _ in sheet.written(view)]
    figures = [_perplexity(view, sheet, judges, texts), _clean(view, sheet, judges, texts)]
    return {figure.name: figure for figure in figures}


def _clean(view: SetView, sheet: Sheet, judges: Judges, texts: Sequence[str]) -> Metric:
    reason = judges.missing("fluency")
    if reason:
        return sheet.absent(view.key, ClassifierFluency, reason)
    keeps_empty = sheet.variant == "openunlearning"
    judged = [index for index, text in enumerate(texts) if keeps_empty or text.strip()]
    values: list[float | None] = [None] * len(texts)
    for index, value in zip(judged, judges.clean([texts[index] for index in judged]), strict=True):
        values[index] = float(value)
    return sheet.summary(view, ClassifierFluency, values, "an empty text")


def _perplexity(view: SetView, sheet: Sheet, judges: Judges, texts: Sequence[str]) -> Metric:
    reason = judges.missing("reference")
    if reason:
        return sheet.absent(view.key, ReferencePerplexity, reason)
    losses = [answer_nll(row) for row in judges.losses(texts)]
    metric = sheet.summary(view, ReferencePerplexity, losses, "a text of at most one token")
    if metric.value is None:
        return metric
    ends = metric.interval
    if ends is not None:
        ends = replace(ends, low=math.exp(ends.low), high=math.exp(ends.high))
    return replace(metric, value=math.exp(metric.value), interval=ends, per_item=(), item_ids=())
