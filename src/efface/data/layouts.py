"""Local copies of published data sets: which files of a folder hold a part, whatever the format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from efface.data.readers import FORMATS, Numbered, raw_items
from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.registry import closest

__all__ = ["build_rows", "existing_folder", "part_files", "part_items"]


def existing_folder(directory: str | Path, name: str) -> Path:
    """Return the folder as an absolute path.

    Raises:
        InputError: When there is none.
    """
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. A local copy of {name} is a folder with its files. Check the path.")
    return folder.resolve()


def part_files(folder: Path, stems: Iterable[str]) -> list[Path]:
    """Return the files of the first stem that is there: ``STEM.json`` or the shards ``STEM-00000-of-00002.parquet``."""
    for stem in stems:
        for suffix in FORMATS:
            whole = folder / f"{stem}{suffix}"
            found = [whole] if whole.is_file() else sorted(folder.glob(f"{stem}-[0-9]*-of-[0-9]*{suffix}"))
            if found:
                return found
    return []


def part_items(folder: Path, stems: Iterable[str], *, what: str, known: Iterable[str] = ()) -> Numbered:
    """Return the objects of a part, each with where it stands.

    Args:
        folder: The local copy.
        stems: Places of the part without suffix, relative to the folder; the first that is there wins.
        what: The part in words, for the error.
        known: Parts that are there, for the guess in the error.

    Raises:
        InputError: When none of the places is there.
    """
    stems = list(stems)
    files = part_files(folder, stems)
    if not files:
        near = closest(what.rpartition(" ")[2].strip("'"), list(known))
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{folder} holds no {what}.{guess} It would be {stems[0]} with one of {', '.join(FORMATS)}. "
            "Check the folder and the part."
        )
    return (pair for file in files for pair in raw_items(file))


def build_rows(
    items: Numbered, convert: Callable[[Mapping[str, Any]], Mapping[str, Any]], source: str, limit: int | None = None
) -> RowSet:
    """Make rows of a published set's own objects.

    Args:
        items: Objects with where they stand.
        convert: Maps an object to the names of the row schema.
        source: Where the rows come from, for messages and the manifest.
        limit: Make only so many.

    Raises:
        InputError: When an object lacks a field; names the place and the field.
    """
    rows = []
    for where, item in islice(items, limit):
        if not isinstance(item, Mapping):
            raise InputError(
                f"{where} is {type(item).__name__}, not an object. Rows are objects with named fields. Mend that line."
            )
        try:
            values = convert(item)
        except KeyError as error:
            fields = ", ".join(sorted(map(str, item)))
            raise InputError(
                f"{where} has no field {error.args[0]!r} (it has {fields}). Rows of this set carry it. "
                "Check that the file is that set's."
            ) from None
        rows.append(Row.build(values, where=where))
    return RowSet.build(rows, source=source)
