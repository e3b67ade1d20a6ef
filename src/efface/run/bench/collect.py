"""The leaderboard of a bench: its lines, the figures that matter, and the tests between them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from efface.report.catalogue import describe, sorted_names
from efface.report.leaderboard import AxisLine, Entrant, Figure, Leaderboard, RunLine
from efface.results import Aim
from efface.run.bench.entrants import Line, keep_lines, read_lines
from efface.run.bench.figures import distance, distance_names, figure_of, has_rows, paired_tests
from efface.run.bench.folder import BenchFolder, now
from efface.run.bench.graph import BenchPlan
from efface.run.folder import environment

__all__ = ["assemble", "axis_lines", "build_leaderboard", "choose_columns"]

_COLUMNS = (
    ("forget", "fact_accuracy"),
    ("unseen_frames_forget", "fact_accuracy"),
    ("forget", "rouge"),
    ("forget", "probability"),
    ("forget", "extraction_strength"),
    ("", "forget_quality"),
    ("", "privleak"),
    ("retain", "fact_accuracy"),
    ("unseen_frames_retain", "fact_accuracy"),
    ("retain", "rouge"),
    ("retain", "probability"),
    ("world_facts", "fact_accuracy"),
    ("real_authors", "fact_accuracy"),
    ("", "world_utility"),
    ("", "model_utility"),
    ("retain", "refusal_rate"),
)
"""What a leaderboard shows first, where it is available."""
_FACTS_SAY_IT = ("rouge", "probability")
"""Figures left out of the main table where facts were asked on the same rows: they are in the table of every figure."""
_TESTED = 2
"""Figures per question (forgotten, kept) that methods are tested on."""
_UNKNOWN = 900
"""Order of a figure that the reports do not know."""
_MOST_COLUMNS = 8
_UTILITIES = ("world_utility", "model_utility")


def build_leaderboard(plan: BenchPlan, folder: BenchFolder, failed: Mapping[str, str]) -> Leaderboard:
    """Return the leaderboard of what is done.

    Args:
        plan: The bench.
        folder: Where it is.
        failed: Key -> reason of nodes that failed in this start.
    """
    spec = plan.spec
    keep_lines(plan, folder, failed)
    lines = read_lines(folder.path, folder.path)
    suite = spec.model_dump(mode="json", exclude={"output", "jobs", "threads", "executor"}, exclude_unset=True)
    versions = sorted({record.efface for record in folder.records() if record.state == "done" and record.efface})
    notes = [f"Runs were made by several versions of efface: {', '.join(versions)}."] if len(versions) > 1 else []
    return assemble(
        lines,
        title=spec.name or "Leaderboard",
        kind="bench",
        seeds=plan.seeds,
        asked=spec.columns,
        notes=notes,
        manifest={**environment(), "suite": suite},
    )


def assemble(
    lines: Sequence[Line],
    *,
    title: str,
    kind: str,
    seeds: Sequence[str],
    asked: Sequence[str] = (),
    notes: Sequence[str] = (),
    manifest: Mapping[str, Any],
) -> Leaderboard:
    """Put lines side by side: figures, distances to the retrained model, tests between methods.

    Args:
        lines: Reference models and methods.
        title: At the top.
        kind: "bench" or "compare".
        seeds: Names of the seeds.
        asked: Figures of the main table; chosen where there are none.
        notes: What a reader must know.
        manifest: Versions and settings.

    Raises:
        InputError: When a figure asked for is not known.
    """
    known = sorted_names({f"{i} {s}": m.results for i, line in enumerate(lines) for s, m in line.seeds.items()})
    columns = choose_columns(lines, known, asked)
    over = distance_names(lines, known)
    rowwise = [name for name in columns if has_rows(lines, name)]
    tested = [name for question in ("forgotten", "kept") for name in _of(rowwise, question)[:_TESTED]]
    retrained = {line.model: line for line in lines if line.is_reference and line.label == "retrained"}
    methods = [line for line in lines if not line.is_reference]
    pairs = [(a, b) for a, b in itertools.combinations(methods, 2) if a.model == b.model]
    against = [(retrained[line.model], line) for line in methods if line.model in retrained]
    return Leaderboard(
        title=title,
        created=now(),
        kind="compare" if kind == "compare" else "bench",
        entrants=tuple(_entrant(line, known, retrained.get(line.model), over, seeds) for line in lines),
        columns=columns,
        metrics=tuple(known),
        aims=_aims(lines),
        tradeoffs=_tradeoffs(columns),
        tests=tuple(test for name in tested for test in paired_tests(pairs, name)),
        gaps=tuple(test for name in rowwise for test in paired_tests(against, name)),
        distance_over=tuple(over),
        seeds=tuple(seeds),
        notes=(*notes, *_notes(lines)),
        manifest=manifest,
        axes=tuple(line for each in methods for line in axis_lines(each)),
    )


def choose_columns(lines: Sequence[Line], known: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Return the figures of the main table: those asked for, else those that matter most of those that are available."""
    if asked:
        from efface.registry import unknown_name

        for name in asked:
            if known and name not in known:
                raise unknown_name("figure of these runs", name, list(known), "columns names figures as report.json does.")
        return tuple(asked)
    there = [name for name in known if any(figure_of(line, name).value is not None for line in lines if line.seeds)]
    found: list[str] = []
    for set_name, family in _COLUMNS:
        names = [
            name for name in there if describe(name).family == family and (not set_name or describe(name).set_name == set_name)
        ]
        if names and not (family in _FACTS_SAY_IT and f"{set_name}_fact_accuracy" in found):
            found.append(min(names, key=len))
    if not found:  # a suite with figures of its own, such as muse: its main ones, in the order of the reports as known is
        found = [name for name in there if describe(name).is_main and describe(name).order < _UNKNOWN][:_MOST_COLUMNS]
    own = [name for name in there if describe(name).is_main and describe(name).order == _UNKNOWN]  # of other packages
    return tuple([*found, *own])


def _entrant(line: Line, known: Sequence[str], retrained: Line | None, over: Sequence[str], seeds: Sequence[str]) -> Entrant:
    costs = [measured.cost for measured in line.seeds.values() if measured.cost is not None]
    first = next(iter(line.seeds.values()), None)
    peaks = [cost.peak_memory_bytes for cost in costs if cost.peak_memory_bytes is not None]
    return Entrant(
        label=line.label,
        model=line.model,
        is_reference=line.is_reference,
        intention="" if first is None else first.intention,
        figures={name: figure_of(line, name) for name in known},
        distance=distance(line, retrained, over),
        seconds=mean(cost.seconds for cost in costs) if costs else None,
        trained_parameters=costs[0].trained_parameters if costs else None,
        peak_memory_bytes=max(peaks, default=None),
        runs=tuple(_run_line(line, seed) for seed in dict.fromkeys([*(s for s in seeds if _has(line, s)), *line.seeds])),
        settings={} if first is None else first.method,
    )


def axis_lines(line: Line) -> list[AxisLine]:
    """Return slope and worst step of every axis of a line, means over its seeds."""
    found = []
    for axis, curves in line.axes.items():
        slopes = [curve["slope"] for curve in curves.values() if curve["slope"]["value"] is not None]
        steps = [slope["details"]["worst_step"] for slope in slopes]
        reasons = [curve["slope"]["reason"] for curve in curves.values() if curve["slope"]["value"] is None]
        found.append(
            AxisLine(
                label=line.label,
                model=line.model,
                axis=axis,
                utility=next((curve["utility"] for curve in curves.values()), ""),
                slope=_over_seeds([slope["value"] for slope in slopes], reasons),
                worst_step=_over_seeds(steps, reasons),
                folds=max((len(curve["points"]) for curve in curves.values()), default=0),
                rows=tuple(point["rows"] for point in next((curve["points"] for curve in curves.values()), ())),
                curve=_curve_over_seeds(list(curves.values())),
            )
        )
    return found


def _curve_over_seeds(curves: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """Return the utility at every forget set, means over seeds."""
    found = []
    for points in zip(*(curve["points"] for curve in curves), strict=False):
        metrics = [point["results"]["unlearned"]["metrics"][curve["utility"]] for point, curve in zip(points, curves, strict=True)]
        values = [metric["value"] for metric in metrics if metric["value"] is not None]
        found.append(_over_seeds(values, [metric["reason"] for metric in metrics if metric["value"] is None]))
    return tuple(found)


def _over_seeds(values: Sequence[float], reasons: Sequence[str]) -> Figure:
    if not values or reasons:
        return Figure(None, reason=next(iter(reasons), "no run is done"))
    return Figure(mean(values), None, (min(values), max(values)), len(values))


def _has(line: Line, seed: str) -> bool:
    """A model given from outside is measured once for all seeds that share its rows, and listed under each."""
    return not line.is_reference or seed in line.seeds or seed in line.failed


def _run_line(line: Line, seed: str) -> RunLine:
    measured = line.seeds.get(seed)
    if measured is None:
        reason = line.failed.get(seed, "")
        return RunLine(seed, "failed" if reason else "left", reason)
    seconds = None if measured.cost is None else measured.cost.seconds
    return RunLine(seed, "done", "", measured.report, seconds, measured.stopped)


def _of(names: Sequence[str], question: str) -> list[str]:
    return [name for name in names if describe(name).question == question]


def _tradeoffs(columns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair what should go with what should stay: the first of each, and the same rows' new wordings where both are there."""
    forgotten = _of(columns, "forgotten") or _of(columns, "owner")
    kept = _of(columns, "kept") or _of(columns, "deployer")
    utility = next((name for name in _UTILITIES if name in columns), kept[0] if kept else None)
    if not forgotten or utility is None:
        return ()
    pairs = [(forgotten[0], utility)]
    facts = next((name for name in kept if name != utility), None)
    new = "unseen_frames_forget_fact_accuracy", "unseen_frames_retain_fact_accuracy"
    if all(name in columns for name in new):
        pairs.append(new)
    elif facts is not None:
        pairs.append((forgotten[0], facts))
    return tuple(pairs)


def _aims(lines: Sequence[Line]) -> dict[str, Aim]:
    return {
        name: metric.aim for line in lines for measured in line.seeds.values() for name, metric in measured.results.metrics.items()
    }


def _notes(lines: Sequence[Line]) -> list[str]:
    """Say what the runs' own notes say of all of them, once."""
    shared: dict[str, int] = {}
    counted = 0
    for line in lines:
        for measured in line.seeds.values():
            counted += 1
            for note in measured.results.notes:
                shared[note] = shared.get(note, 0) + 1
    notes = [note for note, times in shared.items() if times == counted]
    if any(measured.results.metrics and not measured.entities for line in lines for measured in line.seeds.values()):
        notes.append("Some runs name no entities: rows are taken as independent, and intervals are too narrow if they are not.")
    return notes
