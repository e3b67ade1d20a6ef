"""Shared and separate scoring do the same work's worth: equal log-likelihoods, fewer tokens."""

from __future__ import annotations

import pytest

from benchmarks.choices import FORMS, choice_questions, choices_table, compare_choices
from efface.world import ModelSizes


@pytest.fixture(scope="module")
def compared():
    sizes = ModelSizes(hidden=16, layers=1, heads=2, intermediate=16)
    return {form: compare_choices(form, count=4, rounds=1, sizes=sizes) for form in FORMS}


def test_both_sides_agree_and_ours_takes_fewer_tokens(compared):
    for each in compared.values():
        assert each.largest_difference < 1e-4
        assert each.items == 16
    assert compared["letters"].tokens[1] > 2 * compared["letters"].tokens[0]
    assert compared["texts"].tokens[1] > compared["texts"].tokens[0]


def test_the_table_names_both_forms(compared):
    table = choices_table(list(compared.values()), "A model.")
    assert [row["form"] for row in table.values] == list(FORMS)
    assert "letters" in table.text()


def test_questions_are_the_same_every_time():
    assert choice_questions(3).rows == choice_questions(3).rows
    assert all(len(set(row.choices)) == 4 for row in choice_questions(3))
