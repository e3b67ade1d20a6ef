"""Many models side by side: figures over seeds with intervals, paired tests, costs; as plain data, CSV and LaTeX.

Nothing here computes a statistic: whoever ran the models hands them in.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from efface.report.build import plain_types
from efface.report.catalogue import describe
from efface.report.wording import MINUS, figure
from efface.results import Aim, Interval

__all__ = [
    "LEADERBOARD_SCHEMA",
    "AxisLine",
    "Entrant",
    "Figure",
    "Leaderboard",
    "PairedTest",
    "RunLine",
    "as_csv",
    "as_json",
    "as_latex",
    "figure_text",
    "header_text",
    "scale_of",
    "spread_text",
    "table_rows",
]

LEADERBOARD_SCHEMA = "efface-leaderboard/1"
_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one line, over its seeds.

    Attributes:
        value: Mean over seeds; of a statistical test the mean log10 p. None where a seed lacks it.
        interval: Seeds drawn first, then entities; of one seed, entities.
        span: Lowest and highest seed, where there is no interval.
        n_seeds: Seeds behind it.
        reason: Why there is no value.
    """

    value: float | None
    interval: Interval | None = None
    span: tuple[float, float] | None = None
    n_seeds: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run of a line.

    Attributes:
        seed: Name of the seed.
        state: "done", "failed" or "left".
        reason: Why it failed.
        report: Its page, relative to the leaderboard; empty where there is none.
        seconds: What unlearning took.
        stopped: Why training ended.
    """

    seed: str
    state: Literal["done", "failed", "left"]
    reason: str = ""
    report: str = ""
    seconds: float | None = None
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Entrant:
    """One line of the leaderboard.

    Attributes:
        label: Method and settings, or the role of a reference model.
        model: Name of the original model.
        is_reference: Whether it is a model to compare with.
        intention: What the method sets out to do; never a finding.
        figures: Name -> figure.
        distance: Mean distance to the retrained model over ``Leaderboard.distance_over``.
        seconds: What unlearning took, mean over seeds.
        trained_parameters: Parameters that were trained.
        peak_memory_bytes: Highest peak of any seed's unlearning.
        runs: Its runs.
        settings: Resolved settings, the plugs spelt out.
    """

    label: str
    model: str
    is_reference: bool
    intention: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    distance: Figure = Figure(None)
    seconds: float | None = None
    trained_parameters: int | None = None
    peak_memory_bytes: int | None = None
    runs: tuple[RunLine, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every run is done."""
        return all(run.state == "done" for run in self.runs)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Second less first on the same rows.

    Attributes:
        metric: Name of the figure.
        model: Name of the original model.
        first: Label of the line that is subtracted.
        second: Label of the other one.
        difference: Mean over seeds and rows, None where the two cannot be paired.
        interval: Of the difference, seeds drawn first, then entities.
        log10_p: Of the sign-flip test over entities.
        log10_p_holm: The same, corrected for all tests of its table on this figure.
        log10_floor: Smallest log10 p that so many entities allow.
        n_rows: Rows in a seed.
        n_entities: Entities over all seeds.
        n_seeds: Seeds.
        reason: Why there is no test.
    """

    metric: str
    model: str
    first: str
    second: str
    difference: float | None = None
    interval: Interval | None = None
    log10_p: float | None = None
    log10_p_holm: float | None = None
    log10_floor: float | None = None
    n_rows: int = 0
    n_entities: int = 0
    n_seeds: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AxisLine:
    """How one line fares over several forget sets.

    Attributes:
        label: The line.
        model: Name of the original model.
        axis: "scalability" or "sustainability".
        utility: Figure the slope is of.
        slope: Change of the utility per forget set, relative to the first.
        worst_step: Largest fall from one forget set to the next.
        folds: Forget sets.
        rows: Rows of each forget set.
        curve: The utility at each forget set.
    """

    label: str
    model: str
    axis: str
    utility: str
    slope: Figure
    worst_step: Figure
    folds: int
    rows: tuple[int, ...] = ()
    curve: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Leaderboard:
    """A bench or a comparison as people read it.

    Attributes:
        title: At the top.
        created: When it was made, RFC 3339 in UTC.
        kind: "bench", or "compare" for runs made elsewhere.
        entrants: The lines, reference models first.
        columns: Figures of the main table.
        metrics: Every figure, in the order shown.
        aims: Name -> which way is better.
        tradeoffs: Pairs of figures (forgetting, utility) to draw against each other.
        tests: Between methods.
        gaps: From the retrained model to each method.
        distance_over: Figures the distance to the retrained model is a mean of.
        seeds: Names of the seeds.
        notes: What a reader must know.
        manifest: Versions, suite, hashes.
        axes: Scalability and sustainability of each method, where they were run.
    """

    title: str
    created: str
    kind: Literal["bench", "compare"]
    entrants: tuple[Entrant, ...]
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    aims: Mapping[str, Aim]
    tradeoffs: tuple[tuple[str, str], ...] = ()
    tests: tuple[PairedTest, ...] = ()
    gaps: tuple[PairedTest, ...] = ()
    distance_over: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    axes: tuple[AxisLine, ...] = ()

    @property
    def has_models(self) -> bool:
        """Whether lines of several original models stand together."""
        return len({entrant.model for entrant in self.entrants}) > 1


def scale_of(name: str) -> str:
    """Return how a figure's value is written; a test is written as its log10 p, and no name is a distance between 0 and 1."""
    scale = describe(name).scale if name else "score"
    return "open" if scale == "test" else scale


def figure_text(found: Figure | None, name: str) -> str:
    """Return a value as it is shown, without its spread."""
    return "n/a" if found is None or found.value is None else figure(found.value, scale_of(name))


def spread_text(found: Figure | None, name: str) -> str:
    """Return an interval in brackets, or the lowest and highest seed in words; empty where there is neither.

    An interval over fewer than ten entities is not meaningful and is not shown.
    """
    if found is None or found.value is None:
        return ""
    scale = scale_of(name)
    if found.interval is not None and found.interval.is_meaningful:
        return f"[{figure(found.interval.low, scale)}, {figure(found.interval.high, scale)}]"
    if found.span is None:
        return ""
    low, high = (figure(end, scale) for end in found.span)
    return "" if low == high else f"({low} to {high})"


def header_text(name: str) -> str:
    """Return a figure's column heading."""
    description = describe(name)
    return f"{description.label} (log10 p)" if description.scale == "test" else description.label


def table_rows(board: Leaderboard, *, columns: Sequence[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the main table as text: lines, figures with their spread, distance and costs."""
    names = board.columns if columns is None else tuple(columns)
    head = [*(["model"] if board.has_models else []), "method", *names, "distance", "seconds", "trained", "peak MiB", "runs"]
    rows = []
    for entrant in board.entrants:
        cells = [f"{figure_text(f, n)} {spread_text(f, n)}".strip() for n in names for f in [entrant.figures.get(n)]]
        done = sum(run.state == "done" for run in entrant.runs)
        failed = [run for run in entrant.runs if run.state == "failed"]
        state = f"{done}/{len(entrant.runs)}" + (f" failed: {failed[0].reason}" if failed else "")
        rows.append(
            [
                *([entrant.model] if board.has_models else []),
                entrant.label,
                *cells,
                f"{figure_text(entrant.distance, '')} {spread_text(entrant.distance, '')}".strip(),
                "-" if entrant.seconds is None else f"{entrant.seconds:.3g}",
                "-" if entrant.trained_parameters is None else f"{entrant.trained_parameters:,}",
                "-" if entrant.peak_memory_bytes is None else f"{entrant.peak_memory_bytes / 2**20:.0f}",
                state,
            ]
        )
    return head, rows


def as_json(board: Leaderboard) -> dict[str, Any]:
    """Return the leaderboard as plain types: floats to six digits, NaN to null, paths by their last part."""
    plain: dict[str, Any] = plain_types({"schema": LEADERBOARD_SCHEMA, **asdict(board)})
    return plain


def as_csv(board: Leaderboard) -> str:
    """Return every figure of every line as CSV: value, low and high of its interval (or of its seeds), full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spread = [f"{name}{suffix}" for name in board.metrics for suffix in ("", "_low", "_high")]
    costs = ("seconds", "trained_parameters", "peak_memory_bytes")
    writer.writerow(
        ["model", "method", "reference", "seeds", "failed", "distance", "distance_low", "distance_high", *costs, *spread]
    )
    for entrant in board.entrants:
        counts = [sum(run.state == state for run in entrant.runs) for state in ("done", "failed")]
        cells = [number for name in board.metrics for number in _numbers(entrant.figures.get(name))]
        money = [getattr(entrant, cost) for cost in costs]
        writer.writerow(
            [entrant.model, entrant.label, entrant.is_reference, *counts]
            + [_exact(value) for value in (*_numbers(entrant.distance), *money, *cells)]
        )
    return out.getvalue()


def as_latex(board: Leaderboard) -> str:
    """Return the main table as LaTeX (booktabs), each line with its intervals below the figures."""
    names = board.columns
    head = [*(["Model"] if board.has_models else []), "Method", *(header_text(name) for name in names), "Distance", "Seconds"]
    left = 2 if board.has_models else 1
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{" + "l" * left + "r" * (len(head) - left) + "}",
        r"\toprule",
        " & ".join(_tex(text) for text in head) + r" \\",
        r"\midrule",
    ]
    for number, entrant in enumerate(board.entrants):
        if number and board.entrants[number - 1].is_reference != entrant.is_reference:
            lines.append(r"\midrule")
        found = [*((entrant.figures.get(name), name) for name in names), (entrant.distance, "")]
        seconds = "--" if entrant.seconds is None else f"{entrant.seconds:.3g}"
        label = [*([_tex(entrant.model)] if board.has_models else []), _tex(entrant.label)]
        lines.append(" & ".join([*label, *(_tex_number(figure_text(f, n)) for f, n in found), seconds]) + r" \\")
        spreads = [spread_text(f, n) for f, n in found]
        if any(spreads):
            small = [rf"{{\scriptsize {_tex_number(text)}}}" if text else "" for text in spreads]
            lines.append(" & ".join([*[""] * left, *small, ""]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _numbers(found: Figure | None) -> tuple[float | None, float | None, float | None]:
    if found is None or found.value is None:
        return None, None, None
    ends = (found.interval.low, found.interval.high) if found.interval is not None else found.span or (None, None)
    return found.value, *ends


def _exact(value: float | None) -> str:
    return "" if value is None else repr(value)


def _tex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text).replace("log10", r"$\log_{10}$")


def _tex_number(text: str) -> str:
    return _tex(text).replace(MINUS, "$-$").replace(">", "$>$").replace("<", "$<$")
