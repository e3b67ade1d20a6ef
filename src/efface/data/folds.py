"""Cut a set of rows into folds by entity: growing ones that contain each other, or disjoint ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from efface.data.schema import RowSet
from efface.errors import InputError

__all__ = ["FOLDS", "disjoint_folds", "growing_folds"]

FOLDS = 4
"""How many folds there are unless the caller says otherwise; MUSE's number."""


def growing_folds(rows: RowSet, folds: int = FOLDS, *, order: Sequence[str] | None = None) -> tuple[RowSet, ...]:
    """Return sets that contain each other, each with about twice the entities of the one before; the last is the whole.

    Four make the last at least eight times the first, where there are eight entities.

    Args:
        rows: What is cut.
        folds: How many; of few entities there are fewer folds.
        order: Entities in the order in which they are taken; default their first appearance.

    Raises:
        InputError: When there are not entities for two folds.
    """
    people = _people(rows, order)
    sizes = sorted({max(1, len(people) // 2**halvings) for halvings in range(folds)})
    return tuple(_of(rows, people[:size], f"forget_{n}") for n, size in enumerate(_enough(sizes, rows), start=1))


def disjoint_folds(rows: RowSet, folds: int = FOLDS, *, order: Sequence[str] | None = None) -> tuple[RowSet, ...]:
    """Return sets that share no entity, as equal in size as can be; arguments as in :func:`growing_folds`."""
    people = _people(rows, order)
    ends = [round(len(people) * fold / folds) for fold in range(folds + 1)]
    groups = [people[start:end] for start, end in pairwise(ends) if end > start]
    return tuple(_of(rows, group, f"forget_{n}") for n, group in enumerate(_enough(groups, rows), start=1))


def _people(rows: RowSet, order: Sequence[str] | None) -> list[str]:
    present = dict.fromkeys(row.entity for row in rows)
    return list(present) if order is None else [person for person in dict.fromkeys(order) if person in present]


def _enough(groups: list[Any], rows: RowSet) -> list[Any]:
    if len(groups) < 2:
        raise InputError(
            f"{rows.source} names {len({row.entity for row in rows})} entity, which makes one fold. A curve needs two at least, "
            "and a fold holds whole entities. Give rows of more entities, or say which rows belong together (entity)."
        )
    return groups


def _of(rows: RowSet, people: Sequence[str], name: str) -> RowSet:
    chosen = set(people)
    return RowSet(tuple(row for row in rows if row.entity in chosen), f"{rows.source}, {name}")
