"""The leaderboard as page, CSV and LaTeX, on lines written by hand."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.text import Text

from efface.report.curves import plot_curves
from efface.report.leaderboard import (
    AxisLine,
    Entrant,
    Figure,
    Leaderboard,
    PairedTest,
    RunLine,
    as_csv,
    as_latex,
    spread_text,
    table_rows,
)
from efface.report.leaderboard_page import render_leaderboard, write_leaderboard
from efface.report.tradeoff import plot_tradeoff
from efface.results import Interval

FORGET, KEPT, QUALITY = "forget_fact_accuracy", "retain_fact_accuracy", "forget_quality"


def entrant(label: str, forget: float, kept: float, **changes: object) -> Entrant:
    figures = {
        FORGET: Figure(forget, Interval(forget - 0.05, forget + 0.05, n_entities=20), (forget, forget), 2),
        KEPT: Figure(kept, Interval(kept - 0.1, kept + 0.1, n_entities=4), (kept - 0.02, kept), 2),
        QUALITY: Figure(None, reason="no retrained model"),
    }
    runs = (RunLine("0", "done", report=f"runs/{label}-0/report.html", seconds=3.0), RunLine("1", "failed", "the loss is <NaN>"))
    line = Entrant(label, "m", False, "removal", figures, Figure(0.1, None, (0.1, 0.12), 2), 3.0, 1234, 2**20, runs)
    return replace(line, **changes)


@pytest.fixture
def board() -> Leaderboard:
    lines = (entrant("original", 0.9, 0.9, is_reference=True, runs=()), entrant("npo_a", 0.2, 0.8), entrant("b&w", 0.3, 0.85))
    test = PairedTest(FORGET, "m", "npo_a", "b&w", 0.1, Interval(0.05, 0.15, n_entities=20), -3.0, -2.7, -5.7, 60, 20, 2)
    blank = PairedTest(KEPT, "m", "npo_a", "b&w", reason="no rows in common")
    return Leaderboard(
        "Three lines",
        "2026-01-02T03:04:05+00:00",
        "bench",
        lines,
        (FORGET, QUALITY, KEPT),
        (FORGET, QUALITY, KEPT),
        {FORGET: "lower", KEPT: "higher", QUALITY: "higher"},
        tradeoffs=((FORGET, KEPT),),
        tests=(test, blank),
        distance_over=(FORGET, KEPT),
        seeds=("0", "1"),
        manifest={"suite": {"model": "/home/somebody/models/m"}},
    )


def test_the_page_stands_alone_and_says_what_failed(board: Leaderboard) -> None:
    page = render_leaderboard(board)
    assert "3 of" not in page
    assert "2 methods on m, 2 seeds: 2 of 4 runs done, 2 failed." in page
    assert "the loss is &lt;NaN&gt;" in page
    assert 'href="runs/npo_a-0/report.html"' in page
    assert "/home/somebody" not in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert "url(" not in page.replace("url(#", "")
    assert page.count("<svg") == 1
    assert "not compared: no rows in common" in page
    assert '<td class="number apart" data-sort="-2.7">\N{MINUS SIGN}2.70</td>' in page


def test_cells_carry_exact_values_to_sort_by(board: Leaderboard) -> None:
    page = render_leaderboard(board)
    assert 'data-sort="0.2"' in page
    assert page.count("data-sortable") >= 3  # two tables and the script


def test_an_interval_over_few_entities_is_not_shown(board: Leaderboard) -> None:
    assert spread_text(board.entrants[1].figures[FORGET], FORGET) == "[15%, 25%]"
    assert spread_text(board.entrants[1].figures[KEPT], KEPT) == "(78% to 80%)"
    assert spread_text(Figure(None), FORGET) == ""
    assert "4 entities a seed" in render_leaderboard(board)


def test_text_table_csv_and_latex_agree(board: Leaderboard) -> None:
    head, rows = table_rows(board)
    assert head == ["method", FORGET, QUALITY, KEPT, "distance", "seconds", "trained", "peak MiB", "runs"]
    figures = ["20% [15%, 25%]", "n/a", "80% (78% to 80%)", "0.10 (0.10 to 0.12)"]
    assert rows[1] == ["npo_a", *figures, "3", "1,234", "1", "1/2 failed: the loss is <NaN>"]
    lines = list(csv.DictReader(io.StringIO(as_csv(board))))
    assert [lines[1][f"{FORGET}{end}"] for end in ("", "_low", "_high")] == [repr(0.2), repr(0.2 - 0.05), repr(0.2 + 0.05)]
    assert lines[1][QUALITY] == ""
    assert lines[2]["method"] == "b&w"
    latex = as_latex(board)
    assert r"npo\_a & 20\% & n/a & 80\%" in latex
    assert r"b\&w" in latex
    assert latex.count(r"\midrule") == 2  # below the head, and below the reference models
    columns = {line.count(" & ") for line in latex.splitlines() if line.endswith(r"\\")}
    assert len(columns) == 1


def test_files_are_written_together(board: Leaderboard, tmp_path: Path) -> None:
    page = write_leaderboard(board, tmp_path / "new", name="table")
    assert page == tmp_path / "new" / "table.html"
    assert {path.name for path in page.parent.iterdir()} == {"table.html", "table.json", "table.csv", "table.tex"}
    found = json.loads((page.parent / "table.json").read_text())
    assert found["schema"] == "efface-leaderboard/1"
    assert found["manifest"]["suite"]["model"] == "m"


def test_curves_over_forget_sets_stand_on_the_page(board: Leaderboard) -> None:
    def line(label: str, *values: float | None) -> AxisLine:
        curve = tuple(Figure(v, span=None if v is None else (v - 0.1, v + 0.1)) for v in values)
        return AxisLine(label, "m", "scalability", KEPT, Figure(-0.1), Figure(-0.2), len(values), (10, 20, 40), curve)

    curved = replace(board, axes=(line("npo_a", 0.9, 0.8, 0.7), line("b&w", 0.9, None, 0.5)))
    axes = plot_curves(curved, "scalability")
    drawn = {tuple(each.get_ydata()) for each in axes.lines}
    assert {(0.9, 0.8, 0.7), (0.9, 0.5)} <= drawn
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1\n10 rows", "2\n20 rows", "3\n40 rows"]
    assert render_leaderboard(curved).count("<svg") == 2


def test_labels_of_a_crowded_plot_do_not_overlap(board: Leaderboard) -> None:
    crowd = [entrant(f"method {i}", 0.30 + 0.004 * i, 0.80 + 0.002 * (i % 3)) for i in range(8)]
    axes = plot_tradeoff(replace(board, entrants=tuple(crowd)), FORGET, KEPT)
    axes.figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the leader lines
    assert [text.get_text() for text in axes.texts] == [line.label for line in crowd]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    many = [entrant(f"method {i}", 0.1 + 0.03 * i, 0.8) for i in range(12)]
    numbered = plot_tradeoff(replace(board, entrants=tuple(many)), FORGET, KEPT)
    assert [text.get_text() for text in numbered.texts] == [str(i) for i in range(1, 13)]
