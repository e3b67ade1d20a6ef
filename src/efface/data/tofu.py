"""TOFU's files (Maini et al., arXiv 2401.06121): 200 invented authors, twenty question-answer pairs each.

The author of a row is its position in ``full.json`` divided by twenty; no file names it. A row of a forget or retain split is
found there by its content, so that intervals can resample authors. Rows for which a ``*_perturbed`` file holds a paraphrase and
wrong answers carry them, whichever split they are read from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from efface.data.readers import read_rows
from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.registry import unknown_name

__all__ = ["ROWS_PER_AUTHOR", "read_tofu", "read_tofu_part", "with_authors"]

ROWS_PER_AUTHOR = 20
_FORGET = re.compile(r"(forget|retain|holdout)(\d\d)(_perturbed)?")


def read_tofu(directory: str | Path, forget: str = "forget05") -> dict[str, RowSet]:
    """Read one forget split and everything that belongs to it.

    Args:
        directory: Folder with TOFU's files.
        forget: "forget01", "forget05" or "forget10".

    Returns:
        ``full``, ``forget``, ``retain`` (its complement), ``retain_perturbed`` (the 400 retain rows TOFU evaluates), and, where
        their files are there, ``real_authors``, ``world_facts`` and ``holdout``.

    Raises:
        InputError: When the folder, a file or the split is missing.
    """
    folder = _folder(directory)
    found = _FORGET.fullmatch(forget)
    if found is None or found[1] != "forget" or found[3]:
        raise unknown_name("TOFU forget split", forget, ["forget01", "forget05", "forget10"])
    retain = f"retain{100 - int(found[2]):02d}"
    parts = {"full": "full", "forget": forget, "retain": retain, "retain_perturbed": "retain_perturbed"}
    optional = {"real_authors": "real_authors", "world_facts": "world_facts", "holdout": f"holdout{found[2]}"}
    parts |= {key: name for key, name in optional.items() if _file_of(folder, name).exists()}
    return {key: read_tofu_part(folder, name) for key, name in parts.items()}


def read_tofu_part(directory: str | Path, part: str, *, limit: int | None = None) -> RowSet:
    """Read one file of TOFU by its name without suffix ("forget05", "retain_perturbed", "world_facts", ...)."""
    folder = _folder(directory)
    path = _file_of(folder, part)
    if not path.exists():
        raise unknown_name("TOFU part", part, sorted(file.stem for file in folder.glob("*.json")))
    rows = read_rows(path, limit=limit)
    if part.startswith(("real_authors", "world_facts", "holdout")):
        return rows
    authors = _authors(str(folder))
    extras = _extras(str(folder))
    return RowSet.build((_complete(row, authors, extras) for row in rows), source=str(path))


def with_authors(rows: RowSet, full: RowSet) -> RowSet:
    """Return ``rows`` with the author of each as its entity; ``full`` is TOFU's whole set in its order."""
    authors = _by_position(full)
    return RowSet(tuple(_complete(row, authors, {}) for row in rows), rows.source)


def _folder(directory: str | Path) -> Path:
    folder = Path(directory).expanduser()
    if not (folder / "full.json").is_file():
        raise InputError(f"{folder} holds no full.json. TOFU's folder carries full.json and its splits. Check the path.")
    return folder.resolve()


def _file_of(folder: Path, part: str) -> Path:
    # Wrong answers stand only in the perturbed file; it holds the same questions and answers.
    perturbed = folder / f"{part}_perturbed.json"
    return perturbed if part in ("real_authors", "world_facts") and perturbed.exists() else folder / f"{part}.json"


def _complete(row: Row, authors: Mapping[tuple[str, str], int], extras: Mapping[tuple[str, str], Row]) -> Row:
    author = authors.get(row.content)
    extra = extras.get(row.content, row)
    return replace(
        row,
        entity=row.entity if author is None else f"author-{author:03d}",
        paraphrased_question=extra.paraphrased_question,
        paraphrased_answer=extra.paraphrased_answer,
        perturbed_answer=extra.perturbed_answer,
    )


@lru_cache(maxsize=2)
def _authors(folder: str) -> dict[tuple[str, str], int]:
    return _by_position(read_rows(Path(folder) / "full.json"))


def _by_position(full: RowSet) -> dict[tuple[str, str], int]:
    return {row.content: position // ROWS_PER_AUTHOR for position, row in enumerate(full)}


@lru_cache(maxsize=2)
def _extras(folder: str) -> dict[tuple[str, str], Row]:
    """Rows with a paraphrase and wrong answers; forget10 holds those of the smaller forget splits too."""
    files = [path for path in sorted(Path(folder).glob("*_perturbed.json")) if not path.stem.startswith(("real", "world"))]
    return {row.content: row for path in files for row in read_rows(path)}
