"""What a run leaves behind, and how its unlearned model is written down and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from efface.results import Cost, Intention, PathPoint, Results, Unlearned

__all__ = ["RunResult", "read_unlearned", "unlearned_record"]


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        folder: The run folder.
        unlearned: The unlearned model and its record.
        results: Figures by role.
        report: Path of ``report.html``.
        facts: Steps and items executed in this process (a continued run executes fewer).
    """

    folder: Path
    unlearned: Unlearned
    results: Mapping[str, Results]
    report: Path
    facts: Mapping[str, float]


def unlearned_record(unlearned: Unlearned) -> dict[str, Any]:
    """Return what ``unlearned.json`` holds: plain types, the model by its folder's name."""
    return {**asdict(replace(unlearned, load=None)), "path": unlearned.path.name}


def read_unlearned(data: Mapping[str, Any], path: Path) -> Unlearned:
    """Rebuild what :func:`unlearned_record` made, for the model at ``path``."""
    values = {key: value for key, value in data.items() if key != "load"}
    return Unlearned(
        **{
            **values,
            "path": path,
            "intention": Intention(values["intention"]),
            "history": tuple(PathPoint(**point) for point in values["history"]),
            "cost": Cost(**values["cost"]),
            "notes": tuple(values["notes"]),
            "lineage": tuple(values.get("lineage", ())),
        }
    )
