"""Plots of results: one function each, on given axes or new ones, uncertainty always drawn, never shown or saved here.

Colours keep apart under the common forms of colour blindness, and every model has a marker and a place of its own besides.
matplotlib is imported on first use; figures are made without pyplot, so that no window system and no global state is involved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efface.report.catalogue import ROLES, describe, role_label
from efface.report.findings import is_number, pick
from efface.results import AxisResult, Metric, PathPoint, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "MARKERS",
    "house_style",
    "label_ends",
    "new_axes",
    "plot_axis",
    "plot_comparison",
    "plot_distribution",
    "plot_path",
]

COLOURS = {
    "original": "#70757d",
    "unlearned": "#0b5fb0",
    "retrained": "#b5530c",
    "retrained_2": "#b5530d",
    "forget": "#7a3e9d",
    "retain": "#0f766a",
    "holdout": "#70757e",
    "ink": "#1a1d21",
    "soft": "#5b626c",
    "line": "#d9d9d3",
    "paper": "#fffffe",
}
MARKERS = {"original": "s", "unlearned": "o", "retrained": "D", "retrained_2": "d"}
_COMPARED = (
    ("forget", "fact_accuracy"),
    ("forget", "probability"),
    ("forget", "rouge"),
    ("forget", "extraction_strength"),
    ("retain", "fact_accuracy"),
    ("world_facts", "fact_accuracy"),
    ("retain", "refusal_rate"),
    ("holdout", "fact_accuracy"),
)
_SMALLEST = 1e-12  # where a logarithmic axis ends
_DOTS = 60  # more items than this are drawn as a shape only


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the report's style to figures made inside the ``with`` block."""
    import matplotlib

    style: dict[Any, Any] = {
        "font.size": 10,
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.edgecolor": COLOURS["line"],
        "axes.labelcolor": COLOURS["soft"],
        "axes.titlecolor": COLOURS["ink"],
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.linewidth": 1,
        "axes.unicode_minus": True,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "grid.color": COLOURS["line"],
        "grid.linewidth": 0.8,
        "text.color": COLOURS["ink"],
        "xtick.color": COLOURS["soft"],
        "ytick.color": COLOURS["soft"],
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(style):
        yield


def plot_comparison(results: Mapping[str, Results], *, names: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw one row per figure with a marker and an interval per model.

    Args:
        results: Results by role.
        names: Names of figures between 0 and 1; by default the ones that matter most of those that are available.
        ax: Where to draw.
    """
    if names is None:
        names = [name for place in _COMPARED if (name := pick(results, *place)) is not None]
    with house_style():
        ax = ax or new_axes(6.4, 0.5 + 0.55 * max(1, len(names)))
        roles = [role for role in ROLES if role in results]
        offsets = np.linspace(-0.2, 0.2, len(roles)) if len(roles) > 1 else [0.0]
        for row, name in enumerate(names):
            for role, offset in zip(roles, offsets, strict=True):
                _dot(ax, results[role], name, role, row + float(offset))
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), [describe(name).label for name in names])
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        ax.grid(axis="x")
        ax.set_axisbelow(True)
    return ax


def plot_distribution(results: Mapping[str, Results], name: str, *, ax: Axes | None = None) -> Axes:
    """Draw how one figure spreads over the items, a row per model, with the median and its 95 % interval.

    The axis is logarithmic; that of predictions is in the unit of the target.

    The interval of the median comes from order statistics and takes the items as independent.

    Args:
        results: Results by role; models without values per item get no row.
        name: Name of the figure ("forget_log_truth_ratio", "forget_probability").
        ax: Where to draw.
    """
    family = describe(name).family
    is_log, is_linear = family == "log_truth_ratio", family == "prediction"
    columns = {role: results[role].metrics[name].per_item for role in ROLES if role in results and name in results[role].metrics}
    samples = {role: _valid(values) if is_linear else _logs(values, already=is_log) for role, values in columns.items()}
    samples = {role: values for role, values in samples.items() if len(values)}
    with house_style():
        ax = ax or new_axes(4.5, 0.35 + 0.7 * max(1, len(samples)))
        pooled = np.concatenate(list(samples.values())) if samples else np.zeros(1)
        low, high = _padded(float(pooled.min()), float(pooled.max()), least=0.0 if is_linear else 0.05)
        if family in ("probability", "confidence"):
            high = 0.02 * (high - low)  # a probability ends at 1
        for row, (role, values) in enumerate(samples.items()):
            _spread(ax, values, row, role, np.linspace(low, high, 160))
        ax.set_xlim(low, high)
        ax.set_ylim(max(1, len(samples)) - 0.6, -0.8)
        ax.set_yticks([])
        if not is_linear:
            _log_ticks(ax, low, high)
        elif samples:
            ax.set_xlabel(str(results[next(iter(samples))].metrics[name].details.get("target_name", "")))
        for row, role in enumerate(samples):
            ax.text(0, row - 0.5, role_label(role), transform=ax.get_yaxis_transform(), color=COLOURS[role], va="center")
        if is_log and low < 0 < high:
            ax.axvline(0, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 3)), zorder=0)
    return ax


def plot_path(
    history: Sequence[PathPoint],
    *,
    stopped_step: int | None = None,
    kept_step: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss on each set over the training steps, with marks where training stopped and which step was kept.

    A value ``x`` with neighbours ``x_low`` and ``x_high`` gets a band.

    Args:
        history: Points of the forget/retain path.
        stopped_step: Step at which a stop rule ended training.
        kept_step: Step whose weights were kept.
        ax: Where to draw.
    """
    with house_style():
        ax = ax or new_axes(4.5, 2.75)
        styles = {"forget_nll": ("forget", "-", "o"), "retain_nll": ("retain", "-", "D"), "holdout_nll": ("holdout", "--", "s")}
        ends = []
        for key, (colour, line, marker) in styles.items():
            points = [(p.step, p.values[key]) for p in history if is_number(p.values.get(key))]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            ax.plot(steps, values, line, color=COLOURS[colour], marker=marker, markersize=3.8, linewidth=1.6, clip_on=False)
            _band(ax, history, key, COLOURS[colour])
            ends.append((values[-1], f"{key.removesuffix('_nll')} rows", COLOURS[colour], steps[-1]))
        ax.set_ylim(0, 1.2 * max(ax.get_ylim()[1], 1e-9))
        label_ends(ax, ends)
        last = history[-1].step if history else 0
        _mark_step(ax, stopped_step, "stopped", last)
        _mark_step(ax, kept_step if kept_step != stopped_step else None, "kept", last)
        ax.set_xlabel("training step")
        ax.grid(axis="y")
        ax.set_axisbelow(True)
        ax.locator_params(axis="x", integer=True, nbins=6)
    return ax


def plot_axis(result: AxisResult, *, names: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw figures over the folds of a curve with their intervals, the unlearned model solid and the retrained one dashed.

    Args:
        result: What :func:`efface.run.axes.run_axes` returned.
        names: Names of figures between 0 and 1; by default those of the result that are.
        ax: Where to draw.
    """
    if names is None:
        names = [name for name in result.figures if describe(name).scale in ("score", "share")]
    folds = [point.fold for point in result.points]
    with house_style():
        ax = ax or new_axes(7.2, 3.2)
        ends = []
        for name, (colour, marker) in zip(names, _CURVES * len(names), strict=False):
            if "retrained" in result.points[0].results:
                _curve(ax, folds, result.curve(name, "retrained"), COLOURS[colour], "")
            last = _curve(ax, folds, result.curve(name), COLOURS[colour], marker)
            if last is not None:
                ends.append((last[1], describe(name).label, COLOURS[colour], last[0]))
        ax.set_ylim(-0.03, 1.03)
        label_ends(ax, ends)
        ax.set_xticks(folds, [f"{point.fold}\n{point.rows} rows" for point in result.points])
        ax.set_xlabel("forget set" if result.axis == "scalability" else "request in a row")
        ax.grid(axis="y")
        ax.set_axisbelow(True)
    return ax


_CURVES = (("retain", "D"), ("unlearned", "o"), ("forget", "s"), ("original", "^"))


def _curve(ax: Axes, folds: Sequence[int], curve: Sequence[Metric], colour: str, marker: str) -> tuple[int, float] | None:
    """Draw a figure over folds, with a marker and a band or dashed without either; return its last point."""
    points = [(fold, metric) for fold, metric in zip(folds, curve, strict=True) if is_number(metric.value)]
    if not points:
        return None
    places, values = [fold for fold, _ in points], [float(metric.value or 0.0) for _, metric in points]
    style = "-" if marker else (0, (3, 3))
    ax.plot(places, values, linestyle=style, color=colour, marker=marker or None, markersize=5, linewidth=1.6 if marker else 1)
    banded = [(fold, metric.interval) for fold, metric in points if metric.interval is not None and metric.interval.is_meaningful]
    if marker and banded:
        low, high = [band.low for _, band in banded], [band.high for _, band in banded]
        ax.fill_between([fold for fold, _ in banded], low, high, color=colour, alpha=0.18, linewidth=0)
    return places[-1], values[-1]


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of so many inches, made without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _dot(ax: Axes, result: Results, name: str, role: str, y: float) -> None:
    metric = result.metrics.get(name)
    if metric is None or metric.value is None or not math.isfinite(metric.value):
        return
    if metric.interval is not None:
        style = "-" if metric.interval.is_meaningful else ":"
        ax.plot(
            [metric.interval.low, metric.interval.high], [y, y], style, color=COLOURS[role], linewidth=2, solid_capstyle="round"
        )
    ax.plot(
        [metric.value],
        [y],
        MARKERS[role],
        color=COLOURS[role],
        markeredgecolor=COLOURS["paper"],
        markersize=7.5 if role != "retrained" else 6.5,
        clip_on=False,
        zorder=3,
    )


def _logs(values: Sequence[float | None], *, already: bool) -> NDArray[np.float64]:
    """log10 of the valid values (natural logs where ``already``); what lies beyond the axis is put at its ends, not dropped."""
    found = _valid(values)
    end = -math.log10(_SMALLEST)
    logs: NDArray[np.float64] = found / math.log(10) if already else np.log10(np.clip(found, _SMALLEST, 1 / _SMALLEST))
    return np.clip(logs, -end, end)


def _valid(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([v for v in values if v is not None and not math.isnan(v)], dtype=np.float64)


def _padded(low: float, high: float, *, least: float = 0.05) -> tuple[float, float]:
    margin = max(least, 0.04 * (high - low)) or 1.0
    return low - margin, high + margin


def _spread(ax: Axes, values: NDArray[np.float64], row: int, role: str, grid: NDArray[np.float64]) -> None:
    colour = COLOURS[role]
    density = _density(values, grid)
    ax.fill_between(grid, row, row - 0.36 * density, color=colour, alpha=0.25, linewidth=0)
    if len(values) <= _DOTS:
        # A low-discrepancy jitter: repeatable, and no two neighbours on one spot.
        jitter = row + 0.06 + 0.12 * ((np.arange(len(values)) * 0.618034) % 1.0)
        ax.plot(np.sort(values), jitter, ".", color=colour, alpha=0.6, markersize=3, markeredgewidth=0)
    low, middle, high = _median_interval(values)
    ax.plot([low, high], [row, row], "-", color=colour, linewidth=3, solid_capstyle="round")
    size = 7.5 if role != "retrained" else 6.5
    ax.plot([middle], [row], MARKERS[role], color=colour, markeredgecolor=COLOURS["paper"], markersize=size, zorder=3)


def _density(values: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density with Silverman's width, scaled to a peak of 1."""
    spread = min(float(values.std()), float(np.subtract(*np.percentile(values, [75, 25]))) / 1.34 or float(values.std()))
    width = max(0.9 * spread * len(values) ** -0.2, (grid[-1] - grid[0]) / 120)
    density = np.exp(-0.5 * ((grid[:, None] - values[None, :]) / width) ** 2).sum(axis=1)
    scaled: NDArray[np.float64] = density / density.max()
    return scaled


def _median_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the 95 % interval of the median from order statistics (normal approximation of the binomial) and the median."""
    ordered, n = np.sort(values), len(values)
    reach = 1.96 * math.sqrt(n) / 2
    low = ordered[max(0, math.floor(n / 2 - reach))]
    high = ordered[min(n - 1, math.ceil(n / 2 + reach))]
    return float(low), float(np.median(ordered)), float(high)


def _log_ticks(ax: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import MaxNLocator

    decades = range(math.ceil(low), math.floor(high) + 1)
    step = max(1, math.ceil(len(decades) / 5))
    ticks: list[float] = [float(d) for d in decades if d % step == 0]
    if len(ticks) < 2:
        values = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(10.0**low, 10.0**high)
        ticks = [math.log10(v) for v in values if v > 0 and low <= math.log10(v) <= high]
    ax.set_xticks(ticks, [_power(t) for t in ticks])


def _power(log: float) -> str:
    value = 10.0**log
    if -2.01 < log < 3:
        return f"{value:.3g}"
    superscript = str(round(log)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{superscript}"


def _band(ax: Axes, history: Sequence[PathPoint], key: str, colour: str) -> None:
    rows = [
        (p.step, p.values[f"{key}_low"], p.values[f"{key}_high"])
        for p in history
        if is_number(p.values.get(f"{key}_low")) and is_number(p.values.get(f"{key}_high"))
    ]
    if rows:
        steps, low, high = zip(*rows, strict=True)
        ax.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)


def _mark_step(ax: Axes, step: int | None, text: str, last: int) -> None:
    if step is None:
        return
    is_right = text == "stopped" or step < 0.2 * last
    ax.axvline(step, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 3)), zorder=0)
    ax.annotate(
        text,
        (step, 1),
        xycoords=ax.get_xaxis_transform(),
        xytext=(4 if is_right else -4, -3),
        textcoords="offset points",
        ha="left" if is_right else "right",
        va="top",
        color=COLOURS["soft"],
    )


def label_ends(ax: Axes, ends: Sequence[tuple[float, str, str, int]]) -> None:
    """Write each line's name beside its last point, pushed apart where two would overlap."""
    if not ends:
        return
    top = max(ax.get_ylim()[1], 1e-9)
    least, last = 0.085 * top, -math.inf
    for value, text, colour, step in sorted(ends):
        place = max(value, last + least)
        last = place
        ax.annotate(
            text, (step, place), xytext=(9, 0), textcoords="offset points", color=colour, va="center", annotation_clip=False
        )
