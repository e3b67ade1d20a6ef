"""The report of ordinary nets: its own figures, pictures and words on the same page."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from efface.report import build_report, render_html, usability
from efface.report.catalogue import describe
from efface.report.nets import net_pictures, plot_classes, plot_confusion
from efface.results import Interval, Metric, Report, Results

NAMES = ("ankle boot", "bag", "coat")


def metric(name, value, aim, *, floor=None, per_item=()):
    details = {} if floor is None else {"noise_floor": floor}
    interval = None if value is None else Interval(value - 0.02, value + 0.02, n_entities=50)
    reason = "this model is the reference itself" if value is None else ""
    return Metric(name, value, aim, interval=interval, n=50, details=details, per_item=per_item, reason=reason)


def classifier(role, forget, retain, table):
    gap = None if role == "retrained" else 100 * forget
    metrics = [
        metric("forget_accuracy", forget, "reference", floor=0.03),
        metric("retain_accuracy", retain, "higher", floor=0.01),
        metric("average_gap", gap, "zero", floor=1.5),
        metric("forget_confidence", forget, "reference", per_item=tuple(np.linspace(0.01, forget + 0.02, 20))),
    ]
    return Results(role, "nets", {m.name: m for m in metrics}, tables={"confusion_test": table}, table_labels=NAMES)


@pytest.fixture
def results():
    good, gone = ((9.0, 1.0, 0.0), (0.0, 10.0, 0.0), (0.0, 0.0, 10.0)), ((9.0, 1.0, 0.0), (0.0, 10.0, 0.0), (4.0, 6.0, 0.0))
    return {
        "original": classifier("original", 0.98, 0.99, good),
        "unlearned": classifier("unlearned", 0.1, 0.97, gone),
        "retrained": classifier("retrained", 0.0, 0.98, gone),
    }


@pytest.fixture
def page(results):
    return render_html(
        Report(request={"task": "classification"}, unlearned=None, results=results, created="2026-01-01T00:00:00+00:00")
    )


def test_page_shows_pictures_noise_floor_and_words_of_nets(page):
    assert page.count('<figure class="sheet plot') == 5  # confidence, classes, three confusions
    assert "between two retrained models" in page
    assert "other rows of the same kind" in page
    assert "other people" not in page
    assert "ankle boot" in page


def test_report_json_round_trips_tables(results):
    data = build_report(Report(request={}, unlearned=None, results=results, created="2026-01-01T00:00:00+00:00"))
    again = {role: Results.from_dict(result) for role, result in data["results"].items()}
    assert again["unlearned"].tables == results["unlearned"].tables
    assert again["unlearned"].table_labels == NAMES
    assert len(net_pictures(again)) == 4


def test_language_model_results_have_no_pictures(results):
    plain = {role: dataclasses.replace(result, suite="auto", tables={}) for role, result in results.items()}
    assert net_pictures(plain) == []


def test_confusion_shows_percentages_of_rows():
    axes = plot_confusion(np.array([[3.0, 1.0], [0.0, 5.0]]))
    assert sorted(text.get_text() for text in axes.texts) == ["100", "25", "75"]


def test_classes_without_rows_have_no_bar(results):
    table = ((5.0, 0.0), (0.0, 0.0))
    one = {"original": Results("original", "nets", {}, tables={"confusion_test": table})}
    axes = plot_classes(one)
    assert axes is not None
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0"]
    assert plot_classes({"original": Results("original", "nets", {}, tables={"confusion_test": ((0.0,),)})}) is None


def test_an_error_twice_the_reference_counts_as_half():
    def result(role, value):
        return Results(role, "nets", {"test_mae": Metric("test_mae", value, "lower", n=50)})

    found = usability({"unlearned": result("unlearned", 2.6), "retrained": result("retrained", 1.3)})
    assert found["share"] == pytest.approx(0.5)
    assert found["status"] == "below_floor"
    assert usability({"unlearned": result("unlearned", 9.0), "retrained": result("retrained", 1.3)})["status"] == "collapsed"


@pytest.mark.parametrize(
    ("name", "label", "question"),
    [
        ("forget_accuracy", "Forget rows: accuracy", "forgotten"),
        ("test_retain_mae", "Test rows of what stays: mean absolute error", "kept"),
        ("test_forget_accuracy", "Test rows of what must go: accuracy", "forgotten"),
        ("mia_matched", "Membership attack (matched)", "alike"),
        ("forget_fact_accuracy", "Forget rows: facts right", "forgotten"),
        ("mia_loss", "Membership attack (loss)", "alike"),
    ],
)
def test_names_find_their_place(name, label, question):
    found = describe(name)
    assert (found.label, found.question) == (label, question)


def test_ids_of_pictures_do_not_clash(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
