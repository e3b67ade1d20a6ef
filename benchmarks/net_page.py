"""The results page on ordinary nets: tables and pictures from what ``benchmarks.nets`` saved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from scipy import stats

from benchmarks.net_cells import CURVE_SHARES, IAU_METHODS, PARTS, Cell, cells_of
from benchmarks.net_problems import ARCHITECTURES, IAU_DATA, IAU_PENALTIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["mean_between", "seed_interval", "write_page"]

Records = Sequence[Mapping[str, Any]]
Figure = tuple[str, str, bool]
"""Column title, metric, whether it is shown in per cent."""


class Point(NamedTuple):
    """A method on one data set and architecture, means over seeds."""

    method: str
    weight: float
    """Of the GR loss."""
    gap: float
    nearer: float
    """Points by which the gap is smaller than the original's."""
    ratio: float
    """Time over that of retraining."""
    utility: float
    """Test accuracy less the retrained model's, in points."""


CLASS_COLUMNS: tuple[Figure, ...] = (
    ("forget", "forget_accuracy", True),
    ("retain", "retain_accuracy", True),
    ("test, kept", "test_retain_accuracy", True),
    ("test, gone", "test_forget_accuracy", True),
    ("test", "test_accuracy", True),
    ("matched attack", "mia_matched", True),
    ("its AUC", "mia_matched_auc", False),
    ("called unseen", "mia_efficacy_confidence", True),
)
VALUE_COLUMNS: tuple[Figure, ...] = (
    ("forget MAE", "forget_mae", False),
    ("test MAE, kept", "test_retain_mae", False),
    ("test MAE, gone", "test_forget_mae", False),
    ("W1 on forget", "forget_wasserstein", False),
    ("row by row", "forget_paired_difference", False),
    ("matched attack", "mia_matched", True),
    ("called seen", "mia_member_error", True),
)
QUANTILE_COLUMNS: tuple[Figure, ...] = (
    ("forget quantile loss", "forget_pinball", False),
    ("test quantile loss", "test_pinball", False),
    ("calibration error, test", "test_calibration_error", False),
    *VALUE_COLUMNS[3:],
)
HEAD = """# Methods for ordinary nets on real data

Made by `python -m benchmarks.nets --data DIR` ({seeds} seeds: {listed}), one thread per process; run it again and it goes on where
it ended. A seed decides initial weights and order of the original, of two retrained models and of the method; the data and what
must go never change. Figures are means over seeds. `[low, high]` is the 95 % t-interval over seeds, cut at what is possible; with
few seeds it is wide, and that is what few seeds are worth. The **noise floor** is the second retrained model held against the
first: a difference smaller than it says nothing. Time is that of the method alone over that of one retraining, in the same process.

- *gap*: mean difference to the retrained model in points, of accuracy (or of error, in hundredths of the targets' standard
  deviation) on every set and of the matched attack.
- *matched attack*: accuracy of an attack that tells losses of forget rows from those of unseen rows of the same kind; 50 % is
  chance.
- *called unseen* (SalUn's figure) and *called seen*: shares of the forget rows, by an attack fitted on retain against test rows.

No column has a best value of its own: the aim is the row of the retrained model. The settings stand in `benchmarks/net_cells.py`.
"""
SAID = "## What it says\n"
"""Title of the section that a reader of the figures writes by hand."""


def write_page(parts: Sequence[str], seeds: Sequence[int], work: Path, out: Path) -> None:
    """Write the page and its pictures, from all cells that are there; conclusions written into it by hand stay."""
    out.parent.mkdir(parents=True, exist_ok=True)
    pages: dict[str, Callable[[Sequence[int], Path, Path], list[str]]] = {
        "fashion": _tables_of("fashion"),
        "others": _tables_of("others"),
        "curve": _curve,
        "iau": _iau,
    }
    lines = [HEAD.format(seeds=len(seeds), listed=", ".join(map(str, seeds))), *_conclusions(out)]
    for part in parts:
        lines += pages[part](seeds, work, out)
    out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _conclusions(page: Path) -> list[str]:
    """Return the section of conclusions of a page that was written before."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    _, title, rest = text.partition(SAID)
    return [title + rest.split("\n## ")[0].rstrip() + "\n"] if title else []


def read_cells(problem: str, name: str, seeds: Sequence[int], work: Path) -> list[dict[str, Any]]:
    """Return what was saved of a cell (or of "base"), one per seed that is done."""
    paths = [work / problem.replace("/", "-") / f"seed{seed}" / f"{name}.json" for seed in seeds]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def seed_interval(values: Sequence[float], *, least: float = -math.inf, most: float = math.inf) -> tuple[float, float] | None:
    """Return the 95 % t-interval of a mean over seeds within [least, most]; None below two seeds.

    >>> [round(end, 3) for end in seed_interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    if len(values) < 2:
        return None
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return max(least, mean(values) - reach), min(most, mean(values) + reach)


def figure(results: Sequence[Mapping[str, Any]], metric: str, *, per_cent: bool, interval: bool = False) -> str:
    """Return the mean of a metric over seeds, as it is shown."""
    values = [r["metrics"][metric]["value"] for r in results if metric in r["metrics"]]
    if not values or any(value is None for value in values):
        return "-"
    shown = [100 * value if per_cent else value for value in values]
    text = f"{mean(shown):.1f}" if per_cent or metric == "average_gap" else f"{mean(shown):.3g}"
    ends = seed_interval(shown, least=0.0, most=100.0 if per_cent else math.inf) if interval else None
    return text if ends is None else f"{text} [{ends[0]:.1f}, {ends[1]:.1f}]"


def _tables_of(part: str) -> Callable[[Sequence[int], Path, Path], list[str]]:
    def tables(seeds: Sequence[int], work: Path, out: Path) -> list[str]:
        lines: list[str] = []
        for problem in PARTS[part]:
            lines += [f"## {problem}", "", _about(problem), "", *_table(problem, cells_of(part, problem), seeds, work), ""]
        return lines

    return tables


def _about(problem: str) -> str:
    import inspect

    from benchmarks.net_problems import PROBLEMS

    return inspect.getdoc(PROBLEMS[problem]) or ""


def _table(problem: str, cells: Sequence[Cell], seeds: Sequence[int], work: Path) -> list[str]:
    base = read_cells(problem, "base", seeds, work)
    if not base:
        return ["Not run."]
    first = base[0]["results"]["original"]["metrics"]
    columns = CLASS_COLUMNS if "forget_accuracy" in first else QUANTILE_COLUMNS if "forget_pinball" in first else VALUE_COLUMNS
    columns = tuple(column for column in columns if column[1] in first)
    head = ["model", *(title for title, _, _ in columns), "gap", "time / retraining", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    names = {"original": "original", "retrained": "retrained", "retrained_2": "**noise floor** (retrained again)"}
    for role, label in names.items():
        results = [record["results"][role] for record in base]
        ratio = "-" if role == "original" else "1"
        lines.append(_line(label, results, columns, ratio, len(results)))
    for cell in cells:
        found = read_cells(problem, cell.name, seeds, work)
        whole = [record for record in found if "failed" not in record]
        if not found:
            lines.append(f"| {cell.label} | " + "not run | " + "| " * (len(head) - 2))
        elif len(whole) < len(found):
            lines.append(
                f"| {cell.label} | loss not finite in {len(found) - len(whole)} of {len(found)} | " + "| " * (len(head) - 2)
            )
        else:
            ratio = f"{mean(record['seconds'] / record['seconds_retraining'] for record in whole):.2g}"
            lines.append(_line(cell.label, [record["results"] for record in whole], columns, ratio, len(whole)))
    return lines


def _line(label: str, results: Records, columns: Sequence[Figure], ratio: str, seeds: int) -> str:
    cells = [figure(results, metric, per_cent=per_cent) for _, metric, per_cent in columns]
    gap = figure(results, "average_gap", per_cent=False, interval=True)
    return "| " + " | ".join([label, *cells, gap, ratio, str(seeds)]) + " |"


def _curve(seeds: Sequence[int], work: Path, out: Path) -> list[str]:
    """How many labels are worth what: gap and kept test accuracy over the share of labelled retain rows."""
    problem = PARTS["curve"][0]
    methods = ("laf", "fine_tune", "neg_grad_plus", "scrub")
    measures = (
        ("average_gap", "gap to the retrained model (points)", False),
        ("test_retain_accuracy", "test accuracy, kept classes (%)", True),
    )
    series: dict[str, dict[str, list[tuple[float, list[float]]]]] = {metric: {} for metric, _, _ in measures}
    for metric, _, per_cent in measures:
        for method in methods:
            points = []
            for share in CURVE_SHARES:
                cells = read_cells(problem, Cell(f"curve {method} {100 * share:g}%", method).name, seeds, work)
                values = [
                    c["results"]["metrics"][metric]["value"] for c in cells if "results" in c and metric in c["results"]["metrics"]
                ]
                if values:
                    points.append((share, [100 * value if per_cent else value for value in values]))
            series[metric][method] = points
    picture = out.with_name(f"{out.stem}-labels.svg")
    _draw_curve(series, measures, picture)
    lines = [
        "## Labels",
        "",
        f"`{problem}`. LAF reads no label; LAF+R repairs its head with the labels of a share of the retain rows, whose inputs it "
        "has all; both take 30 epochs at eight times the published rates. The supervised baselines are given the labelled share "
        "alone. Lines go through means, bars from the lowest to the highest of the seeds.",
        "",
        f"![Gap and accuracy over the share of labelled rows]({picture.name})",
        "",
    ]
    for metric, title, _ in measures:
        lines += [
            f"{title[:1].upper()}{title[1:]}:",
            "",
            "| labelled | " + " | ".join(methods) + " |",
            "|---" * (len(methods) + 1) + "|",
        ]
        for share in CURVE_SHARES:
            found = {method: dict(points).get(share) for method, points in series[metric].items()}
            shown = [f"{mean(values):.1f}" if values else "-" for values in found.values()]
            lines.append(f"| {100 * share:g} % | " + " | ".join(shown) + " |")
        lines.append("")
    return lines


def _draw_curve(series: Mapping[str, Any], measures: Sequence[tuple[str, str, bool]], path: Path) -> None:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.2, 3.6), layout="constrained")
    places = {share: index for index, share in enumerate(CURVE_SHARES)}
    for axes, (metric, title, _) in zip(canvas.subplots(1, len(measures)), measures, strict=True):
        for index, ((method, points), marker) in enumerate(zip(series[metric].items(), "oDs^", strict=True)):
            if points:
                x = [places[share] + 0.08 * (index - 1.5) for share, _ in points]  # bars beside each other
                axes.plot(x, [mean(values) for _, values in points], marker=marker, color=f"C{index}", label=method)
                lowest, highest = ([end(values) for _, values in points] for end in (min, max))
                axes.vlines(x, lowest, highest, color=f"C{index}", linewidth=0.8)
        axes.set(xlabel="retain rows with labels (%)", ylabel=title)
        axes.set_xticks(range(len(CURVE_SHARES)), [f"{100 * share:g}" for share in CURVE_SHARES])
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    _save(canvas, path)


def _iau(seeds: Sequence[int], work: Path, out: Path) -> list[str]:
    """IAU with and without the GR loss against influence and two baselines: removal, time and utility."""
    picture = out.with_name(f"{out.stem}-iau.svg")
    table = [
        "| data | net | GR | model | forget | test | matched attack | its AUC | gap | time / retraining |",
        "|---" * 10 + "|",
    ]
    points: list[Point] = []
    for data in IAU_DATA:
        for net in ARCHITECTURES:
            for end, penalty in IAU_PENALTIES.items():
                rows, found = _iau_rows(f"iau/{data}/{net}{end}", penalty, seeds, work)
                points += found
                table += [f"| {data} | {net} | {penalty:g} | {row} |" for row in rows]
    _draw_iau(points, picture)
    weights = [f"GR {weight:g}" for weight in IAU_PENALTIES.values() if weight]
    titles = ["method", "gap, no GR", *weights, "nearer, no GR", *weights, "test accuracy, no GR", *weights, "time, no GR"]
    summary = [
        "| " + " | ".join(titles) + " |",
        "|---" * len(titles) + "|",
        *(_summary_line(label, points) for label in ("original", "noise floor", *(cell.label for cell in IAU_METHODS))),
    ]
    text = (
        "Three data sets, three architectures, 5 % random rows. GR is the weight of the gradient penalty of IAU's training "
        "(0.005 as published); originals and retrained models of a line share their recipe. Removal is how much *nearer* a model "
        "is to the retrained one than the original, in points of gap; utility is the test accuracy less the retrained model's; "
        "time is over that of retraining. Each point is a data set and architecture, averaged over seeds; the first table holds "
        "means over these nine points with their 95 % t-interval, and the median of the times."
    )
    image = f"![Removal, time and utility of IAU and others]({picture.name})"
    return ["## IAU", "", text, "", image, "", *summary, "", *table, ""]


def _summary_line(label: str, points: Sequence[Point]) -> str:
    """One row over all data sets and architectures: removal and utility at each weight of the GR loss, time without it."""
    own = [[point for point in points if (point.method, point.weight) == (label, weight)] for weight in IAU_PENALTIES.values()]
    cells = [f"{mean(point.gap for point in part):.1f}" if part else "-" for part in own]
    cells += [mean_between([point.nearer for point in part]) if label != "original" else "-" for part in own]
    cells += [mean_between([point.utility for point in part]) for part in own]
    cells.append(f"{median(point.ratio for point in own[0]):.2g}" if own[0] and label != "original" else "-")
    return "| " + " | ".join([label, *cells]) + " |"


def mean_between(values: Sequence[float]) -> str:
    """Return a mean with its interval over seeds, or "-" where there is no value."""
    ends = seed_interval(values)
    if not values:
        return "-"
    return f"{mean(values):.1f}" if ends is None else f"{mean(values):.1f} [{ends[0]:.1f}, {ends[1]:.1f}]"


def _iau_rows(problem: str, weight: float, seeds: Sequence[int], work: Path) -> tuple[list[str], list[Point]]:
    base = read_cells(problem, "base", seeds, work)
    columns = (
        ("", "forget_accuracy", True),
        ("", "test_accuracy", True),
        ("", "mia_matched", True),
        ("", "mia_matched_auc", False),
    )
    rows: list[str] = []
    points: list[Point] = []

    def average(results: Records, metric: str) -> float:
        return mean(float(result["metrics"][metric]["value"]) for result in results)

    def point(label: str, results: Records, ratio: float) -> Point:
        originals, retrained = ([record["results"][role] for record in base] for role in ("original", "retrained"))
        gap, test = average(results, "average_gap"), average(results, "test_accuracy")
        nearer, utility = average(originals, "average_gap") - gap, 100 * (test - average(retrained, "test_accuracy"))
        return Point(label, weight, gap, nearer, ratio, utility)

    for role, label in (("original", "original"), ("retrained", "retrained"), ("retrained_2", "noise floor")):
        results = [record["results"][role] for record in base]
        if results:
            rows.append(_line(label, results, columns, "-", 0)[2:].rsplit(" | ", 1)[0])
        if results and role != "retrained":
            points.append(point(label, results, 1.0))
    for cell in IAU_METHODS:
        whole = [record for record in read_cells(problem, cell.name, seeds, work) if "results" in record]
        if not whole:
            continue
        ratio = mean(record["seconds"] / record["seconds_retraining"] for record in whole)
        results = [record["results"] for record in whole]
        rows.append(_line(cell.label, results, columns, f"{ratio:.2g}", 0)[2:].rsplit(" | ", 1)[0])
        points.append(point(cell.label, results, ratio))
    return rows, points


def _draw_iau(points: Sequence[Point], path: Path) -> None:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.2, 5.0), layout="constrained")
    left, right = canvas.subplots(1, 2, sharey=True)
    for index, (label, marker) in enumerate(zip((cell.label for cell in IAU_METHODS), "oDXPs^v", strict=True)):
        colour = f"C{index}"
        for weight in list(IAU_PENALTIES.values())[:2]:
            own = [point for point in points if (point.method, point.weight) == (label, weight)]
            fill = {"facecolors": "none", "edgecolors": colour} if weight else {"color": colour}
            name = f"{label}, GR {weight:g}" if weight else label
            nearer = [point.nearer for point in own]
            _scatter(left, [point.ratio for point in own], nearer, marker, name, fill)
            _scatter(right, [point.utility for point in own], nearer, marker, name, fill)
    for axes in (left, right):
        axes.axhline(0, color="grey", linewidth=0.8)
    left.set(xscale="log", xlabel="time over retraining", ylabel="nearer than the original (points of gap)")
    right.set(xlabel="test accuracy less the retrained model's (points)")
    canvas.legend(*left.get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center")
    _save(canvas, path)


def _scatter(axes: Axes, x: Sequence[float], y: Sequence[float], marker: str, label: str, fill: Mapping[str, Any]) -> None:
    axes.scatter(x, y, marker=marker, label=label, alpha=0.85, **fill)


def _save(canvas: Any, path: Path) -> None:
    """Write an SVG that is the same bytes for the same figures."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        canvas.savefig(path, metadata={"Date": None})
