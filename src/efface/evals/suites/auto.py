"""``evaluate: auto``: every metric the rows at hand allow; the others are named with the reason."""

from __future__ import annotations

from typing import ClassVar, Literal

from efface.evals.measure import Measured
from efface.evals.metrics.base import Variant
from efface.evals.suites.base import Plan, Suite
from efface.results import Metric, Results

__all__ = ["Auto"]


class Auto(Suite):
    """Questions, texts and conversations alike; of a plain text the first third of its tokens is the prompt."""

    name: ClassVar[str] = "auto"
    title: ClassVar[str] = "Whatever the rows allow"
    max_new_tokens: ClassVar[int] = 64
    utilities: ClassVar[tuple[Literal["model_utility", "world_utility"], ...]] = ("model_utility", "world_utility")

    def compute(self, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None) -> dict[str, Metric]:
        """Return every figure by name; of the two utilities only those whose sets are there."""
        metrics = super().compute(plan, measured, variant=variant, seed=seed, against=against)
        needed = {"model_utility": {"retain", "real_authors", "world_facts"}, "world_utility": {"retain", "world_facts"}}
        for name, keys in needed.items():
            if not keys <= set(plan.views):
                del metrics[name]
        return metrics
