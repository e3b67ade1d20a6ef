"""Pictures of ordinary nets: confusion before and after, and accuracy class by class.

Distributions of predictions are drawn by :func:`efface.report.plots.plot_distribution` like those of language models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from efface.report.catalogue import ROLES, role_label
from efface.report.plots import COLOURS, house_style, new_axes
from efface.report.svg import inline_svg
from efface.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["net_pictures", "plot_classes", "plot_confusion"]

_LARGEST_MAP = 25  # classes up to which a confusion map can be read
_COMPARED = ("original", "unlearned", "retrained")
_SETS = ("test", "forget")

Floats = NDArray[np.float64]


def net_pictures(results: Mapping[str, Results]) -> list[dict[str, str]]:
    """Return title, text and SVG of every picture that the tables at hand allow; none for language models and regressors."""
    name = next((f"confusion_{part}" for part in _SETS if any(f"confusion_{part}" in r.tables for r in results.values())), None)
    if name is None:
        return []
    rows = "test rows" if name == "confusion_test" else "forget rows"
    found = []
    classes = plot_classes(results, name)
    if classes is not None:
        found.append(
            {
                "title": f"Accuracy class by class, {rows}",
                "text": "Of a forgotten class the bar should be as low as the retrained model's, of the others as high.",
                "svg": inline_svg(classes, key="classes", label=f"Accuracy per class on the {rows}, for each model"),
            }
        )
    for role in (role for role in _COMPARED if role in results and name in results[role].tables):
        table = np.asarray(results[role].tables[name])
        if len(table) > _LARGEST_MAP:
            continue
        axes = plot_confusion(table, results[role].table_labels)
        label = f"Confusion of the {role} model on the {rows}: share of each true class per predicted class"
        found.append(
            {
                "title": f"Confusion, {role_label(role).lower()} model, {rows}",
                "text": "A row per true class, a column per predicted class; the darker, the larger the share of the row.",
                "svg": inline_svg(axes, key=f"confusion-{role}", label=label),
            }
        )
    return found


def plot_confusion(table: Floats, names: Sequence[str] = (), *, ax: Axes | None = None) -> Axes:
    """Draw a confusion table (K, K) as shares of its rows, with the percentage in each cell that has room for it.

    Args:
        table: Counts, a row per true class.
        names: Names of the classes; their numbers where there are none.
        ax: Where to draw.
    """
    from matplotlib.patches import Rectangle

    size = len(table)
    totals = table.sum(axis=1, keepdims=True)
    shares = np.divide(table, totals, out=np.zeros_like(table, dtype=np.float64), where=totals > 0)
    labels = _names(names, size)
    with house_style():
        ax = ax or new_axes(4.5, 4.3)
        for row in range(size):
            for column in range(size):
                share = float(shares[row, column])
                if share == 0:
                    continue
                colour = COLOURS["retain"] if row == column else COLOURS["retrained"]
                ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=0.12 + 0.68 * share, linewidth=0))
                if size <= 12 and share >= 0.005:
                    ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=COLOURS["ink"], fontsize=8)
        ax.set_xlim(-0.5, size - 0.5)
        ax.set_ylim(size - 0.5, -0.5)
        ax.set_aspect("equal")
        ax.set_xticks(range(size), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
        ax.set_yticks(range(size), labels)
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")
        ax.set_xticks(np.arange(-0.5, size), minor=True)
        ax.set_yticks(np.arange(-0.5, size), minor=True)
        ax.tick_params(which="minor", length=0)
        ax.grid(which="minor")
        ax.set_axisbelow(True)
    return ax


def plot_classes(results: Mapping[str, Results], name: str = "confusion_test", *, ax: Axes | None = None) -> Axes | None:
    """Draw the accuracy of each class as one bar per model, with 95 % Wilson intervals; None where no class has a row.

    Args:
        results: Results by role.
        name: The confusion table to read.
        ax: Where to draw.
    """
    tables = {role: np.asarray(results[role].tables[name]) for role in ROLES if role in results and name in results[role].tables}
    if not tables:
        return None
    first = next(iter(tables.values()))
    present = np.flatnonzero(first.sum(axis=1) > 0)
    if not len(present):
        return None
    labels = _names(next(iter(results.values())).table_labels, len(first))
    width = 0.8 / len(tables)
    with house_style():
        ax = ax or new_axes(9.2, 2.9)
        for index, (role, table) in enumerate(tables.items()):
            counts = table.sum(axis=1)[present]
            share = np.diag(table)[present] / np.maximum(counts, 1)
            places = np.arange(len(present)) + (index - (len(tables) - 1) / 2) * width
            opacity = 0.45 if role == "retrained_2" else 1.0
            ax.bar(places, share, 0.9 * width, color=COLOURS[role], label=role_label(role), alpha=opacity)
            low, high = _wilson(share, counts)
            ax.vlines(places, low, high, color=COLOURS["ink"], linewidth=0.8)
        ax.set_ylim(0, 1.02)
        ax.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
        long = max(len(labels[k]) for k in present) > 6 and len(present) > 6
        ax.set_xticks(
            range(len(present)), [labels[k] for k in present], rotation=30 if long else 0, ha="right" if long else "center"
        )
        ax.grid(axis="y")
        ax.set_axisbelow(True)
        ax.legend(ncols=len(tables), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, handlelength=1)
    return ax


def _names(names: Sequence[str], size: int) -> list[str]:
    return list(names) if len(names) == size else [str(index) for index in range(size)]


def _wilson(share: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Wilson's 95 % interval of a share; it keeps within 0 and 1 for few rows too."""
    z = 1.96
    n = np.maximum(counts, 1)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(middle - reach, 0, 1), np.clip(middle + reach, 0, 1)
