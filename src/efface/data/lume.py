"""LUME (Ramakrishna et al., arXiv 2502.15097), the data of SemEval-2025 task 4: creative texts, biographies, real documents.

Its public data set holds ``forget_train``, ``forget_validation``, ``retain_train`` and ``retain_validation``, each with the fields
``id``, ``input``, ``output`` and ``task``. An id ends in ``sc`` and a number where the input is the beginning of a document and the
output its continuation, and in ``qa`` and a number for a question; what stands before is the document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface.data.layouts import build_rows, existing_folder, part_files, part_items
from efface.data.schema import RowSet
from efface.registry import unknown_name

__all__ = ["LUME_PARTS", "lume_row", "read_lume", "read_lume_part"]

LUME_PARTS: Mapping[str, tuple[str, str]] = {
    f"{group}_{fold}": (group, fold) for group in ("forget", "retain") for fold in ("train", "validation")
}
"""Parts, as group and fold."""

_ID = re.compile(r"(?P<document>.+?)(?P<kind>sc|qa)\d+$")
_KINDS = {"sc": "completion", "qa": "question"}


def read_lume(directory: str | Path, fold: str = "train") -> dict[str, RowSet]:
    """Read a request and what it is measured on, by set key.

    Args:
        directory: The local copy.
        fold: "train" or "validation".

    Returns:
        ``forget`` and ``retain`` (both kinds of rows), and the other fold's as ``validation_forget`` and ``validation_retain``
        (``train_...`` where validation is asked for) if it is there.

    Raises:
        InputError: When the folder, the fold or a file is missing.
    """
    folder = existing_folder(directory, "LUME")
    if fold not in ("train", "validation"):
        raise unknown_name("fold of LUME", fold, ["train", "validation"])
    sets = {group: read_lume_part(folder, f"{group}_{fold}") for group in ("forget", "retain")}
    other = "validation" if fold == "train" else "train"
    for group in ("forget", "retain"):
        if part_files(folder, _stems(f"{group}_{other}")):
            sets[f"{other}_{group}"] = read_lume_part(folder, f"{group}_{other}")
    return sets


def read_lume_part(directory: str | Path, part: str, *, limit: int | None = None) -> RowSet:
    """Read one part by its name ("forget_train"), one kind of its rows with ``-completion`` or ``-question`` after it.

    Raises:
        InputError: When the folder, the part or its file is missing.
    """
    folder = existing_folder(directory, "LUME")
    name, _, kind = part.partition("-")
    if name not in LUME_PARTS:
        raise unknown_name("part of LUME", name, list(LUME_PARTS))
    if kind and kind not in _KINDS.values():
        raise unknown_name("kind of LUME's rows", kind, list(_KINDS.values()))
    items = part_items(folder, _stems(name), what=f"LUME part {name!r}")
    if kind:
        items = ((where, item) for where, item in items if _parse(item)[1] == kind)
    return build_rows(items, lambda item: lume_row(item, name), f"{folder}:{part}", limit)


def lume_row(item: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return an object of a part in the names of the row schema; the document is the entity, the task the attribute."""
    document, kind = _parse(item)
    row = {"id": item["id"], "question": item["input"], "answer": item["output"], "entity": document, "attribute": item["task"]}
    return {**row, "wording": kind, "value": item["output"] if kind == "question" else None}


def _parse(item: Any) -> tuple[str | None, str | None]:
    found = _ID.fullmatch(str(item["id"])) if isinstance(item, Mapping) and "id" in item else None
    return (found["document"], _KINDS[found["kind"]]) if found else (None, None)


def _stems(part: str) -> list[str]:
    group, fold = LUME_PARTS[part]
    return [f"data/{part}", part, f"{fold}/{group}"]
