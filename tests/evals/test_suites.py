"""Suites as files of their own: the page that writes one, options, sets of one's own, ways of making tokens."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from _lookup import LookupModel, knows, people_rows

from efface.data.schema import RowSet
from efface.errors import InputError
from efface.evals.evaluate import evaluate, evaluate_all
from efface.evals.suites.base import Plan, Suite, make_suite
from efface.evals.suites.data import Asking, SetView
from efface.evals.suites.sets import SetSpec
from efface.evals.suites.tofu import Tofu
from efface.registry import SUITES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "suites.md"


@pytest.fixture
def telegram(monkeypatch):
    """The suite of the page, registered as the page says."""
    monkeypatch.setattr(SUITES, "_targets", dict(SUITES._targets))
    names = {"__name__": "telegram_page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    return names["Telegram"]


def test_the_page_writes_a_suite(telegram, data, original):
    asked = RowSet.build([replace(row, question=f"{row.question} STOP") for row in people_rows("forget", 3)])
    kept = RowSet.build([replace(row, question=f"{row.question} STOP") for row in people_rows("retain", 3)])
    own = {"telegram": {"telegram_forget": asked, "telegram_retain": kept, "telegram_examples": people_rows("retain", 1)}}
    model = LookupModel(knows(kept))
    results = evaluate(model, data=replace(data, own=own), suite="telegram")
    assert results.suite == telegram.name
    assert results.value("telegram_forget_fact_accuracy") == 0
    assert results["telegram_forget_fact_accuracy"].aim == "lower"
    assert results["telegram_retain_fact_accuracy"].aim == "higher"
    assert results.value("telegram_gap") == 1
    assert not any(name.startswith(("forget_", "retain_", "telegram_examples")) for name in results.metrics)
    assert {len(item.shots) for item in SUITES.get("telegram")().plan(replace(data, own=own).of("telegram")).generate_items()} == {
        2
    }


def test_a_required_set_that_is_missing_is_named(telegram, data, original):
    results = evaluate(original, data=data, suite="telegram")
    assert "telegram_forget_probability" not in results.metrics
    assert results["telegram_retain_fact_accuracy"].reason == "no telegram_retain set was given"
    assert results["telegram_gap"].reason == "needs both telegram sets"


def test_sets_of_one_suite_are_not_seen_by_another(data, original):
    own = {"tofu": {"my_own": people_rows("forget", 2)}}
    both = evaluate_all(original, suites=["auto", "tofu"], data=replace(data, own=own))
    assert "my_own_probability" in both["tofu"].metrics
    assert not any(name.startswith("my_own") for name in both["auto"].metrics)


def test_options_are_checked():
    made = make_suite("tofu", {"min_k": 0.2})
    assert isinstance(made, Tofu)
    assert made.min_k == 0.2
    assert make_suite(made) is made
    with pytest.raises(InputError, match="'min_k'"):
        make_suite("tofu", {"mink": 0.2})
    with pytest.raises(InputError, match="tofu"):
        make_suite("tofoo")


def test_a_figure_over_rows_must_be_one(data, original):
    class Wrong(Suite):
        name = "wrong"
        title = "lists a figure of several sets among those of one"
        max_new_tokens = 4
        sets: ClassVar = {"forget": SetSpec(("answers",), ("forget_quality",), "forget")}

    with pytest.raises(TypeError, match="aggregate"):
        evaluate(original, data=data, suite=Wrong())


def test_suites_that_make_tokens_alike_share_a_pass(data, original):
    class Other(Tofu):
        name = "other"
        encodings: ClassVar = {"openunlearning": ("strict", 64)}

    class Switching(LookupModel):
        def __init__(self, known):
            super().__init__(known)
            self.switched = []

        def with_variant(self, variant, *, max_length=None):
            self.switched.append((variant, max_length))
            return self

    model = Switching(original.known)
    evaluate_all(model, suites=["auto", "tofu", Other()], data=data, variant="openunlearning")
    assert model.switched == [("openunlearning", None), ("strict", 64)]


def test_a_completion_goes_on_from_its_beginning():
    rows = RowSet.build([{"question": "Once upon", "answer": "a time"}, {"question": "Once upon ", "answer": "a time"}])
    view = SetView("texts", rows, max_new_tokens=5, asking=Asking(form="completion", stop=(".",)))
    assert [item.answer for item in view.answers] == [" a time", "a time"]
    assert {item.form for item in (*view.answers, *view.generations)} == {"completion"}
    assert view.generations[0].stop == (".",)


def test_a_plan_may_be_made_without_specs(data):
    plan = Plan(data, {})
    assert list(plan.score_items()) == list(plan.generate_items()) == []
