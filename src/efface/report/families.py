"""What a family of figures is called and how it is shown; the tables of them are in the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Family", "Scale"]

Scale = Literal["share", "score", "open", "test"]


@dataclass(frozen=True, slots=True)
class Family:
    """``main_on``: sets (or forms of sets) on which the figure stands in the comparison; "*" for all, "" for none."""

    name: str
    label: str
    explanation: str
    scale: Scale = "score"
    main_on: str = ""
    question: str = ""
