"""TOFU (arXiv 2401.06121): forget, retain, real authors, world facts; specification: evaluation §5.

The forget and retain rows are those with ``paraphrased_answer`` and ``perturbed_answer`` (the ``_perturbed`` files). The rows a
suite is given are the rows it measures: TOFU's own code takes the first 300, OpenUnlearning all.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from efface.evals.suites.base import Suite

__all__ = ["Tofu"]


class Tofu(Suite):
    """Every figure of TOFU and OpenUnlearning; a set that is not given leaves its figures not available."""

    name: ClassVar[str] = "tofu"
    title: ClassVar[str] = "TOFU: fictional authors, with OpenUnlearning's memorisation and membership metrics"
    max_new_tokens: ClassVar[int] = 200
    required: ClassVar[tuple[str, ...]] = ("retain", "real_authors", "world_facts")
    utilities: ClassVar[tuple[Literal["model_utility", "world_utility"], ...]] = ("model_utility", "world_utility")
