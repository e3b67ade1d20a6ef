"""The leaderboard as one HTML page that opens offline, and its companions: JSON, CSV and LaTeX."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from efface.report.build import plain_types
from efface.report.catalogue import AIMS, QUESTIONS, describe, role_label
from efface.report.curves import plot_curves
from efface.report.html import template_environment, write_whole
from efface.report.leaderboard import (
    Entrant,
    Figure,
    Leaderboard,
    PairedTest,
    as_csv,
    as_json,
    as_latex,
    figure_text,
    header_text,
    scale_of,
    spread_text,
)
from efface.report.svg import inline_svg
from efface.report.tradeoff import plot_tradeoff
from efface.report.wording import MINUS, count, figure

__all__ = ["render_leaderboard", "write_leaderboard"]

_GROUPS = {
    "owner": "The data owner",
    "deployer": "The deployer",
    "forgotten": "To be forgotten",
    "kept": "To be kept",
    "behaviour": "Behaviour",
    "alike": "Like a model that never saw it",
}


def render_leaderboard(board: Leaderboard) -> str:
    """Return the page of a leaderboard; it holds no text of any row."""
    template = template_environment().get_template("leaderboard.html.j2")
    return template.render(
        board=board,
        manifest=plain_types(board.manifest),
        is_bench=board.kind == "bench",
        sentences=_sentences(board),
        lines=[_line(number, entrant, board) for number, entrant in enumerate(board.entrants, start=1)],
        columns=[_column(name, board) for name in board.columns],
        groups=_groups(board.columns),
        metrics=[_column(name, board) for name in board.metrics],
        every=_every(board),
        plots=_plots(board),
        tests=[_test(test, board) for test in board.tests],
        gaps=[_test(test, board) for test in board.gaps],
        curves=_axis_plots(board),
        axes=[
            {
                **asdict(line),
                "utility": header_text(line.utility) if line.utility else "",
                "slope": _cell(line.slope, ""),
                "worst_step": _cell(line.worst_step, ""),
            }
            for line in board.axes
        ],
        distance_over=[header_text(name) for name in board.distance_over],
        few=_few(board),
    )


def write_leaderboard(board: Leaderboard, directory: str | Path, *, name: str = "leaderboard") -> Path:
    """Write NAME.html, .json, .csv and .tex, each in one move, and return the path of the page."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{name}.json", json.dumps(as_json(board), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(folder / f"{name}.csv", as_csv(board))
    write_whole(folder / f"{name}.tex", as_latex(board))
    page = folder / f"{name}.html"
    write_whole(page, render_leaderboard(board))
    return page


def _sentences(board: Leaderboard) -> list[str]:
    methods = [entrant for entrant in board.entrants if not entrant.is_reference]
    runs = [run for entrant in methods for run in entrant.runs]
    done = sum(run.state == "done" for run in runs)
    failed = sum(run.state == "failed" for run in runs)
    models = ", ".join(dict.fromkeys(entrant.model for entrant in board.entrants))
    said = [
        f"{count(len(methods), 'method')} on {models}, {count(len(board.seeds), 'seed')}: {done} of {count(len(runs), 'run')} done"
        + (f", {failed} failed" if failed else "")
        + "."
    ]
    ranked = sorted((e for e in methods if e.distance.value is not None), key=lambda e: e.distance.value or 0.0)
    if ranked:
        nearest = ranked[0]
        said.append(
            f"Nearest to the retrained model over {count(len(board.distance_over), 'figure')}: {nearest.label}, on average "
            f"{figure_text(nearest.distance, '')} away."
        )
    said.append("Nothing here has been audited: low figures on the forget rows say what a model tells, not what it holds.")
    return said


def _line(number: int, entrant: Entrant, board: Leaderboard) -> dict[str, Any]:
    failed = [run for run in entrant.runs if run.state == "failed"]
    return {
        "number": number,
        "label": role_label(entrant.label) if entrant.is_reference else entrant.label,
        "model": entrant.model,
        "is_reference": entrant.is_reference,
        "role": entrant.label if entrant.is_reference else "unlearned",
        "intention": entrant.intention,
        "cells": [_cell(entrant.figures.get(name), name) for name in board.columns],
        "distance": _cell(entrant.distance, ""),
        "seconds": entrant.seconds,
        "trained": entrant.trained_parameters,
        "memory": entrant.peak_memory_bytes,
        "runs": [{**asdict(run), "reason": plain_types(run.reason)} for run in entrant.runs],
        "failed": plain_types("; ".join(dict.fromkeys(run.reason for run in failed))),
        "n_failed": len(failed),
        "n_left": sum(run.state == "left" for run in entrant.runs),
        "settings": plain_types(entrant.settings),
    }


def _cell(found: Figure | None, name: str) -> dict[str, Any]:
    value = None if found is None else found.value
    return {
        "value": value,
        "text": figure_text(found, name),
        "spread": spread_text(found, name),
        "reason": "not measured" if found is None else found.reason,
    }


def _column(name: str, board: Leaderboard) -> dict[str, str]:
    description = describe(name)
    aim = board.aims.get(name)
    text = (
        "best near 0, where it cannot be told from the retrained model" if description.scale == "test" else AIMS.get(aim or "", "")
    )
    return {"name": name, "label": header_text(name), "explanation": description.explanation, "aim": text}


def _groups(columns: Sequence[str]) -> list[tuple[str, int]]:
    """Return the questions over the columns, each with how many neighbours it spans."""
    titles = {question.key: _GROUPS.get(question.key, question.title) for question in QUESTIONS}
    groups: list[tuple[str, int]] = []
    for name in columns:
        title = titles[describe(name).question]
        if groups and groups[-1][0] == title:
            groups[-1] = (title, groups[-1][1] + 1)
        else:
            groups.append((title, 1))
    return groups


def _every(board: Leaderboard) -> list[dict[str, Any]]:
    return [
        {
            "label": role_label(entrant.label) if entrant.is_reference else entrant.label,
            "model": entrant.model,
            "cells": [_cell(entrant.figures.get(name), name) for name in board.metrics],
        }
        for entrant in board.entrants
        if any(figure.value is not None for figure in entrant.figures.values())
    ]


def _plots(board: Leaderboard) -> list[dict[str, str]]:
    plots: list[dict[str, str]] = []
    models = list(dict.fromkeys(entrant.model for entrant in board.entrants))
    for model in models:
        for forgotten, kept in board.tradeoffs:
            axes = plot_tradeoff(board, forgotten, kept, model=model)
            title = f"{header_text(kept)} against {header_text(forgotten)[:1].lower()}{header_text(forgotten)[1:]}"
            key = f"tradeoff-{len(plots)}"
            plots.append(
                {
                    "title": f"{title}, {model}" if len(models) > 1 else title,
                    "svg": inline_svg(axes, key=key, label=f"{title}, one point per model"),
                }
            )
    return plots


def _axis_plots(board: Leaderboard) -> list[dict[str, str]]:
    plots: list[dict[str, str]] = []
    models = list(dict.fromkeys(line.model for line in board.axes))
    for model in models:
        for axis in dict.fromkeys(line.axis for line in board.axes if line.curve):
            title = f"{axis.capitalize()}, {model}" if len(models) > 1 else axis.capitalize()
            axes = plot_curves(board, axis, model=model)
            plots.append({"title": title, "svg": inline_svg(axes, key=f"axis-{len(plots)}", label=f"{title}, one curve per line")})
    return plots


def _test(test: PairedTest, board: Leaderboard) -> dict[str, Any]:
    scale = scale_of(test.metric)
    shown = test.interval if test.interval is not None and test.interval.is_meaningful else None
    return {
        "metric": header_text(test.metric),
        "model": test.model if board.has_models else "",
        "first": test.first,
        "second": test.second,
        "difference": test.difference,
        "difference_text": "" if test.difference is None else _signed(test.difference, scale),
        "interval": "" if shown is None else f"[{_signed(shown.low, scale)}, {_signed(shown.high, scale)}]",
        "log10_p": test.log10_p,
        "log10_p_text": _log(test.log10_p),
        "holm": test.log10_p_holm,
        "holm_text": _log(test.log10_p_holm),
        "floor_text": _log(test.log10_floor),
        "is_told_apart": test.log10_p_holm is not None and test.log10_p_holm < math.log10(0.05),
        "n": f"{test.n_entities} entities, {test.n_rows} rows, {count(test.n_seeds, 'seed')}",
        "reason": test.reason,
    }


def _signed(value: float, scale: str) -> str:
    text = figure(value, "score" if scale == "share" else scale)
    return text if text.startswith((MINUS, "<", ">")) or value == 0 else f"+{text}"


def _log(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".replace("-0.00", "0.00").replace("-", MINUS)


def _few(board: Leaderboard) -> int | None:
    """Return the number of entities where it is too low for intervals."""
    counts = [
        found.interval.n_entities
        for entrant in board.entrants
        for found in (entrant.figures.get(name) for name in board.columns)
        if found is not None and found.interval is not None and not found.interval.is_meaningful
    ]
    return min((n for n in counts if n is not None), default=None)
