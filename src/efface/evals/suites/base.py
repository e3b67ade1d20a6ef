"""What a suite is: the items it needs, and the figures it makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from efface.data.items import GenerateItem, ScoreItem
from efface.evals.measure import Measured
from efface.evals.metrics.base import Variant
from efface.evals.metrics.membership import MIN_K
from efface.evals.suites.compare import forget_quality_metric, membership_metrics, utility_metric
from efface.evals.suites.data import SetView, SuiteData
from efface.evals.suites.sets import Context, set_metrics, spec_of
from efface.evals.summary import not_available
from efface.registry import METRICS
from efface.results import Example, Metric, Results

__all__ = ["Plan", "Suite"]

_EXAMPLES = {"forget": 8, "retain": 5}
_EXAMPLES_ELSEWHERE = 3


@dataclass(frozen=True)
class Plan:
    """What a suite asks of a model.

    Attributes:
        data: The sets.
        views: The sets as items, by key.
    """

    data: SuiteData
    views: dict[str, SetView]

    def score_items(self) -> Iterator[ScoreItem]:
        """Yield everything to be scored; equal items may come twice."""
        for key, view in self.views.items():
            yield from view.score_items(spec_of(key).parts)

    def generate_items(self) -> Iterator[GenerateItem]:
        """Yield everything to be generated; equal items may come twice."""
        for key, view in self.views.items():
            if "generations" in spec_of(key).parts:
                yield from view.generations

    @property
    def gradient_p(self) -> float:
        """Which norm of the gradients is wanted."""
        return 2.0

    def gradient_items(self) -> Iterator[ScoreItem]:
        """Yield what gradient norms are wanted of; nothing, unless a suite says otherwise: they cost a backward pass each."""
        yield from ()


class Suite:
    """A benchmark: which sets it measures and which figures over several sets it adds.

    Attributes:
        name: Registered name.
        title: One line on what it is.
        max_new_tokens: Longest generated answer unless the caller says otherwise.
        required: Sets whose figures are listed as not available when the set is missing.
        utilities: Utility figures it computes.

    Args:
        min_k: Share of least likely tokens in the min-k attacks.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    max_new_tokens: ClassVar[int]
    required: ClassVar[tuple[str, ...]] = ()
    utilities: ClassVar[tuple[Literal["model_utility", "world_utility"], ...]] = ()

    def __init__(self, *, min_k: float = MIN_K) -> None:
        self.min_k = min_k

    def plan(self, data: SuiteData, *, max_new_tokens: int | None = None) -> Plan:
        """Return the items this suite needs.

        Raises:
            InputError: When a set is empty or badly named.
        """
        data.check()
        longest = max_new_tokens or self.max_new_tokens
        return Plan(data, {key: SetView(key, rows, max_new_tokens=longest) for key, rows in data.sets.items()})

    def compute(self, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None) -> dict[str, Metric]:
        """Return every figure by name."""
        context = Context(plan.data, plan.views, measured, variant, seed, self.min_k)
        metrics: dict[str, Metric] = {}
        for key in plan.views:
            metrics |= set_metrics(key, context)
        for key in self.required:
            if key not in plan.views:
                metrics |= _absent(key, variant)
        metrics["forget_quality"] = forget_quality_metric(metrics, context, against)
        metrics |= membership_metrics(metrics, context, against)
        for kind in self.utilities:
            metrics[kind] = utility_metric(kind, metrics, context)
        return metrics

    def examples(self, plan: Plan, measured: Measured) -> tuple[Example, ...]:
        """Return a few generations of each set, for the report."""
        found = []
        for key, view in plan.views.items():
            if "generations" not in spec_of(key).parts:
                continue
            wanted = _EXAMPLES.get(key, _EXAMPLES_ELSEWHERE)
            step = max(1, len(view.rows) // wanted)  # spread over the set: neighbours are often about the same entity
            for index in range(0, min(len(view.rows), step * wanted), step):
                row = view.rows[index]
                shown = row.question or ("(beginning of a text)" if row.is_text else "")
                answer = view.reference(row, index, measured)
                found.append(Example(row.id, key, shown, answer, measured.text(view.generations[index])))
        return tuple(found)


def _absent(key: str, variant: Variant) -> dict[str, Metric]:
    spec = spec_of(key)
    found = {}
    for name in spec.metrics:
        definition = METRICS.get(name) if name in METRICS else METRICS.get("probability")
        full = f"{key}_{name}"
        found[full] = not_available(full, spec.aim(name, definition), variant, f"no {key} set was given")
    return found
