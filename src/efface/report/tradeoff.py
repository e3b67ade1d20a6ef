"""What was forgotten against what was kept: a point per model, its uncertainty drawn both ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from efface.report.leaderboard import Entrant, Figure, Leaderboard, header_text, scale_of
from efface.report.plots import COLOURS, MARKERS, house_style, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PALETTE", "SHAPES", "plot_tradeoff"]

PALETTE = ("#0b5fb0", "#7a3e9d", "#0f766a", "#b03060", "#6b6b00", "#a0522d")
SHAPES = "o^vP*X<>ph"
_NAMED = 10
"""More models than this are labelled by their number in the table."""
_DIRECTIONS = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))
_LETTER, _LINE, _MARKER = 5.4, 12.0, 5.0
"""Width of a letter, height of a line and half a marker, in points."""


@dataclass(frozen=True)
class _Box:
    """A rectangle in points that is taken."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top


def plot_tradeoff(board: Leaderboard, forgotten: str, kept: str, *, model: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw one figure of forgetting (to the left is less known) against one of utility, a point per model.

    Bars are intervals over seeds and entities; dotted ones are over fewer than ten entities, or from the lowest to the highest
    seed, and say less.

    Args:
        board: The models.
        forgotten: Name of the figure on the horizontal axis.
        kept: Name of the figure on the vertical axis.
        model: Only lines of this original model; None draws all.
        ax: Where to draw.
    """
    shown = [
        (number, entrant)
        for number, entrant in enumerate(board.entrants, start=1)
        if model in (None, entrant.model) and all(_is_there(entrant.figures.get(name)) for name in (forgotten, kept))
    ]
    with house_style():
        ax = ax or new_axes(6.6, 4.4)
        ax.set_xlabel(header_text(forgotten))
        ax.set_ylabel(header_text(kept))
        ax.grid()
        ax.set_axisbelow(True)
        _limits(ax, [entrant.figures[forgotten] for _, entrant in shown], forgotten, "x")
        _limits(ax, [entrant.figures[kept] for _, entrant in shown], kept, "y")
        methods = 0
        points, bars = [], []
        for number, entrant in shown:
            colour, marker = _look(entrant, methods)
            methods += not entrant.is_reference
            _draw(ax, entrant.figures[forgotten], entrant.figures[kept], colour, marker)
            text = entrant.label if len(shown) <= _NAMED else str(number)
            bars += _bars(entrant.figures[forgotten], entrant.figures[kept])
            points.append((float(entrant.figures[forgotten].value or 0), float(entrant.figures[kept].value or 0), text, colour))
        _label(ax, points, bars)
    return ax


def _is_there(found: Figure | None) -> bool:
    return found is not None and found.value is not None and math.isfinite(found.value)


def _look(entrant: Entrant, methods: int) -> tuple[str, str]:
    if entrant.is_reference:
        return COLOURS.get(entrant.label, COLOURS["soft"]), MARKERS.get(entrant.label, "s")
    return PALETTE[methods % len(PALETTE)], SHAPES[methods % len(SHAPES)]


def _reach(found: Figure) -> tuple[float, float, bool] | None:
    """Return the ends of what is drawn around a value, and whether they are an interval to rely on."""
    if found.interval is not None:
        return found.interval.low, found.interval.high, found.interval.is_meaningful
    return None if found.span is None else (*found.span, False)


def _bars(x: Figure, y: Figure) -> list[tuple[tuple[float, float], tuple[float, float], bool]]:
    """Return both bars of a point: their ends along each axis, and whether they are intervals to rely on."""
    centre = (x.value or 0.0, y.value or 0.0)
    bars = []
    if (across := _reach(x)) is not None:
        bars.append(((across[0], across[1]), (centre[1], centre[1]), across[2]))
    if (up := _reach(y)) is not None:
        bars.append(((centre[0], centre[0]), (up[0], up[1]), up[2]))
    return bars


def _draw(ax: Axes, x: Figure, y: Figure, colour: str, marker: str) -> None:
    for across, up, is_reliable in _bars(x, y):
        ax.plot(across, up, "-" if is_reliable else ":", color=colour, linewidth=1.4, alpha=0.75)
    ax.plot(
        [x.value or 0.0],
        [y.value or 0.0],
        marker,
        color=colour,
        markeredgecolor=COLOURS["paper"],
        markersize=9,
        clip_on=False,
        zorder=3,
    )


def _limits(ax: Axes, found: Sequence[Figure], name: str, axis: str) -> None:
    """Show shares and scores on the part of 0 to 1 that is used, anything else on what is used, with a margin for the labels."""
    ends = [end for figure in found for end in (_reach(figure) or (figure.value, figure.value))[:2] if end is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    margin = max(0.08 * (high - low), 0.02 if scale_of(name) != "open" else 1e-3 * max(abs(low), abs(high), 1.0))
    if scale_of(name) != "open":
        low, high = max(low - margin, -0.04), min(high + margin, 1.04)
    else:
        low, high = low - margin, high + margin
    (ax.set_xlim if axis == "x" else ax.set_ylim)(low, high)
    if scale_of(name) == "share":
        from matplotlib.ticker import PercentFormatter

        (ax.xaxis if axis == "x" else ax.yaxis).set_major_formatter(PercentFormatter(1.0, decimals=None))


def _label(
    ax: Axes,
    points: Sequence[tuple[float, float, str, str]],
    bars: Sequence[tuple[tuple[float, float], tuple[float, float], bool]],
) -> None:
    """Write each label near its point, where no point, bar or label stands already; farther ones get a line."""
    ax.figure.canvas.draw()
    scale = 72 / ax.figure.dpi
    places = [tuple(scale * value for value in ax.transData.transform((x, y))) for x, y, _, _ in points]
    taken = [_Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in places]
    for across, up, _ in bars:
        (left, bottom), (right, top) = (scale * ax.transData.transform(end) for end in zip(across, up, strict=True))
        taken.append(_Box(left - 1, bottom - 1, right + 1, top + 1))
    frame = ax.get_window_extent()
    inside = _Box(scale * frame.x0, scale * frame.y0, scale * frame.x1, scale * frame.y1)
    for (x, y), (px, py, text, colour) in zip(places, points, strict=True):
        left, bottom = _free_place(x, y, _LETTER * len(text), taken, inside)
        taken.append(_Box(left, bottom, left + _LETTER * len(text), bottom + _LINE))
        middle = (left + _LETTER * len(text) / 2 - x, bottom + _LINE / 2 - y)
        is_far = math.hypot(*middle) > _LETTER * len(text) / 2 + 3 * _MARKER
        label = ax.annotate(
            text,
            (px, py),
            xytext=middle,
            textcoords="offset points",
            ha="center",
            va="center",
            color=colour,
            fontsize=9.5,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.6, "shrinkB": 5} if is_far else None,
        )
        label.set_in_layout(False)  # the layout is made; another one would move the points away from under their labels


def _free_place(x: float, y: float, width: float, taken: Sequence[_Box], inside: _Box) -> tuple[float, float]:
    """Return the lower left corner of the nearest free place for a label; beside the point where there is none."""
    for distance in range(2, 90, 4):
        for right, up in _DIRECTIONS:
            reach = _MARKER + distance
            left = x + reach if right > 0 else x - reach - width if right < 0 else x - width / 2
            bottom = y - _LINE / 2 + up * reach
            box = _Box(left, bottom, left + width, bottom + _LINE)
            fits = box.left >= inside.left and box.right <= inside.right + 30 and inside.bottom <= box.bottom
            if fits and box.top <= inside.top + _LINE and not any(box.overlaps(other) for other in taken):
                return left, bottom
    return x + _MARKER + 2, y - _LINE / 2
