"""Compare finished runs: the same table and tests as a bench's, over folders of runs and benches measured on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.report.leaderboard import Leaderboard
from efface.report.leaderboard_page import write_leaderboard
from efface.request import Seeds
from efface.run.bench.collect import assemble
from efface.run.bench.entrants import LINES, Line, Measured, read_lines, read_run
from efface.run.bench.folder import is_bench
from efface.run.bench.graph import seed_name
from efface.run.folder import RunFolder, environment

__all__ = ["compare_runs"]

_REFERENCES = ("original", "retrained", "retrained_2")


def compare_runs(runs: Sequence[str | Path], *, output: str | Path | None = None) -> Leaderboard:
    """Put finished runs side by side and test them against each other.

    Args:
        runs: Folders of ``efface run`` (one line each) or ``efface bench`` (all of its lines), at least two lines in all.
        output: Page to write; its JSON, CSV and LaTeX companions are written beside it.

    Returns:
        The table, with a test of every pair of lines.

    Raises:
        InputError: When a folder is no finished run, or the runs were measured on other rows, by another suite or in other
            definitions; names the difference.
    """
    page = None if output is None else Path(output).expanduser()
    if page is not None and page.suffix != ".html":
        raise InputError(
            f"The page {page.name} does not end in .html. A comparison is written as a page. Name it {page.stem}.html."
        )
    folders = [Path(run).expanduser() for run in runs]
    sources = [_source(folder, page.parent if page is not None else None) for folder in folders]
    lines = _named_apart(folders, sources)
    methods = [line for line in lines if not line.is_reference]
    if len(methods) < 2:
        raise InputError(
            f"There is {len(methods)} line to compare. A comparison takes at least two: run folders, or a bench of several "
            "methods. Name another folder."
        )
    lines = _on_common_seeds(lines)
    for line in lines[1:]:
        _require_alike(lines[0], line)
    lines = _lend_entities(lines)
    board = assemble(
        lines,
        title=" and ".join(folder.name for folder in folders) if len(folders) < 4 else f"{len(folders)} runs",
        kind="compare",
        seeds=list(dict.fromkeys(seed for line in lines for seed in line.seeds)),
        manifest={**environment(), "compared": [folder.name for folder in folders]},
    )
    if page is not None:
        write_leaderboard(board, page.parent, name=page.stem)
    return board


def _source(folder: Path, beside: Path | None) -> list[Line]:
    """Return the lines of one folder, reference models as well."""
    if is_bench(folder):
        if not (folder / LINES).is_file():
            raise InputError(
                f"{folder} is a bench that has not ended once. `efface bench` lists its lines at its end. Run it first."
            )
        return [line for line in read_lines(folder, beside) if line.seeds]
    measured = read_run(folder, beside=beside)
    seed = seed_name(Seeds(**measured.request["seeds"])) if "seeds" in measured.request else "0"
    model = Path(str(measured.request.get("model", ""))).name
    roles = [role for role in RunFolder(folder, {}).read("metrics.json") if role in _REFERENCES]
    lines = [Line(role, model, True, {seed: read_run(folder, role=role, beside=beside)}) for role in roles]
    return [*lines, Line(folder.name, model, False, {seed: measured})]


def _named_apart(folders: Sequence[Path], sources: Sequence[Sequence[Line]]) -> list[Line]:
    """Return all lines: reference models once, and methods with their folder's name where two would be called alike."""
    found: list[Line] = []
    labels = [line.label for lines in sources for line in lines if not line.is_reference]
    for folder, lines in zip(folders, sources, strict=True):
        for line in lines:
            if line.is_reference:
                if all(line.label != other.label or line.model != other.model for other in found):
                    found.append(line)
                continue
            label = line.label if labels.count(line.label) == 1 else f"{folder.name}: {line.label}"
            same = sum(other.label == label for other in found)
            found.append(replace(line, label=label if not same else f"{label} ({same + 1})"))
    models = {line.model for line in found}
    if len(models) > 1:
        raise InputError(
            f"The runs start from several models: {', '.join(sorted(models))}. Lines are compared on one original model. "
            "Compare runs of the same model."
        )
    return sorted(found, key=lambda line: not line.is_reference)


def _on_common_seeds(lines: Sequence[Line]) -> list[Line]:
    """Keep the seeds that every method has; lines of one run each are compared whatever their seeds."""
    methods = [line for line in lines if not line.is_reference]
    common = [seed for seed in methods[0].seeds if all(seed in line.seeds for line in methods)]
    if common:
        return [replace(line, seeds={seed: line.seeds[seed] for seed in common if seed in line.seeds}) for line in lines]
    if all(len(line.seeds) == 1 for line in methods):
        first = next(iter(methods[0].seeds))
        renamed = [replace(line, seeds={first: next(iter(line.seeds.values()))}) for line in lines if line.seeds]
        return renamed
    described = "; ".join(f"{line.label} has {', '.join(line.seeds)}" for line in methods)
    raise InputError(f"The runs share no seed: {described}. Seeds are compared with their like. Run one of them with the other's.")


def _lend_entities(lines: Sequence[Line]) -> list[Line]:
    """Give runs that do not know the entities of their rows (older ones) those of another run on the same rows."""
    known: dict[str, Measured] = {}
    for line in lines:
        for seed, measured in line.seeds.items():
            if measured.entities:
                known.setdefault(seed, measured)
    return [
        replace(
            line,
            seeds={
                seed: measured if measured.entities or seed not in known else replace(measured, entities=known[seed].entities)
                for seed, measured in line.seeds.items()
            },
        )
        for line in lines
    ]


def _require_alike(first: Line, other: Line) -> None:
    for seed in (seed for seed in first.seeds if seed in other.seeds):
        differences = _differences(first.seeds[seed], other.seeds[seed])
        if differences:
            raise InputError(
                f"{first.label} and {other.label} cannot be compared (seed {seed}): {'; '.join(differences[:4])}. Runs are "
                "compared on the same rows, suite and definitions. Evaluate both on the same data."
            )


def _differences(first: Measured, other: Measured) -> list[str]:
    """Name what was measured differently."""
    found = []
    if first.results.suite != other.results.suite:
        found.append(f"the suite is {first.results.suite!r} and {other.results.suite!r}")
    for name in sorted({*first.rows, *other.rows}):
        one, two = first.rows.get(name), other.rows.get(name)
        if one != two:
            found.append(f"the {name} set is {_shown(one)} and {_shown(two)}")
    shared = first.results.metrics.keys() & other.results.metrics.keys()
    variants: dict[tuple[str, str], list[str]] = {}
    for name in sorted(shared):
        pair = (first.results.metrics[name].variant, other.results.metrics[name].variant)
        if pair[0] != pair[1]:
            variants.setdefault(pair, []).append(name)
    found += [f"{names[0]} and {len(names) - 1} more follow the {a!r} and {b!r} definitions" for (a, b), names in variants.items()]
    return found


def _shown(value: Any) -> str:
    return "not there" if value is None else f"sha256 {str(value)[:8]}"
