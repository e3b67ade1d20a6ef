"""Which figures a leaderboard shows, and curves over forget sets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from efface.errors import InputError
from efface.report.catalogue import sorted_names
from efface.results import Metric, Results
from efface.run.bench.collect import assemble, axis_lines, choose_columns
from efface.run.bench.entrants import Line, Measured


def line(label: str, *names: str, is_reference: bool = False) -> Line:
    metrics = {name: Metric(name, 0.5, "higher", per_item=(0.5, 0.5), item_ids=("a", "b")) for name in names}
    return Line(label, "m", is_reference, {"0": Measured(Results(label, "auto", metrics), {}, {})})


def curve(slope: float, worst: float) -> dict[str, object]:
    """What an axis leaves in its folder, of four forget sets."""
    metric = {"value": slope, "reason": "", "details": {"worst_step": worst}}
    figures = [{"retain_knowmem": {"value": 1 + slope * fold, "reason": ""}} for fold in range(4)]
    points = [{"rows": 10 * fold, "results": {"unlearned": {"metrics": each}}} for fold, each in enumerate(figures, start=1)]
    return {"axis": "scalability", "utility": "retain_knowmem", "slope": metric, "points": points}


def test_columns_are_those_asked_for_or_those_that_matter() -> None:
    lines = [line("npo", "forget_fact_accuracy", "forget_rouge", "retain_rouge", "forget_nll", "zebra_score")]
    known = sorted(lines[0].seeds["0"].results.metrics)
    # Facts say what ROUGE would on the same rows, which nobody asked of the retain rows; a figure of another package has a place.
    assert choose_columns(lines, known, ()) == ("forget_fact_accuracy", "retain_rouge", "zebra_score")
    assert choose_columns(lines, known, ("forget_nll",)) == ("forget_nll",)
    muse = [line("npo", "retain_knowmem", "forget_verbmem", "muse_privleak", "forget_qa_nll")]
    found = choose_columns(muse, sorted_names({"npo": muse[0].seeds["0"].results}), ())
    assert found == ("forget_verbmem", "muse_privleak", "retain_knowmem")
    with pytest.raises(InputError, match="Did you mean 'forget_rouge'"):
        choose_columns(lines, known, ("forget_rogue",))


def test_only_methods_on_one_model_are_tested_against_each_other() -> None:
    names = ("forget_fact_accuracy", "retain_fact_accuracy")
    lines = [line("retrained", *names, is_reference=True), line("npo", *names), line("ga", *names)]
    other = Line("npo", "another", False, line("npo", *names).seeds)
    board = assemble([*lines, other], title="t", kind="bench", seeds=["0"], manifest={})
    assert {(test.model, test.first, test.second) for test in board.tests} == {("m", "npo", "ga")}
    assert {(gap.model, gap.second) for gap in board.gaps} == {("m", "npo"), ("m", "ga")}
    assert board.entrants[-1].distance.reason == "no retrained model"
    assert any("name no entities" in note for note in board.notes)


def test_curves_become_a_slope_and_a_worst_step_over_seeds() -> None:
    (found,) = axis_lines(replace(line("npo"), axes={"scalability": {"0": curve(-0.1, -0.3), "1": curve(-0.2, -0.1)}}))
    assert found.slope.value == pytest.approx(-0.15)
    assert found.slope.span == (-0.2, -0.1)
    assert found.worst_step.value == pytest.approx(-0.2)
    assert found.folds == 4
    assert found.rows == (10, 20, 30, 40)
    assert [each.value for each in found.curve] == pytest.approx([1.0, 0.85, 0.7, 0.55])
    assert found.curve[3].span == pytest.approx((0.4, 0.7))
    missing = {"axis": "scalability", "utility": "u", "slope": {"value": None, "reason": "no utility", "details": {}}, "points": []}
    (none,) = axis_lines(replace(line("npo"), axes={"scalability": {"0": missing}}))
    assert none.slope.value is None
    assert none.slope.reason == "no utility"
