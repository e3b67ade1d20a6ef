"""The report of ordinary nets: its own figures, pictures and words on the same page."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path

import numpy as np
import pytest

from efface.report import build_report, headline, render_html, usability
from efface.report.catalogue import describe
from efface.report.nets import net_pictures, plot_classes, plot_confusion
from efface.results import Cost, Intention, Interval, Metric, Report, Results, Unlearned

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


def regressor(role, mae, *, relearn=None, **more):
    """Figures of a regressor whose test rows are split; ``more``: further figures by name."""
    names = {"forget_mae": "reference", "test_mae": "lower", "test_retain_mae": "lower", "test_forget_mae": "reference"}
    found = {name: dataclasses.replace(metric(name, mae, aim), details={"target_name": "load (MW)"}) for name, aim in names.items()}
    found |= {name: metric(name, value, "lower") for name, value in more.items()}
    found["average_gap"] = metric("average_gap", 3.0, "zero")
    if relearn is not None:
        found["relearn_steps"] = relearn
    return Results(role, "nets", found)


def made(results, **more):
    unlearned = Unlearned(Path("model"), {"name": "scrub"}, Intention.REMOVAL, (), "completed", Cost(1.0), "", 1.0)
    return Report(request={}, unlearned=unlearned, results=results, created="2026-01-01T00:00:00+00:00", **more)


def text_of(report):
    return " ".join(re.sub(r"<[^>]+>", " ", html.unescape(render_html(report))).split())


def test_target_is_named_with_its_unit():
    report = made({"original": regressor("original", 3.0), "unlearned": regressor("unlearned", 4.0)})
    assert "It predicts load (MW)." in headline(report)[0]
    text = text_of(report)
    assert "in the unit of the target, load (MW)." in text
    assert "Error on what it should forget, load (MW) 4" in text
    assert "Error on new rows of what stays, load (MW) 4" in text


def test_test_rows_with_the_forgotten_kind_stand_only_in_the_full_table():
    results = {"unlearned": regressor("unlearned", 4.0, test_calibration_error=0.1)}
    shown = {row["name"] for part in build_report(made(results))["comparison"] for row in part["rows"] if row["is_main"]}
    assert {"test_retain_mae", "test_calibration_error"} < shown
    assert "test_mae" not in shown
    assert ">test_mae<" in render_html(made(results))


@pytest.mark.parametrize(
    ("mae", "said"),
    [
        (
            4.13,
            "the worst error (“Test rows of what stays: mean absolute error”) is 120% of the retrained model's; lower is better",
        ),
        (6.0, "model's is 3.45; lower is better. That is 174% of it, above the ceiling of 125%."),
        (9.0, "In a broken model high errors"),
    ],
)
def test_an_error_is_no_share(mae, said):
    results = {role: regressor(role, value) for role, value in (("original", 3.4), ("unlearned", mae), ("retrained", 3.45))}
    text = text_of(made(results))
    assert said in f"{text} {' '.join(headline(made(results)))}"
    assert "83%" not in text
    assert f"“Test rows of what stays: mean absolute error” went from 3.4 to {mae:.3g}; lower is better." in text


def test_an_error_may_be_small_in_its_unit():
    results = {"unlearned": regressor("unlearned", 0.5), "retrained": regressor("retrained", 0.04)}
    assert usability(results)["status"] == "collapsed"


@pytest.mark.parametrize(("value", "reason"), [(12.0, ""), (None, "not reached in 200 steps"), (None, "no labels")])
def test_texts_agree_with_whether_relearning_was_tried(value, reason):
    steps = Metric("relearn_steps", value, "reference", n=0 if value is None else 1, reason=reason)
    report = made({"unlearned": regressor("unlearned", 4.0, relearn=steps)})
    text = text_of(report)
    was_tried = reason != "no labels"
    assert ("One way to bring the knowledge back was tried" in text) == was_tried
    assert ("Of these ways only relearning was tried" in text) == was_tried
    assert ("Nobody has yet tried" in text) == (not was_tried)
    assert ("One way to bring" in headline(report)[-1]) == was_tried
    if value is not None:
        assert "one training of each model" in text


@pytest.mark.parametrize(
    ("more", "said"),
    [({}, "Mean difference of the mean absolute error"), ({"test_pinball": 1.0}, "Mean difference of the quantile loss")],
)
def test_points_of_an_error_are_explained(more, said, page):
    text = text_of(made({"unlearned": regressor("unlearned", 4.0, **more)}))
    assert said in text
    assert "a point of error is a hundredth of the targets' standard deviation" in text
    assert "standard deviation" not in page


def test_second_retrained_model_has_one_name():
    stages = ("evaluation of the retrained 2 net", "training of the second retrained net", "evaluation of the retrained_2 model")
    text = text_of(made({"unlearned": regressor("unlearned", 4.0)}, costs=dict.fromkeys(stages, Cost(1.0))))
    for name in ("Evaluation of the net", "Training of the net", "Evaluation of the model"):
        assert f"{name} retrained again" in text


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
