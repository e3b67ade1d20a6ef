"""What the embedded world gives to suites that have sets of their own, by the suite's name.

A suite that is not listed is measured on the world's own sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from efface.data.schema import RowSet
from efface.world.corpus import World
from efface.world.muse import muse_world
from efface.world.topics import topic_sets

__all__ = ["SHAPES", "Shape", "shape_for"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A world as a suite wants it.

    Attributes:
        sets: The suite's sets, by key.
        forget: What must go, where that is not the world's own forget set.
        retain: What methods may train on, likewise.
        holdout: Rows never trained on, likewise.
        note: What a reader must know of it.
    """

    sets: Mapping[str, RowSet]
    forget: RowSet | None = None
    retain: RowSet | None = None
    holdout: RowSet | None = None
    note: str = ""


def _muse(world: World) -> Shape:
    rows = muse_world(world)
    note = (
        "MUSE's shape: the forget set holds passages as well as questions, the methods are given every other retain person, and "
        "the utility is measured on the people in between."
    )
    return Shape(rows.sets, rows.forget, rows.retain1, rows.holdout, note)


def _wmdp(world: World) -> Shape:
    return Shape(topic_sets(world, "wmdp"))


def _subjects(world: World) -> Shape:
    return Shape(topic_sets(world, "subjects"))


SHAPES: Mapping[str, Callable[[World], Shape]] = {"muse": _muse, "wmdp": _wmdp, "subjects": _subjects}


def shape_for(suite: str, world: World) -> Shape | None:
    """Return the world as ``suite`` wants it; None where it takes the world's own sets."""
    make = SHAPES.get(suite)
    return None if make is None else make(world)
