"""How the lines of a leaderboard fare over several forget sets: one utility, a curve per line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from efface.report.leaderboard import AxisLine, Leaderboard, header_text
from efface.report.plots import house_style, label_ends, new_axes
from efface.report.tradeoff import PALETTE, SHAPES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_curves"]


def plot_curves(board: Leaderboard, axis: str, *, model: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the utility over the folds of an axis, means over seeds; a bar runs from the lowest to the highest seed.

    Args:
        board: The lines.
        axis: "scalability" or "sustainability".
        model: Only lines of this original model; None draws all.
        ax: Where to draw.
    """
    lines = [line for line in board.axes if line.axis == axis and model in (None, line.model) and line.curve]
    with house_style():
        ax = ax or new_axes(6.6, 3.4)
        ends = []
        for number, line in enumerate(lines):
            colour = PALETTE[number % len(PALETTE)]
            last = _draw(ax, line, colour, SHAPES[number % len(SHAPES)])
            if last is not None:
                ends.append((last[1], line.label, colour, last[0]))
        ax.set_ylim(min(-0.03, ax.get_ylim()[0]), max(1.03, ax.get_ylim()[1]))
        label_ends(ax, ends)
        folds = max((line.folds for line in lines), default=0)
        rows = next((line.rows for line in lines if line.folds == folds), ())
        ax.set_xticks(range(1, folds + 1), [f"{fold}\n{count} rows" for fold, count in enumerate(rows, start=1)])
        ax.set_xlabel("forget set" if axis == "scalability" else "request in a row")
        ax.set_ylabel(header_text(lines[0].utility) if lines else "")
        ax.grid(axis="y")
        ax.set_axisbelow(True)
    return ax


def _draw(ax: Axes, line: AxisLine, colour: str, marker: str) -> tuple[int, float] | None:
    """Draw the folds that have a value; return the last of them."""
    points = [(fold, found) for fold, found in enumerate(line.curve, start=1) if found.value is not None]
    if not points:
        return None
    places, values = [fold for fold, _ in points], [float(found.value or 0.0) for _, found in points]
    ax.plot(places, values, color=colour, marker=marker, markersize=5, linewidth=1.6)
    for fold, found in points:
        if found.span is not None:
            ax.plot([fold, fold], found.span, ":", color=colour, linewidth=1.2)
    return places[-1], values[-1]
