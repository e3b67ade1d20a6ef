"""TOFU (arXiv 2401.06121): forget, retain, real authors, world facts; specification: evaluation §5.

The forget and retain rows are those with ``paraphrased_answer`` and ``perturbed_answer`` (the ``_perturbed`` files). The rows a
suite is given are the rows it measures: TOFU's own code takes the first 300, OpenUnlearning all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from efface.evals.suites.base import Suite
from efface.evals.suites.compare import forget_quality_metric, membership_metrics, utility_metric
from efface.evals.suites.sets import STANDARD, Context, SetSpec
from efface.results import Metric, Results

__all__ = ["Tofu"]


class Tofu(Suite):
    """Every figure of TOFU and OpenUnlearning; a set that is not given leaves its figures not available."""

    name: ClassVar[str] = "tofu"
    title: ClassVar[str] = "TOFU: fictional authors, with OpenUnlearning's memorisation and membership metrics"
    max_new_tokens: ClassVar[int] = 200
    sets: ClassVar[Mapping[str, SetSpec]] = {
        **STANDARD,
        **{key: STANDARD[key].required for key in ("retain", "real_authors", "world_facts")},
    }
    takes_other_sets: ClassVar[bool] = True

    def aggregate(self, metrics: Mapping[str, Metric], context: Context, against: Results | None) -> dict[str, Metric]:
        """Return forget quality, the membership figures and both utilities."""
        return {
            "forget_quality": forget_quality_metric(metrics, context, against),
            **membership_metrics(metrics, context, against),
            "model_utility": utility_metric("model_utility", metrics, context),
            "world_utility": utility_metric("world_utility", metrics, context),
        }
