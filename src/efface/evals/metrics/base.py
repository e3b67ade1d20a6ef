"""What a metric says about itself, and the three shapes an item-level metric can have.

A metric of another package subclasses :class:`TokenMetric` or :class:`TextMetric`, is registered under ``efface.metrics`` and is
then measured by every suite on the forget and the retain set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from efface.data.items import TokenRow
from efface.registry import METRICS
from efface.results import Aim

__all__ = ["ALL_VARIANTS", "Definition", "OptionMetric", "TextMetric", "TokenMetric", "Truth", "Variant", "describe_metric"]

Variant = Literal["openunlearning", "original", "strict"]
ALL_VARIANTS: tuple[Variant, ...] = ("openunlearning", "original", "strict")


class Definition:
    """What a metric is; the class attributes are its documentation.

    Attributes:
        name: Internal snake-case name, without the set it is measured on.
        title: How it reads in a table.
        aim: Which way is better on the forget set.
        aim_elsewhere: Which way is better on sets that must not change.
        definition: One or two sentences with the formula.
        variants: What each supported variant does, by name.
        interval: How its interval is made.
        cost: What it takes beyond what other metrics need anyway.
        needs: What the rows or the model must offer.
        paper: Where it comes from.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    aim: ClassVar[Aim] = "reference"
    aim_elsewhere: ClassVar[Aim] = "higher"
    definition: ClassVar[str]
    variants: ClassVar[dict[str, str]] = {"strict": "the definition"}
    interval: ClassVar[str] = "bootstrap over entities, 2000 draws, percentile"
    cost: ClassVar[str]
    needs: ClassVar[str] = ""
    paper: ClassVar[str] = ""


class TokenMetric(Definition, ABC):
    """A figure per item, made of the tokens of one scored continuation."""

    @staticmethod
    @abstractmethod
    def item(row: TokenRow, *, variant: Variant = "strict") -> float | None:
        """Return the item's figure, or None where it has no valid token."""


class OptionMetric(Definition, ABC):
    """A figure per item, made of the right continuation and wrong ones of the same form."""

    @staticmethod
    @abstractmethod
    def item(correct: TokenRow, wrong: Sequence[TokenRow], *, variant: Variant = "strict") -> float | None:
        """Return the item's figure, or None where a continuation has no valid token."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a generation is held against.

    Attributes:
        reference: The right answer; empty where there is none.
        value: The fact in it.
        aliases: Other spellings of the fact.
        refusals: Refusals of the caller's own, beside the patterns of :mod:`efface.text`.
    """

    reference: str = ""
    value: str | None = None
    aliases: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


class TextMetric(Definition, ABC):
    """A figure per item, made of one generation."""

    @staticmethod
    @abstractmethod
    def item(generation: str, truth: Truth, *, variant: Variant = "strict") -> float | None:
        """Return the item's figure, or None where the row lacks what it needs."""


def describe_metric(name: str) -> dict[str, Any]:
    """Return what a registered metric says about itself, for ``efface metrics NAME``."""
    definition = METRICS.get(name)
    return {
        "name": definition.name,
        "title": definition.title,
        "aim": definition.aim,
        "aim_elsewhere": definition.aim_elsewhere,
        "definition": definition.definition,
        "variants": dict(definition.variants),
        "interval": definition.interval,
        "cost": definition.cost,
        "needs": definition.needs,
        "paper": definition.paper,
    }
