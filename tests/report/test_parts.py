from __future__ import annotations

import doctest
import sys

import pytest

from efface.report import catalogue, masking, plots, wording
from efface.report.svg import inline_svg, save_svg
from efface.results import AxisPoint, AxisResult, Interval, Metric, PathPoint, Results


@pytest.mark.parametrize("module", [wording, masking], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("name", "label", "question", "is_main"),
    [
        ("forget_fact_accuracy", "Forget rows: facts right", "forgotten", True),
        ("unseen_frames_forget_fact_accuracy", "Forget rows, new wording: facts right", "forgotten", True),
        ("passages_retain_rouge", "Retained rows, passages: ROUGE", "kept", True),
        ("forget_paraphrased_rouge", "Forget rows: ROUGE, other words", "forgotten", False),
        ("forget_truth_ratio", "Forget rows: truth ratio", "alike", True),
        ("retain_truth_ratio", "Retained rows: truth ratio", "kept", True),
        ("forget_truth_ratio_knowledge", "Forget rows: truth ratio, knowledge form", "forgotten", False),
        ("forget_quality", "Forget quality", "alike", True),
        ("holdout_fact_accuracy", "Rows never trained on: facts right", "behaviour", True),
        ("refusals_refusal_rate", "Unanswerable questions: refusals", "behaviour", True),
        ("my_set_forget_rouge", "My set forget: ROUGE", "forgotten", False),
        ("forget_sparkle", "Forget rows: sparkle", "forgotten", True),
        ("sparkle", "Sparkle", "other", True),
        ("forget_verbmem", "Verbatim memorisation (VerbMem)", "owner", True),
        ("muse_privleak", "Privacy leakage of texts (PrivLeak)", "owner", True),
        ("retain_knowmem", "Utility (KnowMem on retained texts)", "deployer", True),
        ("sustainability", "Sustainability", "deployer", True),
        ("retain_qa_fact_accuracy", "Retain questions: facts right", "deployer", True),
        ("verbmem_extraction_strength", "Forget passages: extraction strength", "owner", False),
    ],
)
def test_names_find_their_place(name: str, label: str, question: str, is_main: bool) -> None:
    found = catalogue.describe(name)
    assert (found.label, found.question, found.is_main) == (label, question, is_main)


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (0.9996, "share", ">99.9%"),
        (0.0004, "share", "<0.1%"),
        (0.995, "share", "99.5%"),
        (0.0, "share", "0%"),
        (1.0, "share", "100%"),
        (0.004, "score", "0.004"),
        (1e-9, "score", "<0.001"),
        (-0.5, "score", "\N{MINUS SIGN}0.50"),
        (-118.7, "open", "\N{MINUS SIGN}119"),
        (float("nan"), "score", "not available"),
        (float("inf"), "open", "not available"),
    ],
)
def test_figures_are_rounded_honestly(value: float, scale: str, text: str) -> None:
    assert wording.figure(value, scale) == text


@pytest.mark.parametrize(
    ("text", "answer", "marks"),
    [
        ("", "a b", []),
        ("a b", "", [False, False]),
        ("a x b", "a b", [True, False, True]),
        ("b a", "a b", [True, False]),
        ("A, b!", "a b", [True, True]),
    ],
)
def test_match_marks(text: str, answer: str, marks: list[bool]) -> None:
    found = masking.match_marks(text, answer)
    assert sum(found) == sum(marks)
    assert len(found) == len(marks)


def test_comparison_draws_every_model_with_its_interval(results) -> None:
    axes = plots.plot_comparison(results, names=["forget_fact_accuracy", "retain_fact_accuracy"])
    markers = [line for line in axes.lines if line.get_marker() not in {"None", None, ""}]
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert (len(markers), len(bars)) == (6, 6)
    interval = results["original"]["forget_fact_accuracy"].interval
    assert list(bars[0].get_xdata()) == [interval.low, interval.high]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Forget rows: facts right", "Retained rows: facts right"]


def test_plots_draw_on_given_axes(results) -> None:
    from matplotlib.figure import Figure

    first, second, third = Figure().subplots(3)
    assert plots.plot_comparison(results, ax=first) is first
    assert plots.plot_distribution(results, "forget_log_truth_ratio", ax=second) is second
    assert plots.plot_path([PathPoint(0, 0.0, {"forget_nll": 0.1})], ax=third) is third


def test_distribution_has_a_row_and_an_interval_per_model(results) -> None:
    axes = plots.plot_distribution(results, "forget_log_truth_ratio")
    assert [text.get_text() for text in axes.texts] == ["Original", "Unlearned", "Retrained"]
    assert len(axes.collections) == 3
    assert sum(len(line.get_xdata()) == 2 and line.get_linewidth() == 3 for line in axes.lines) == 3


def test_distribution_survives_zeros_and_missing_values(results) -> None:
    from dataclasses import replace

    metric = results["unlearned"].metrics["forget_probability"]
    odd = replace(metric, per_item=(0.0, None, float("nan"), 1.0, 1.0))
    results["unlearned"] = replace(results["unlearned"], metrics={"forget_probability": odd})
    axes = plots.plot_distribution(results, "forget_probability")
    low, high = axes.get_xlim()
    assert -14 < low < high < 1


def test_path_marks_the_stop_and_draws_bands() -> None:
    history = [
        PathPoint(s, s / 10, {"forget_nll": s / 10, "forget_nll_low": s / 11, "forget_nll_high": s / 9, "retain_nll": 0.1})
        for s in range(0, 50, 10)
    ]
    axes = plots.plot_path(history, stopped_step=40, kept_step=20)
    assert {text.get_text() for text in axes.texts} == {"forget rows", "retain rows", "stopped", "kept"}
    assert len(axes.collections) == 1


def test_svg_follows_the_page_and_is_the_same_every_time(results) -> None:
    drawn = [inline_svg(plots.plot_comparison(results), key="a", label='say "hi" & <go>') for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert 'aria-label="say &quot;hi&quot; &amp; &lt;go&gt;"' in drawn[0]
    assert "var(--unlearned)" in drawn[0]
    assert "var(--sans)" in drawn[0]
    assert "<text" in drawn[0]
    assert "DejaVu" not in drawn[0]
    assert "http" not in drawn[0]
    assert plots.COLOURS["unlearned"] not in drawn[0]


def test_importing_the_report_needs_neither_torch_nor_matplotlib() -> None:
    import subprocess

    code = "import sys, efface.report; print(sorted({'torch', 'matplotlib', 'jinja2', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def curve(values: list[float | None]) -> AxisResult:
    points = []
    for fold, value in enumerate(values, start=1):
        band = None if value is None else Interval(value - 0.1, value + 0.1, n_entities=12)
        metrics = {
            "retain_knowmem": Metric("retain_knowmem", value, "higher", interval=band),
            "muse_privleak": Metric("muse_privleak", -50.0, "zero"),
        }
        results = {role: Results(role, "muse", metrics) for role in ("unlearned", "retrained")}
        points.append(AxisPoint(fold, 2**fold, fold, results))
    slope = Metric("scalability", -0.1, "zero")
    return AxisResult("scalability", "npo", tuple(points), ("muse_privleak", "retain_knowmem"), slope, "retain_knowmem")


def test_a_curve_shows_figures_between_0_and_1_with_their_bands(tmp_path) -> None:
    axes = plots.plot_axis(curve([0.8, 0.7, None, 0.5]))
    solid, dashed = sorted(axes.lines, key=lambda line: line.get_linestyle() != "-")
    assert list(solid.get_ydata()) == [0.8, 0.7, 0.5]
    assert list(solid.get_xdata()) == [1, 2, 4]
    assert dashed.get_marker() in (None, "None", "")
    assert len(axes.collections) == 1
    assert axes.get_xticklabels()[0].get_text() == "1\n2 rows"
    for name in ("a.svg", "b.svg"):
        save_svg(plots.plot_axis(curve([0.8, 0.7])), tmp_path / name)
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_a_curve_can_be_read_as_plain_types() -> None:
    result = curve([0.8, 0.6])
    assert [metric.value for metric in result.curve("retain_knowmem")] == [0.8, 0.6]
    data = result.as_dict()
    assert [point["rows"] for point in data["points"]] == [2, 4]
    assert data["slope"]["value"] == -0.1
    assert "per_item" not in data["points"][0]["results"]["unlearned"]["metrics"]["retain_knowmem"]
