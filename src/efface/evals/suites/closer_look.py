"""A Closer Look (arXiv 2410.08109): six figures on four sets, forget efficacy, utility of eighteen figures. Specification §9.

Rows: forget, retain, real authors, world facts, as in TOFU. Passes: those of the TOFU suite. Metrics: that suite's ROUGE,
probability and truth ratio; token entropy, cosine similarity and entailment of what was written, by the judges that were named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from efface.evals.judges import Judges
from efface.evals.measure import Measured
from efface.evals.metrics.answers import WordEntropy, rouge_scores, token_entropy
from efface.evals.metrics.base import Definition, Variant
from efface.evals.metrics.closer_look import (
    FIGURES,
    CosineSimilarity,
    Entailment,
    ForgetEfficacy,
    UtilityOfEighteen,
    entailment_score,
    forget_efficacy,
    utility_of_eighteen,
)
from efface.evals.suites.base import Plan, Suite
from efface.evals.suites.data import SetView
from efface.evals.suites.figures import Floats, Sheet, role_of
from efface.evals.suites.sets import STANDARD, SetSpec
from efface.evals.summary import not_available
from efface.results import Metric, Results

__all__ = ["CloserLook"]

_KEPT = ("retain", "real_authors", "world_facts")


class CloserLook(Suite):
    """Forgetting and utility, judged by meaning as well as by wording.

    Args:
        judges: The embedder and the entailment model; a tokenizer for token entropy (words are counted without one).
    """

    name: ClassVar[str] = "closer_look"
    title: ClassVar[str] = "A Closer Look: forget efficacy and a utility of eighteen figures"
    max_new_tokens: ClassVar[int] = 200
    sets: ClassVar[Mapping[str, SetSpec]] = {key: STANDARD[key] for key in ("forget", *_KEPT)}

    def __init__(self, *, judges: Judges | None = None) -> None:
        super().__init__()
        self.judges = judges or Judges()

    def compute(self, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None) -> dict[str, Metric]:
        """Return six figures per set and the two aggregates."""
        every = super().compute(plan, measured, variant=variant, seed=seed, against=against)
        sheet = Sheet(measured, variant, seed, against)
        found: dict[str, Metric] = {}
        for key in ("forget", *_KEPT):
            if key not in plan.views:
                continue
            found |= {name: every[name] for name in (f"{key}_{figure}" for figure in FIGURES[:3]) if name in every}
            found |= {metric.name: metric for metric in _judged(plan.views[key], sheet, self.judges)}
        found[ForgetEfficacy.name] = _efficacy(found, variant)
        found[UtilityOfEighteen.name] = _utility(found, variant)
        return found


def _judged(view: SetView, sheet: Sheet, judges: Judges) -> list[Metric]:
    written = [(text, reference) for _, text, reference in sheet.written(view)]
    return [
        _entropy(view, sheet, judges, written),
        _similarity(view, sheet, judges, written),
        _entailed(view, sheet, judges, written),
    ]


def _entropy(view: SetView, sheet: Sheet, judges: Judges, written: list[tuple[str, str]]) -> Metric:
    counts_words = bool(judges.missing("tokenizer"))
    if counts_words:
        metric = sheet.texts(view, WordEntropy)
    else:
        values = [token_entropy(judges.tokens(text)).normalised for text, _ in written]
        metric = sheet.summary(view, WordEntropy, values, "")
    basis = {"counted": "words: no tokenizer was named" if counts_words else "tokens"}
    return replace(metric, name=f"{view.key}_token_entropy", details=basis)


def _similarity(view: SetView, sheet: Sheet, judges: Judges, written: list[tuple[str, str]]) -> Metric:
    reason = judges.missing("embedder")
    if reason:
        return sheet.absent(view.key, CosineSimilarity, reason)
    used = [index for index, (text, _) in enumerate(written) if text.strip()]
    values: list[float | None] = [None] * len(written)
    for index, value in zip(used, judges.similarity([written[index] for index in used]) if used else (), strict=True):
        values[index] = float(value)
    return sheet.summary(view, CosineSimilarity, values, "an empty answer")


def _entailed(view: SetView, sheet: Sheet, judges: Judges, written: list[tuple[str, str]]) -> Metric:
    reason = judges.missing("entailment")
    if reason:
        return sheet.absent(view.key, Entailment, reason)
    is_forget = role_of(view.key) == "forget"
    labels = judges.entails([(text, truth) if is_forget else (truth, text) for text, truth in written])
    overlaps = [rouge_scores(text, truth, variant=sheet.variant) for text, truth in written]
    values: Floats = [
        None if overlap is None else entailment_score(bool(label), overlap.rougeL_recall)
        for label, overlap in zip(labels, overlaps, strict=True)
    ]
    return sheet.summary(view, Entailment, values, "nothing to compare with")


def _efficacy(found: dict[str, Metric], variant: Variant) -> Metric:
    parts = {figure: found.get(f"forget_{figure}") for figure in FIGURES if figure != "token_entropy"}
    values = {figure: part.value for figure, part in parts.items() if part is not None and part.value is not None}
    if len(values) < len(parts):
        return _incomplete(ForgetEfficacy, [f"forget_{figure}" for figure in parts if figure not in values], variant)
    values["truth_ratio"] = 1 - values["truth_ratio"]
    details = {f"forget_{figure}": value for figure, value in values.items()}
    return Metric(ForgetEfficacy.name, forget_efficacy(values), ForgetEfficacy.aim, variant, details=details)


def _utility(found: dict[str, Metric], variant: Variant) -> Metric:
    names = [f"{key}_{figure}" for key in _KEPT for figure in FIGURES]
    values = {name: found[name].value for name in names if name in found}
    missing = [name for name in names if values.get(name) is None]
    if missing:
        return _incomplete(UtilityOfEighteen, missing, variant)
    sets = {key: {figure: float(values[f"{key}_{figure}"] or 0.0) for figure in FIGURES} for key in _KEPT}
    return Metric(UtilityOfEighteen.name, utility_of_eighteen(sets), UtilityOfEighteen.aim, variant, details=values)


def _incomplete(definition: type[Definition], missing: list[str], variant: Variant) -> Metric:
    return not_available(definition.name, definition.aim, variant, f"needs {', '.join(missing)}")
