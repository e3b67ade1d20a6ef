"""Plain tables and what is written to a JSON file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Table"]

_WIDTH = 120


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: What is compared.
        words: What the two sides are and what the bound means, a paragraph each.
        columns: Column titles.
        rows: Cells as they are printed.
        values: The same as numbers, one mapping per row.
        notes: What else was seen.
    """

    title: str
    words: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    values: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    def text(self) -> str:
        """Return the table as lines of text."""
        cells = [list(self.columns), *(list(row) for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        lines.insert(1, "  ".join("-" * width for width in widths))
        words = [textwrap.fill(paragraph, _WIDTH) for paragraph in self.words]
        return "\n".join([self.title, "=" * len(self.title), *words, "", *lines, *(["", *self.notes] if self.notes else [])])

    def as_dict(self) -> dict[str, Any]:
        """Return the table for a JSON file."""
        return {
            "title": self.title,
            "words": list(self.words),
            "rows": [dict(row) for row in self.values],
            "notes": list(self.notes),
        }
