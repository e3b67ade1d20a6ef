"""WMDP (Li et al., arXiv 2403.03218) and MMLU (Hendrycks et al., arXiv 2009.03300): multiple choice from local copies.

Read are the hub's layout (``cais/wmdp``: ``wmdp-bio/test-*.parquet``; ``cais/mmlu``: ``SUBJECT/test-*.parquet``, or ``all/``), the
same as JSON or CSV, WMDP's ``bio_questions.json``, and MMLU's first release (``test/SUBJECT_test.csv``: question, four choices,
letter, no header). The hub's columns are ``question``, ``choices``, ``answer`` (a number from 0) and, for MMLU, ``subject``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from efface.data.layouts import build_rows, existing_folder, part_files, part_items
from efface.data.readers import Numbered
from efface.data.schema import RowSet
from efface.errors import InputError
from efface.registry import unknown_name

__all__ = ["SUBJECT_TOPICS", "WMDP_DOMAINS", "SubjectTopic", "read_mmlu_part", "read_wmdp", "read_wmdp_part"]

WMDP_DOMAINS: Mapping[str, str] = {"bio": "biology", "cyber": "cybersecurity", "chem": "chemistry"}
"""WMDP's parts and how the prompt's first line calls them."""


@dataclass(frozen=True, slots=True)
class SubjectTopic:
    """Subjects of MMLU that are forgotten together, and those that lie next to them.

    Attributes:
        forget: Subjects that must go.
        related: Neighbours that must stay.
    """

    forget: tuple[str, ...]
    related: tuple[str, ...]


SUBJECT_TOPICS: Mapping[str, SubjectTopic] = {
    "economics": SubjectTopic(("high_school_macroeconomics", "high_school_microeconomics"), ("econometrics",)),
    "law": SubjectTopic(("international_law", "professional_law"), ("jurisprudence",)),
    "physics": SubjectTopic(
        ("college_physics", "conceptual_physics", "high_school_physics"), ("college_mathematics", "high_school_mathematics")
    ),
}
"""The split of ECO (Liu et al., arXiv 2406.07933); every other subject is unrelated."""

_RELATIONS = ("forget", "related", "unrelated")
_SPLITS = {"test": "test", "validation": "val", "dev": "dev"}
"""MMLU's splits, and how its first release calls them."""


def read_wmdp(directory: str | Path) -> dict[str, RowSet]:
    """Read every part of WMDP that is there.

    Returns:
        ``wmdp_bio``, ``wmdp_cyber`` and ``wmdp_chem``: the keys of the ``wmdp`` suite.

    Raises:
        InputError: When the folder holds none of them.
    """
    folder = existing_folder(directory, "WMDP")
    found = {f"wmdp_{part}": read_wmdp_part(folder, part) for part in WMDP_DOMAINS if part_files(folder, _wmdp_stems(part))}
    if not found:
        raise InputError(
            f"{folder} holds no part of WMDP. Looked for {', '.join(_wmdp_stems('bio'))} and the like. Check the folder."
        )
    return found


def read_wmdp_part(directory: str | Path, part: str, *, limit: int | None = None) -> RowSet:
    """Read one part of WMDP by its name ("bio", "cyber", "chem")."""
    folder = existing_folder(directory, "WMDP")
    if part not in WMDP_DOMAINS:
        raise unknown_name("part of WMDP", part, list(WMDP_DOMAINS))
    items = part_items(folder, _wmdp_stems(part), what=f"WMDP part {part!r}")
    return build_rows(items, partial(_choice_row, subject=WMDP_DOMAINS[part]), f"{folder}:{part}", limit)


def read_mmlu_part(directory: str | Path, part: str, *, limit: int | None = None) -> RowSet:
    """Read subjects of MMLU.

    Args:
        directory: The local copy.
        part: ``SUBJECT``, ``SUBJECT,SUBJECT``, ``all``, or ``TOPIC-forget``, ``TOPIC-related``, ``TOPIC-unrelated`` for a topic of
            :data:`SUBJECT_TOPICS`; ``dev/`` or ``validation/`` before it takes another split than ``test``.
        limit: Read only so many rows.

    Raises:
        InputError: When the folder, a subject or a topic is missing.
    """
    folder = existing_folder(directory, "MMLU")
    split, slash, names = part.rpartition("/")
    split = split if slash else "test"
    if split not in _SPLITS:
        raise unknown_name("split of MMLU", split, list(_SPLITS))
    present = _subjects(folder, split)
    wanted = _wanted(names, present)
    unknown = [name for name in wanted if name not in present]
    if unknown:
        raise unknown_name("MMLU subject", unknown[0], present)
    if "all" in _stored(folder, split):
        whole = part_items(folder, [f"all/{split}"], what="MMLU configuration 'all'")
        items = ((where, item) for where, item in whole if _subject_of(item) in wanted)
    else:
        items = (pair for subject in wanted for pair in _subject_items(folder, subject, split))
    return build_rows(items, _choice_row, f"{folder}:{part}", limit)


def _wmdp_stems(part: str) -> list[str]:
    return [f"wmdp-{part}/test", f"wmdp-{part}", f"wmdp_{part}", f"{part}_questions", f"{part}/test", part]


def _choice_row(item: Mapping[str, Any], subject: str | None = None) -> dict[str, Any]:
    answer = item["answer"]
    if isinstance(answer, str) and answer.strip().isdigit():
        answer = int(answer)  # a table holds text, and this column holds numbers
    question = str(item["question"]).strip()
    return {"question": question, "choices": item["choices"], "answer": answer, "subject": subject or item.get("subject")}


def _wanted(names: str, present: list[str]) -> list[str]:
    if names == "all":
        return present
    topic, hyphen, relation = names.rpartition("-")
    if not hyphen:
        return [name.strip() for name in names.split(",") if name.strip()]
    if topic not in SUBJECT_TOPICS:
        raise unknown_name("MMLU topic", topic, list(SUBJECT_TOPICS))
    if relation not in _RELATIONS:
        raise unknown_name("relation of an MMLU topic", relation, list(_RELATIONS))
    split = SUBJECT_TOPICS[topic]
    if relation == "unrelated":
        return [name for name in present if name not in (*split.forget, *split.related)]
    return list(split.forget if relation == "forget" else split.related)


def _stored(folder: Path, split: str) -> set[str]:
    """Return the configurations with files of their own for a split."""
    own = {entry.name for entry in folder.iterdir() if entry.is_dir() and part_files(entry, [split])}
    ending = f"_{_SPLITS[split]}"
    first_release = folder / _SPLITS[split]
    released = (
        {file.stem.removesuffix(ending) for file in first_release.glob(f"*{ending}.csv")} if first_release.is_dir() else set()
    )
    return own | released


def _subjects(folder: Path, split: str) -> list[str]:
    stored = _stored(folder, split)
    if not stored:
        raise InputError(
            f"{folder} holds no {split} split of MMLU. It lies in SUBJECT/{split}-*.parquet, SUBJECT/{split}.json, all/{split}.* "
            f"or {_SPLITS[split]}/SUBJECT_{_SPLITS[split]}.csv. Check the folder."
        )
    if "all" not in stored:
        return sorted(stored - {"auxiliary_train"})
    return sorted({_subject_of(item) for _, item in part_items(folder, [f"all/{split}"], what="MMLU configuration 'all'")})


def _subject_of(item: Any) -> str:
    return str(item.get("subject", "")) if isinstance(item, Mapping) else ""


def _subject_items(folder: Path, subject: str, split: str) -> Numbered:
    if part_files(folder, [f"{subject}/{split}"]):
        items = part_items(folder, [f"{subject}/{split}"], what=f"MMLU subject {subject!r}")
        return ((where, _with_subject(item, subject)) for where, item in items)
    return _first_release(folder / _SPLITS[split] / f"{subject}_{_SPLITS[split]}.csv", subject)


def _with_subject(item: Any, subject: str) -> Any:
    return {**item, "subject": item.get("subject") or subject} if isinstance(item, Mapping) else item


def _first_release(path: Path, subject: str) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, cells in enumerate(csv.reader(file), start=1):
            where = f"{path}, row {number}"
            if len(cells) < 4:
                raise InputError(f"{where} has {len(cells)} cells. Each holds a question, its choices and a letter. Mend that row.")
            yield where, {"question": cells[0], "choices": cells[1:-1], "answer": cells[-1].strip(), "subject": subject}
