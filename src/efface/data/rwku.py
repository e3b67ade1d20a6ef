"""RWKU (Jin et al., arXiv 2406.10890): 200 famous people as targets, probes of three levels, neighbours, membership, utility.

The hub holds every part twice: for all targets under ``All/`` and per target under ``Target/1_Stephen_King/``, as JSON. Field names
are those its own evaluation reads. Its fluency part is instructions without answers, which are no rows; it is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface.data.layouts import build_rows, existing_folder, part_files, part_items
from efface.data.schema import RowSet
from efface.errors import InputError
from efface.registry import unknown_name

__all__ = ["RWKU_PARTS", "read_rwku", "read_rwku_part", "rwku_row"]

RWKU_PARTS: Mapping[str, str] = {
    "forget_target": "intro",
    "forget_level1": "forget_level1",
    "forget_level2": "forget_level2",
    "forget_level3": "forget_level3",
    "neighbor_level1": "neighbor_level1",
    "neighbor_level2": "neighbor_level2",
    "mia_forget": "forget_mia",
    "mia_retain": "retain_mia",
    "utility_general": "retain_mmlu",
    "utility_reason": "retain_bbh",
    "utility_truthfulness": "truthful",
    "utility_factuality": "triviaqa",
    "train_original_passage": "passage",
    "train_positive_llama3": "positive",
}
"""Parts by the hub's configuration, and what their file is called."""

_KEYS: Mapping[str, str] = {
    "fill_blank_forget": "forget_level1",
    "question_forget": "forget_level2",
    "attack_forget": "forget_level3",
    "neighbours_fill_blank": "neighbor_level1",
    "neighbours_question": "neighbor_level2",
    "members_forget": "mia_forget",
    "members_retain": "mia_retain",
    "utility_general": "utility_general",
    "utility_reason": "utility_reason",
    "utility_truthfulness": "utility_truthfulness",
    "utility_factuality": "utility_factuality",
}


def read_rwku(directory: str | Path, target: str | None = None) -> dict[str, RowSet]:
    """Read a request and what it is measured on, by set key.

    Args:
        directory: The local copy.
        target: A person ("Stephen King"); None reads all targets together.

    Returns:
        ``forget`` (passages about the targets, or where there are none, their introductions), ``fill_blank_forget``,
        ``question_forget`` and ``attack_forget`` (the three levels), ``neighbours_*``, ``members_forget`` and ``members_retain``
        (texts for membership attacks), ``utility_*``; parts whose file is missing are left out.

    Raises:
        InputError: When the folder or the target is missing, or nothing can be read.
    """
    folder = existing_folder(directory, "RWKU")
    prefix = "" if target is None else f"{target}/"
    found = {key: read_rwku_part(folder, prefix + part) for key, part in _KEYS.items() if _has(folder, target, part)}
    source = next((part for part in ("train_original_passage", "forget_target") if _has(folder, target, part)), None)
    if source is None:
        raise InputError(
            f"{folder} holds neither passages nor introductions of RWKU's targets. One of passage.json and intro.json is what must "
            "be forgotten. Check the folder."
        )
    return {"forget": read_rwku_part(folder, prefix + source), **found}


def read_rwku_part(directory: str | Path, part: str, *, limit: int | None = None) -> RowSet:
    """Read one part ("forget_level2", "mia_retain", ...), of one target where ``part`` is ``TARGET/forget_level2``.

    Raises:
        InputError: When the folder, the target, the part or its file is missing.
    """
    folder = existing_folder(directory, "RWKU")
    target, _, name = part.rpartition("/")
    if name not in RWKU_PARTS:
        raise unknown_name("part of RWKU", name, list(RWKU_PARTS))
    items = part_items(folder, _stems(folder, target or None, name), what=f"RWKU part {name!r}")
    return build_rows(items, lambda item: rwku_row(item, name), f"{folder}:{part}", limit)


def rwku_row(item: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return an object of a part in the names of the row schema."""
    about = {"entity": str(item.get("subject") or item.get("target") or "") or None}
    if part == "forget_target":
        return {"text": item["intro"], "entity": item["target"]}
    if part.startswith(("mia_", "train_")):
        return {"text": item["text"], **about}
    if part == "utility_general":
        return {"question": item["question"], "choices": item["choices"], "answer": item["answer"], "subject": item.get("task")}
    if part == "utility_truthfulness":
        targets = item["mc1_targets"]
        right = next((place for place, label in enumerate(targets["labels"]) if label == 1), None)
        return {"question": item["question"], "choices": targets["choices"], "answer": right}
    if part == "utility_factuality":
        first = next(iter(item["answers"]), None)
        return {"question": item["question"], "answer": first, "value": first, "value_aliases": list(item["answers"])[1:]}
    if part == "utility_reason":
        return {"question": item["question"], "answer": item["answer"], "value": item["answer"], "attribute": item.get("task")}
    level = {"attribute": f"level {item['level']}" if "level" in item else None, "wording": item.get("type")}
    return {"question": item["query"], "answer": item["answer"], "value": item["answer"], **about, **level}


def _has(folder: Path, target: str | None, part: str) -> bool:
    return bool(part_files(folder, _stems(folder, target, part)))


def _stems(folder: Path, target: str | None, part: str) -> list[str]:
    file = RWKU_PARTS[part]
    if target is not None:
        place = _target_folder(folder, target)
        return [f"{place}/{file}"]
    return [f"All/{file}", f"{part}/test", f"{part}/train", file, part]


def _target_folder(folder: Path, target: str) -> str:
    """Return where a person's files lie: ``Target/12_First_Last``."""
    places = {entry.name.partition("_")[2].replace("_", " "): entry for entry in sorted((folder / "Target").glob("[0-9]*_*"))}
    name = target.replace("_", " ")
    if name not in places:
        raise unknown_name("target of RWKU", name, list(places))
    return f"Target/{places[name].name}"
