"""TOFU as a corpus for small models: some authors to keep, the last ones to forget, and the rows about the real world."""

from __future__ import annotations

from efface.data.schema import Row, RowSet
from efface.data.tofu import ROWS_PER_AUTHOR, read_tofu_part
from efface.errors import InputError
from efface.world.config import TofuConfig
from efface.world.corpus import World

__all__ = ["load_tofu_world"]


def load_tofu_world(config: TofuConfig) -> World:
    """Return the part of TOFU that ``config`` names.

    The retain authors are the first of the full set and the forget authors its last, as in TOFU's splits; the authors just
    before the forget authors serve as holdout. Real-author and world-fact rows are part of the training corpus: a model this small
    knows nothing it was not trained on, so that they could not be measured otherwise.

    Raises:
        InputError: When the folder lacks a file, or the authors overlap.
    """
    full = read_tofu_part(config.directory, "full")
    authors = len(full) // ROWS_PER_AUTHOR
    kept = config.authors - config.forget_authors
    first_holdout = authors - config.forget_authors - config.holdout_authors
    if kept > first_holdout:
        raise InputError(
            f"{config.authors} authors and {config.holdout_authors} holdout authors are more than the {authors} in the data. "
            "Retain, holdout and forget authors must not overlap. Ask for fewer authors or holdout authors."
        )
    return World(
        config=config,
        forget=read_tofu_part(config.directory, config.forget),
        retain=_authors(full, 0, kept),
        holdout=_authors(full, first_holdout, first_holdout + config.holdout_authors),
        real_authors=_named(read_tofu_part(config.directory, "real_authors"), "real-author"),
        world_facts=_named(read_tofu_part(config.directory, "world_facts"), "world-fact"),
    )


def _authors(full: RowSet, start: int, stop: int) -> RowSet:
    rows = full.rows[start * ROWS_PER_AUTHOR : stop * ROWS_PER_AUTHOR]
    return RowSet(rows, f"{full.source}, authors {start} to {stop - 1}" if rows else full.source)


def _named(rows: RowSet, prefix: str) -> RowSet:
    """Give rows without an author their position as entity, so that equal content in two files stays apart."""
    named = [Row.build({**row.as_dict(), "entity": f"{prefix}-{number:03d}"}) for number, row in enumerate(rows)]
    return RowSet(tuple(named), rows.source)
