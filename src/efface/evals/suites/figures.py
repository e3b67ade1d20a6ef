"""Figures of one set for suites that list their own metrics, and their distance to the retrained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from efface.data.schema import Row
from efface.errors import InputError
from efface.evals.measure import Measured
from efface.evals.metrics.base import ALL_VARIANTS, Definition, TextMetric, TokenMetric, Truth, Variant
from efface.evals.suites.data import SetView
from efface.evals.summary import entity_interval, not_available, summarise
from efface.results import Aim, Metric, Results

__all__ = ["Floats", "GapToRetrained", "Sheet", "role_of"]

Floats = Sequence[float | None]
Details = Mapping[str, float | str | None]
Role = Literal["forget", "holdout", "kept"]


def role_of(key: str) -> Role:
    """Return how a set is judged: like what must go, like what was never there, or like what must stay."""
    last = key.rpartition("_")[2]
    if last == "forget":
        return "forget"
    return "holdout" if last == "holdout" else "kept"


class GapToRetrained(Definition):
    """Distance of a figure to the retrained model's."""

    name: ClassVar[str] = "gap"
    title: ClassVar[str] = "gap to the retrained model"
    aim: ClassVar[Aim] = "zero"
    definition: ClassVar[str] = (
        "A figure minus the retrained model's on the same rows, row by row (`<figure>_gap`). Above zero on the forget rows: more "
        "is left than in a model that never saw them."
    )
    variants: ClassVar[dict[str, str]] = dict.fromkeys(ALL_VARIANTS, "the definition, on the figure of that variant")
    interval: ClassVar[str] = "paired bootstrap over entities, 2000 draws, percentile"
    cost: ClassVar[str] = "none"
    needs: ClassVar[str] = "results of the retrained model on the same rows"


@dataclass(frozen=True)
class Sheet:
    """What all figures of a computation share.

    Attributes:
        measured: What the model said.
        variant: Which definitions to follow.
        seed: Seed of the bootstraps.
        against: Results of the retrained model.
        refusals: Sentences that count as refusals beside the built-in patterns.
    """

    measured: Measured
    variant: Variant
    seed: int
    against: Results | None = None
    refusals: tuple[str, ...] = ()

    def aim(self, key: str, definition: type[Definition]) -> Aim:
        """Return which way is better on a set."""
        role = role_of(key)
        if role == "holdout":
            return "reference"
        return definition.aim if role == "forget" else definition.aim_elsewhere

    def tokens(self, view: SetView, definition: type[TokenMetric], details: Details | None = None) -> Metric:
        """Return a figure of the scored answers of a set."""
        if self.measured.not_scored:
            return self.absent(view.key, definition, self.measured.not_scored)
        values = [definition.item(self.measured.row(item), variant=self.variant) for item in view.answers]
        return self.summary(view, definition, values, "no token to judge", details)

    def texts(self, view: SetView, definition: type[TextMetric], details: Details | None = None) -> Metric:
        """Return a figure of what the model wrote to a set."""
        values = [
            definition.item(written, Truth(reference, row.value, row.value_aliases, self.refusals), variant=self.variant)
            for row, written, reference in self.written(view)
        ]
        return self.summary(view, definition, values, "nothing to compare with, or too short a text", details)

    def written(self, view: SetView) -> list[tuple[Row, str, str]]:
        """Return each row of a set with what the model wrote and what it should be compared with."""
        return [
            (row, self.measured.text(item), view.reference(row, index, self.measured))
            for index, (row, item) in enumerate(zip(view.rows, view.generations, strict=True))
        ]

    def summary(
        self, view: SetView, definition: type[Definition], values: Floats, missing: str, details: Details | None = None
    ) -> Metric:
        """Average figures per row; None is skipped and counted."""
        return summarise(
            f"{view.key}_{definition.name}",
            values,
            view.rows,
            aim=self.aim(view.key, definition),
            variant=self.variant,
            seed=self.seed,
            details=details,
            missing=missing,
        )

    def absent(self, key: str, definition: type[Definition], reason: str) -> Metric:
        """Return a figure that is not available, and why."""
        return not_available(f"{key}_{definition.name}", self.aim(key, definition), self.variant, reason)

    def gap(self, metric: Metric, rows: Sequence[Row]) -> Metric:
        """Return the distance of a figure to the retrained model's, with a paired interval.

        Raises:
            InputError: When the retrained model was measured on other rows.
        """
        name = f"{metric.name}_{GapToRetrained.name}"
        theirs = None if self.against is None else self.against.metrics.get(metric.name)
        if metric.value is None or theirs is None or theirs.value is None:
            if metric.value is None:
                reason = metric.reason
            else:
                reason = f"needs {GapToRetrained.needs}" if theirs is None else theirs.reason
            return not_available(name, "zero", self.variant, reason)
        if metric.item_ids != theirs.item_ids:
            raise InputError(
                f"{metric.name} of the retrained model was measured on other rows. Two models are compared on the same rows only. "
                "Evaluate that model on this data."
            )
        pairs = [
            (float(ours) - float(other), row)
            for ours, other, row in zip(metric.per_item, theirs.per_item, rows, strict=True)
            if ours is not None and other is not None
        ]
        if not pairs:
            return not_available(name, "zero", self.variant, "no row has a value under both models")
        differences, used = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return Metric(
            name,
            sum(differences) / len(differences),
            "zero",
            self.variant,
            interval=entity_interval(differences, used, seed=self.seed),
            n=len(pairs),
            n_skipped=len(rows) - len(pairs),
            details={"ours": metric.value, "retrained": theirs.value},
        )
