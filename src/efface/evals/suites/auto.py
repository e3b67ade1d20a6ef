"""``evaluate: auto``: every metric the rows at hand allow; the others are named with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from efface.evals.suites.base import Suite
from efface.evals.suites.compare import forget_quality_metric, membership_metrics, utility_metric
from efface.evals.suites.sets import STANDARD, Context, SetSpec
from efface.results import Metric, Results

__all__ = ["Auto"]


class Auto(Suite):
    """Questions, texts and conversations alike; of a plain text the first third of its tokens is the prompt."""

    name: ClassVar[str] = "auto"
    title: ClassVar[str] = "Whatever the rows allow"
    max_new_tokens: ClassVar[int] = 64
    sets: ClassVar[Mapping[str, SetSpec]] = STANDARD
    takes_other_sets: ClassVar[bool] = True

    def aggregate(self, metrics: Mapping[str, Metric], context: Context, against: Results | None) -> dict[str, Metric]:
        """Return forget quality, membership, and of the two utilities those whose sets are there."""
        found = {"forget_quality": forget_quality_metric(metrics, context, against)}
        found |= membership_metrics(metrics, context, against)
        if {"retain", "real_authors", "world_facts"} <= set(context.views):
            found["model_utility"] = utility_metric("model_utility", metrics, context)
        if {"retain", "world_facts"} <= set(context.views):
            found["world_utility"] = utility_metric("world_utility", metrics, context)
        return found
