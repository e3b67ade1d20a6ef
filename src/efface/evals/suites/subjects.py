"""Subject forgetting: the subjects that must go, those closely related to them, and unrelated ones; after ECO (arXiv 2406.07933).

Its sets are ``subjects_forget``, ``subjects_related`` and ``subjects_unrelated``, all of multiple-choice questions. ECO's three
topics of MMLU are written ``mmlu:DIR:economics-forget``, ``...-related``, ``...-unrelated`` (economics beside econometrics, law
beside jurisprudence, physics beside mathematics). A method that cannot tell a subject from its neighbour shows in the difference of
the two: near 0 after unlearning, where the retrained model's is far below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from efface.errors import InputError
from efface.evals.measure import Measured
from efface.evals.metrics.base import Definition, Variant
from efface.evals.metrics.choices import (
    ChoiceAccuracy,
    ChoiceContrast,
    ChoiceGap,
    ChoiceTextAccuracyNorm,
    ChoiceTextContrast,
    ChoiceTextGap,
)
from efface.evals.suites.base import Plan, Suite
from efface.evals.suites.choices import (
    ChoicePlan,
    ChoiceView,
    Scoring,
    absent_metrics,
    choice_examples,
    choice_metrics,
    choice_notes,
)
from efface.evals.suites.data import SuiteData
from efface.evals.summary import difference_interval, not_available, summarise
from efface.results import Example, Metric, Results

__all__ = ["Subjects"]

_FORGET, _RELATED, _UNRELATED = "subjects_forget", "subjects_related", "subjects_unrelated"
_NO_REFERENCE = "needs results of the retrained model on the same questions"


class Subjects(Suite):
    """Forget subjects, related and unrelated ones, their gaps to the retrained model and to each other.

    Args:
        shots: Examples before a question, at most; they come from the set ``<key>_dev``, without which there are none.
    """

    name: ClassVar[str] = "subjects"
    title: ClassVar[str] = "Subject forgetting: subjects to forget, their neighbours, and unrelated ones"
    max_new_tokens: ClassVar[int] = 64

    def __init__(self, *, shots: int = 5) -> None:
        super().__init__()
        self.shots = shots

    def plan(self, data: SuiteData, *, max_new_tokens: int | None = None) -> ChoicePlan:
        """Return the items this suite needs.

        Raises:
            InputError: When the forget subjects are missing, or a row offers no choices.
        """
        sets = data.sets
        if _FORGET not in sets:
            raise InputError(
                f"The subjects suite was given no {_FORGET} set. It takes {_FORGET}, {_RELATED} and {_UNRELATED}, sets of "
                "multiple-choice questions. Write evaluate: [{suite: subjects, subjects_forget: 'mmlu:DIR:economics-forget'}]."
            )
        data.check()
        asked = {
            key: ChoiceView(
                key,
                sets[key],
                examples=sets.get(f"{key}_dev"),
                shots=self.shots,
                judged="forget" if key == _FORGET else "kept",
                is_thorough=key == _FORGET,
                max_new_tokens=max_new_tokens or self.max_new_tokens,
            )
            for key in (_FORGET, _RELATED, _UNRELATED)
            if key in sets
        }
        return ChoicePlan(data, {}, asked=asked)

    def compute(self, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None) -> dict[str, Metric]:
        """Return every figure by name.

        Raises:
            InputError: When the retrained results were made with other questions or another variant.
        """
        asked = plan.asked if isinstance(plan, ChoicePlan) else {}
        kept = plan.data.retain.rows if plan.data.retain is not None else ()
        scoring = Scoring(measured, variant, seed, kept)
        metrics: dict[str, Metric] = {}
        for key in (_FORGET, _RELATED, _UNRELATED):
            metrics |= choice_metrics(asked[key], scoring) if key in asked else absent_metrics(key, "kept", variant)
        gaps: tuple[tuple[type[Definition], type[Definition]], ...] = (
            (ChoiceGap, ChoiceAccuracy),
            (ChoiceTextGap, ChoiceTextAccuracyNorm),
        )
        for gap, accuracy in gaps:
            for view in asked.values():
                name = f"{view.key}_{gap.name}"
                metrics[name] = _gap(name, gap, metrics[f"{view.key}_{accuracy.name}"], view, against, scoring)
        contrasts: tuple[tuple[type[Definition], type[Definition]], ...] = (
            (ChoiceContrast, ChoiceAccuracy),
            (ChoiceTextContrast, ChoiceTextAccuracyNorm),
        )
        for contrast, accuracy in contrasts:
            for other in (_RELATED, _UNRELATED):
                name = f"forget_minus_{other.removeprefix('subjects_')}_{contrast.name}"
                metrics[name] = _contrast(name, contrast, accuracy, metrics, (asked[_FORGET], asked.get(other)), scoring)
        return metrics

    def notes(self, plan: Plan, measured: Measured) -> tuple[str, ...]:
        """Return how the questions were asked."""
        return choice_notes(plan) if isinstance(plan, ChoicePlan) else ()

    def examples(self, plan: Plan, measured: Measured) -> tuple[Example, ...]:
        """Return a few open answers to the questions on the forget subjects."""
        return choice_examples(plan, measured) if isinstance(plan, ChoicePlan) else ()


def _gap(
    name: str, definition: type[Definition], ours: Metric, view: ChoiceView, against: Results | None, scoring: Scoring
) -> Metric:
    theirs = against.metrics.get(ours.name) if against is not None else None
    if ours.value is None or theirs is None or theirs.value is None:
        reason = ours.reason if ours.value is None else _NO_REFERENCE
        return not_available(name, definition.aim, scoring.variant, reason)
    same = ours.item_ids == theirs.item_ids and ours.details.get("items_sha256") == theirs.details.get("items_sha256")
    if not same:
        raise InputError(
            f"The results of the retrained model were made with other questions in {view.key} ({len(theirs.item_ids)} against "
            f"{len(ours.item_ids)}, or other choices). Two models are compared on the same questions only. "
            "Evaluate that model on this data."
        )
    if ours.variant != theirs.variant:
        raise InputError(
            f"The results of the retrained model follow the {theirs.variant!r} definitions, these the {ours.variant!r} ones. "
            "Two models are compared in one variant only. Evaluate that model with the same variant."
        )
    values = [
        None if mine is None or other is None else mine - other for mine, other in zip(ours.per_item, theirs.per_item, strict=True)
    ]
    details: dict[str, float | str | None] = {"accuracy": ours.value, "accuracy_retrained": theirs.value}
    return summarise(
        name,
        values,
        view.rows,
        aim=definition.aim,
        variant=scoring.variant,
        seed=scoring.seed,
        details=details,
        missing="a choice has no token",
    )


def _contrast(
    name: str,
    definition: type[Definition],
    accuracy: type[Definition],
    metrics: Mapping[str, Metric],
    views: tuple[ChoiceView, ChoiceView | None],
    scoring: Scoring,
) -> Metric:
    forget, other = views
    if other is None:
        return not_available(name, definition.aim, scoring.variant, "no such set was given")
    sides = [metrics[f"{view.key}_{accuracy.name}"] for view in (forget, other)]
    broken = next((side for side in sides if side.value is None), None)
    if broken is not None:
        return not_available(name, definition.aim, scoring.variant, f"{broken.name}: {broken.reason}")
    kept = [
        [(value, row) for value, row in zip(side.per_item, view.rows, strict=True) if value is not None]
        for side, view in zip(sides, (forget, other), strict=True)
    ]
    values = [[value for value, _ in pairs] for pairs in kept]
    rows = ([row for _, row in kept[0]], [row for _, row in kept[1]])
    return Metric(
        name,
        float(sides[0].value or 0.0) - float(sides[1].value or 0.0),
        definition.aim,
        scoring.variant,
        interval=difference_interval(values[0], values[1], rows, seed=scoring.seed),
        n=len(rows[0]) + len(rows[1]),
        n_skipped=sides[0].n_skipped + sides[1].n_skipped,
        details={forget.key: sides[0].value, other.key: sides[1].value},
    )
