"""Lines to compare: models measured on the same rows, read from the folders of a bench or of runs, seed by seed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.results import Cost, Results
from efface.run.bench.folder import BenchFolder
from efface.run.bench.graph import BenchPlan
from efface.run.folder import RunFolder, write_json

__all__ = ["LINES", "Line", "Measured", "keep_lines", "read_lines", "read_run"]

LINES = "lines.json"
"""What the lines of a bench are and where each seed's model is, for a comparison that does not know the suite."""


@dataclass(frozen=True)
class Measured:
    """One model of one seed.

    Attributes:
        results: Its figures, per row as well.
        entities: Set -> row id -> number of its entity.
        rows: Set -> SHA-256 of its rows.
        report: Page of the run, "" where there is none.
        cost: What unlearning took; None for a reference model.
        stopped: Why training ended.
        method: Resolved settings of the method.
        intention: What it sets out to do.
        request: The resolved request of the run.
    """

    results: Results
    entities: Mapping[str, Mapping[str, int]]
    rows: Mapping[str, str]
    report: str = ""
    cost: Cost | None = None
    stopped: str = ""
    method: Mapping[str, Any] = field(default_factory=dict)
    intention: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        label: What it is called.
        model: Name of the original model.
        is_reference: Whether it is a model to compare with.
        seeds: Seed -> the model; seeds without one are in ``failed`` or not run.
        failed: Seed -> reason.
        axes: Axis -> seed -> the curve over its forget sets, as plain types.
    """

    label: str
    model: str
    is_reference: bool
    seeds: Mapping[str, Measured]
    failed: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def distinct(self) -> list[Measured]:
        """The models behind the line, each once: one that was given from outside serves every seed."""
        return list({id(measured): measured for measured in self.seeds.values()}.values())


def keep_lines(plan: BenchPlan, folder: BenchFolder, failed: Mapping[str, str]) -> None:
    """Write down where the lines of a bench are."""
    lines = []
    for cell in plan.cells:
        places = {seed: plan.nodes[key].folder for seed, key in cell.nodes.items() if folder.is_done(plan.nodes[key])}
        reasons = {seed: failed[key] for seed, key in cell.nodes.items() if key in failed}
        lines.append({"label": cell.label, "model": cell.model, "reference": cell.is_reference, "seeds": places, "failed": reasons})
        lines[-1]["axes"] = {
            axis: {seed: plan.nodes[key].folder for seed, key in nodes.items() if folder.is_done(plan.nodes[key])}
            for axis, nodes in cell.axes.items()
        }
    write_json(folder.path / LINES, {"lines": lines})


def read_lines(path: Path, beside: Path | None = None) -> list[Line]:
    """Return the lines of a bench as :func:`keep_lines` has written them down.

    Args:
        path: The folder of the bench.
        beside: Where the page that links to its reports will be.
    """
    folder, found = BenchFolder(path), []
    for line in folder.read(LINES)["lines"]:
        read: dict[str, Measured] = {}
        for place in line["seeds"].values():
            if place not in read:
                read[place] = _reference(folder, place) if line["reference"] else read_run(path / place, beside=beside)
        seeds = {seed: read[place] for seed, place in line["seeds"].items()}
        axes = {axis: _curves(folder, places) for axis, places in line["axes"].items()}
        found.append(Line(line["label"], line["model"], line["reference"], seeds, line["failed"], axes))
    return found


def read_run(folder: Path, *, role: str = "unlearned", beside: Path | None = None) -> Measured:
    """Return what a run folder holds of one role's model.

    Args:
        folder: The run folder.
        role: Which of its models.
        beside: Where the page that links to its report will be.

    Raises:
        InputError: When it is no finished run, or holds no figures of that role.
    """
    files = RunFolder(folder, {})
    metrics, report = files.read("metrics.json"), files.read("report.json")
    if not metrics or not report:
        raise InputError(
            f"{folder} is not a finished run: metrics.json or report.json is not there. `efface run` and `efface bench` write "
            "them. Finish the run, or check the path."
        )
    if role not in metrics:
        raise InputError(f"{folder} has no figures of the {role} model. It has those of {', '.join(metrics)}. Evaluate it first.")
    made = (files.read("unlearned.json") or {}) if role == "unlearned" else {}
    page = folder / "report.html"
    return Measured(
        results=Results.from_dict(metrics[role]),
        entities=files.read("entities.json") or {},
        rows={name: facts["sha256"] for name, facts in report.get("data", {}).items()},
        report=_link(page, beside) if page.is_file() else "",
        cost=Cost(**made["cost"]) if made else None,
        stopped=made.get("stopped", ""),
        method=made.get("method", {}),
        intention=made.get("intention", ""),
        request=files.manifest.get("request", {}),
    )


def _curves(folder: BenchFolder, places: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {seed: folder.read(f"{place}/axis.json") for seed, place in places.items()}


def _reference(folder: BenchFolder, place: str) -> Measured:
    found = folder.read(f"{place}/results.json")
    rows = {name: facts["sha256"] for name, facts in found["data"].items()}
    return Measured(Results.from_dict(found["results"]), found["entities"], rows)


def _link(page: Path, beside: Path | None) -> str:
    """Return the page as a link that holds while both folders move together."""
    return Path(os.path.relpath(page.resolve(), (beside or page.parent).resolve())).as_posix()
