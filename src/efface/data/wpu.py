"""WPU, Wikipedia Person Unlearning (Liu et al., arXiv 2407.16997): people, their articles, and questions about them.

The hub's configurations are ``forget_100``, ``forget_20_1`` to ``_3``, ``forget_2_1`` to ``_5``, each with a ``_hard_retain`` of
questions on entities close to the targets, ``general_retain`` (popular people) and ``retain`` (articles for the retain loss). The
columns are ``title``, ``wikipage``, ``question`` and ``answer``; an article stands in every row of its person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from efface.data.layouts import build_rows, existing_folder, part_files, part_items
from efface.data.readers import Numbered
from efface.data.schema import RowSet
from efface.errors import InputError

__all__ = ["read_wpu", "read_wpu_part", "wpu_row"]

DOCUMENTS = "-documents"
"""Ending of a part whose articles are wanted in place of its questions."""


def read_wpu(directory: str | Path, forget: str = "forget_100") -> dict[str, RowSet]:
    """Read a request and what it is measured on, by set key.

    Args:
        directory: The local copy.
        forget: A forget configuration, such as "forget_20_1".

    Returns:
        ``forget`` (the articles), ``questions_forget``, ``hard_retain`` and ``general_retain`` (questions), ``retain`` (articles);
        of the last three those whose files are there.

    Raises:
        InputError: When the folder or the forget configuration is missing.
    """
    folder = existing_folder(directory, "WPU")
    sets = {"forget": read_wpu_part(folder, forget + DOCUMENTS), "questions_forget": read_wpu_part(folder, forget)}
    others = {"hard_retain": f"{forget}_hard_retain", "general_retain": "general_retain"}
    sets |= {key: read_wpu_part(folder, part) for key, part in others.items() if part_files(folder, _stems(part))}
    if part_files(folder, _stems("retain")):
        sets["retain"] = read_wpu_part(folder, "retain" + DOCUMENTS)
    return sets


def read_wpu_part(directory: str | Path, part: str, *, limit: int | None = None) -> RowSet:
    """Read the questions of a configuration, or with ``-documents`` after its name the articles, one row per person.

    Raises:
        InputError: When the folder or the configuration is missing.
    """
    folder = existing_folder(directory, "WPU")
    name = part.removesuffix(DOCUMENTS)
    known = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    items = part_items(folder, _stems(name), what=f"WPU part {name!r}", known=known)
    if part != name:
        return build_rows(_articles(items), _article, f"{folder}:{part}", limit)
    return build_rows(items, lambda item: wpu_row(item, name), f"{folder}:{part}", limit)


def wpu_row(item: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return an object of a part in the names of the row schema; of the retain part its article."""
    if part == "retain":
        return _article(item)
    return {"question": item["question"], "answer": item["answer"], "entity": item.get("title")}


def _article(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": item["wikipage"], "entity": item["title"]}


def _articles(items: Numbered) -> Iterator[tuple[str, Any]]:
    """Keep the first row of each person: the article is the same in all of them."""
    seen: set[Any] = set()
    for where, item in items:
        if not isinstance(item, Mapping) or not item.get("wikipage") or not item.get("title"):
            raise InputError(f"{where} has no title or no wikipage. An article needs both. Read that part's questions instead.")
        if item["title"] not in seen:
            seen.add(item["title"])
            yield where, item


def _stems(part: str) -> list[str]:
    return [f"{part}/train", part]
