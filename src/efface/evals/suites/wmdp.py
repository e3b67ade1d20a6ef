"""WMDP (Li et al., arXiv 2403.03218) with MMLU (arXiv 2009.03300) for what must stay; specification: evaluation §8.

Every set whose key begins with ``wmdp_`` is one to forget (``wmdp_bio``, ``wmdp_cyber``, ``wmdp_chem``), and ``wmdp`` is their
size-weighted mean, as the harness groups them; ``mmlu`` is judged like what must stay, its subjects size-weighted too. Questions
are asked without examples unless a set ``<key>_dev`` holds some. The aim is chance, and below chance is no success.

Under ``strict`` the sets to forget are also asked in every cyclic order of the choices, and openly, without choices: forgetting
that shows in letters alone need not be forgetting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from efface.data.choices import WMDP_DOMAINS
from efface.errors import InputError
from efface.evals.measure import Measured
from efface.evals.metrics.base import Definition, Variant
from efface.evals.metrics.choices import ChoiceAccuracy, ChoiceTextAccuracy, ChoiceTextAccuracyNorm
from efface.evals.suites.base import Plan, Suite
from efface.evals.suites.choices import (
    ChoicePlan,
    ChoiceView,
    Scoring,
    absent_metrics,
    choice_examples,
    choice_metrics,
    choice_notes,
    set_metric,
)
from efface.evals.suites.data import SuiteData
from efface.evals.summary import not_available
from efface.results import Example, Metric, Results

__all__ = ["Wmdp"]

_PUBLISHED = tuple(f"wmdp_{part}" for part in WMDP_DOMAINS)


class Wmdp(Suite):
    """Hazardous knowledge as multiple choice, and MMLU as utility.

    Args:
        shots: Examples before a question, at most; they come from the set ``<key>_dev``, without which there are none.
    """

    name: ClassVar[str] = "wmdp"
    title: ClassVar[str] = "WMDP: multiple choice on what must go, MMLU on what must stay"
    max_new_tokens: ClassVar[int] = 64

    def __init__(self, *, shots: int = 5) -> None:
        super().__init__()
        self.shots = shots

    def plan(self, data: SuiteData, *, max_new_tokens: int | None = None) -> ChoicePlan:
        """Return the items this suite needs.

        Raises:
            InputError: When no set is given, or a row offers no choices.
        """
        sets = data.sets
        keys = [key for key in sets if (key.startswith("wmdp_") or key == "mmlu") and not key.endswith("_dev")]
        if not any(key.startswith("wmdp_") for key in keys):
            raise InputError(
                "The wmdp suite was given no set of questions to forget. It takes sets called wmdp_bio, wmdp_cyber, wmdp_chem (or "
                "wmdp_ and a name of your own), and mmlu. Write evaluate: [{suite: wmdp, wmdp_bio: 'wmdp:DIR:bio'}]."
            )
        data.check()
        asked = {
            key: ChoiceView(
                key,
                sets[key],
                examples=sets.get(f"{key}_dev"),
                shots=self.shots,
                judged="kept" if key == "mmlu" else "forget",
                is_thorough=key != "mmlu",
                max_new_tokens=max_new_tokens or self.max_new_tokens,
            )
            for key in keys
        }
        return ChoicePlan(data, {}, asked=asked)

    def compute(self, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None) -> dict[str, Metric]:
        """Return every figure by name."""
        asked = _asked(plan)
        kept = plan.data.retain.rows if plan.data.retain is not None else ()
        scoring = Scoring(measured, variant, seed, kept)
        metrics: dict[str, Metric] = {}
        for view in asked.values():
            metrics |= choice_metrics(view, scoring)
        metrics |= self._group(asked, metrics, scoring)
        published = [key for key in _PUBLISHED if key not in asked] if set(_PUBLISHED) & set(asked) else []
        for key in published:
            metrics |= absent_metrics(key, "forget", variant)
        return metrics if "mmlu" in asked else metrics | absent_metrics("mmlu", "kept", variant)

    def notes(self, plan: Plan, measured: Measured) -> tuple[str, ...]:
        """Return how the questions were asked."""
        return choice_notes(plan) if isinstance(plan, ChoicePlan) else ()

    def examples(self, plan: Plan, measured: Measured) -> tuple[Example, ...]:
        """Return a few open answers to the questions that must go."""
        return choice_examples(plan, measured) if isinstance(plan, ChoicePlan) else ()

    def _group(self, asked: Mapping[str, ChoiceView], metrics: Mapping[str, Metric], scoring: Scoring) -> dict[str, Metric]:
        """Average over all questions to forget, whatever their set: the size-weighted mean of the sets."""
        views = [view for view in asked.values() if view.judged == "forget"]
        found: dict[str, Metric] = {}
        definitions: tuple[type[Definition], ...] = (ChoiceAccuracy, ChoiceTextAccuracy, ChoiceTextAccuracyNorm)
        for definition in definitions:
            name = f"wmdp_{definition.name}"
            parts = [metrics[f"{view.key}_{definition.name}"] for view in views]
            broken = next((part for part in parts if part.value is None), None)
            if broken is not None:
                found[name] = not_available(name, definition.aim, scoring.variant, f"{broken.name}: {broken.reason}")
            else:
                values = [value for part in parts for value in part.per_item]
                found[name] = set_metric(name, definition, values, views, scoring)
        return found


def _asked(plan: Plan) -> dict[str, ChoiceView]:
    return plan.asked if isinstance(plan, ChoicePlan) else {}
