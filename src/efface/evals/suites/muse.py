"""MUSE (Shi et al., arXiv 2407.06460): the first four of its six criteria; specification: evaluation §7.

    VerbMem   = mean ROUGE-L F1 (greedy continuation of 128 tokens, true continuation)      forget passages
    KnowMem_f = mean ROUGE-L F1 (greedy answer of 32 tokens after examples, true answer)    forget questions
    PrivLeak  = 100 (AUC - AUC_retrained) / AUC_retrained, AUC of min-40 %                  forget against unseen texts
    utility   = KnowMem_r, the same as KnowMem_f                                            retain questions

The other two, scalability and sustainability, need several unlearned models: :func:`efface.run.axes.run_axes` makes them.

Deviations: PrivLeak is not available without results of the retrained model, where OpenUnlearning takes an AUC of 0.5 and MUSE a
constant; MUSE's constants are offered by option ``corpus`` under variant ``original``. MUSE prints all but PrivLeak times 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from efface.data.encoding import check_border
from efface.data.schema import RowSet
from efface.errors import InputError
from efface.evals.measure import Measured
from efface.evals.metrics.base import Variant
from efface.evals.metrics.membership import MIN_K
from efface.evals.metrics.muse import AUC_RETRAINED, STOP_WORDS, MusePrivLeak, Scalability, Sustainability, muse_privleak
from efface.evals.suites.base import Encoding, Plan, Suite
from efface.evals.suites.compare import registered_attack, relative_metric
from efface.evals.suites.data import Asking, SuiteData
from efface.evals.suites.sets import Context, SetSpec
from efface.evals.summary import not_available
from efface.results import Metric, Results

__all__ = ["CRITERIA", "Muse", "MusePlan"]

CRITERIA = ("forget_verbmem", "forget_knowmem", "muse_privleak", "retain_knowmem")
"""Names of the first four criteria, in MUSE's order."""

_ATTACK = "muse_mia_min_k"
_ONE_MODEL = "a single unlearned model has no curve: run_axes of efface.run.axes unlearns fold by fold"
_STANDS_IN = {
    "verbmem": ("forget", True),
    "forget_qa": ("forget", False),
    "retain_qa": ("retain", False),
    "privleak_forget": ("forget", True),
    "privleak_holdout": ("holdout", True),
}
"""Which rows of the request stand in for a set that is not given, and whether its texts or its questions do."""


@dataclass(frozen=True)
class MusePlan(Plan):
    """What MUSE asks of a model.

    Attributes:
        stands_in: Sets that were not given and are made of the request's own rows.
    """

    stands_in: tuple[str, ...] = ()


class Muse(Suite):
    """Whether it is gone, as the data owner asks, and whether the model is still good, as the deployer asks.

    Args:
        min_k: Share of least likely tokens in the attack behind PrivLeak.
        corpus: "news" or "books": MUSE's own corpus, whose published AUC may stand in for a retrained model (``original`` only).
    """

    name: ClassVar[str] = "muse"
    title: ClassVar[str] = "MUSE: verbatim and knowledge memorisation, privacy leakage, utility"
    max_new_tokens: ClassVar[int] = 32
    sets: ClassVar[Mapping[str, SetSpec]] = {
        "verbmem": SetSpec(
            ("answers", "generations"),
            ("verbmem", "extraction_strength", "exact_memorization"),
            "forget",
            asking=Asking(form="completion", max_new_tokens=128),
            named=(("verbmem", "forget_verbmem"),),
            is_required=True,
        ),
        "forget_qa": SetSpec(
            ("generations",),
            ("knowmem", "fact_accuracy"),
            "forget",
            asking=Asking(max_new_tokens=32, stop=STOP_WORDS, shots="forget_qa_icl"),
            named=(("knowmem", "forget_knowmem"),),
            is_required=True,
        ),
        "retain_qa": SetSpec(
            ("generations",),
            ("knowmem", "fact_accuracy"),
            asking=Asking(max_new_tokens=32, stop=STOP_WORDS, shots="retain_qa_icl"),
            named=(("knowmem", "retain_knowmem"),),
            is_required=True,
        ),
        "privleak_forget": SetSpec(("answers",), ("nll",), "holdout", asking=Asking(prefix_share=0.0)),
        "privleak_holdout": SetSpec(("answers",), ("nll",), "holdout", asking=Asking(prefix_share=0.0)),
    }
    # MUSE's own code cuts nothing, and finds no border: what the strict encoding does with a template that ends in no blank.
    encodings: ClassVar[Mapping[Variant, Encoding]] = {"original": ("strict", None)}

    def __init__(self, *, min_k: float = MIN_K, corpus: Literal["news", "books"] | None = None) -> None:
        super().__init__(min_k=min_k)
        if corpus is not None and corpus not in AUC_RETRAINED:
            raise InputError(
                f"There is no MUSE corpus {corpus!r}. MUSE has {' and '.join(AUC_RETRAINED)}. Name one, or leave it out."
            )
        self.corpus = corpus

    def plan(self, data: SuiteData, *, max_new_tokens: int | None = None) -> MusePlan:
        """Return the items of the sets; where one is not given, the request's own rows of that form stand in for it."""
        found = {key: rows for key in _STANDS_IN if key not in data.sets and (rows := _stand_in(key, data)) is not None}
        plan = super().plan(replace(data, extra={**data.extra, **found}), max_new_tokens=max_new_tokens)
        return MusePlan(plan.data, plan.views, plan.specs, tuple(found))

    def aggregate(self, metrics: Mapping[str, Metric], context: Context, against: Results | None) -> dict[str, Metric]:
        """Return the attack on whole texts and PrivLeak; the two criteria that need several models are not available."""
        return {
            **self._privacy(context, against),
            **{
                kind.name: not_available(kind.name, kind.aim, context.variant, _ONE_MODEL) for kind in (Scalability, Sustainability)
            },
        }

    def _privacy(self, context: Context, against: Results | None) -> dict[str, Metric]:
        missing = [key for key in ("privleak_forget", "privleak_holdout") if key not in context.views]
        reason = context.measured.not_scored or (f"no {' and no '.join(missing)} set was given" if missing else "")
        if reason:
            return {
                _ATTACK: not_available(_ATTACK, "reference", context.variant, reason),
                MusePrivLeak.name: not_available(MusePrivLeak.name, MusePrivLeak.aim, context.variant, reason),
            }
        attack = registered_attack("mia_min_k", context, name=_ATTACK, sides=("privleak_forget", "privleak_holdout"))
        published = AUC_RETRAINED[self.corpus] if self.corpus and context.variant == "original" else None
        leak = relative_metric(
            MusePrivLeak,
            muse_privleak,
            attack,
            context,
            against,
            fallback=published,
            fallback_reason=f"against the AUC that MUSE's code holds for its retrained {self.corpus} model, not one measured here",
        )
        return {_ATTACK: attack, leak.name: leak}

    def notes(self, plan: Plan, measured: Measured) -> tuple[str, ...]:
        """Return which rows stand in for sets, how many examples precede a question, and whether a prompt ends in a blank."""
        stands_in = plan.stands_in if isinstance(plan, MusePlan) else ()
        notes = [f"{key}: not given, so that the {_STANDS_IN[key][0]} rows of the request stand in for it." for key in stands_in]
        for key in ("forget_qa", "retain_qa"):
            if key in plan.views:
                notes.append(f"KnowMem, {key}: {len(plan.views[key].shots) or 'no'} examples before each question.")
        if measured.tokenizer is None and "verbmem" in plan.views:
            notes.append("VerbMem: the model shows no tokenizer, so that true continuations were not cut to what may be generated.")
        return (*notes, *_border_notes(plan, measured))


def _stand_in(key: str, data: SuiteData) -> RowSet | None:
    source, is_text = _STANDS_IN[key]
    rows = tuple(row for row in data.sets.get(source, ()) if row.is_text == is_text)
    return RowSet(rows, source) if rows else None


def _border_notes(plan: Plan, measured: Measured) -> list[str]:
    """Say where a template's trailing blank would merge with the first token of an answer."""
    if measured.tokenizer is None or measured.template is None:
        return []
    rows = [row for key in ("forget_qa", "retain_qa") if key in plan.views for row in plan.views[key].rows]
    report = check_border(measured.tokenizer, measured.template, rows)
    return [f"KnowMem: {report.message}"] if report.message else []
