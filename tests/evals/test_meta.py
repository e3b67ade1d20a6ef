"""Meta-evaluation of metrics: hand-computed values, bounds, symmetry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.evals.metrics.meta import (
    faithfulness,
    meta_overall,
    metric_robustness,
    quantisation_robustness,
    relearning_robustness,
)

changes = st.floats(-1, 1, allow_nan=False)
values = st.floats(0, 1, allow_nan=False)


def test_faithfulness_counts_pairs_in_the_right_order():
    assert faithfulness([0.9, 0.8], [0.1, 0.85]) == 0.75
    assert faithfulness([0.5], [0.5]) == 0.5


def test_by_hand():
    assert relearning_robustness(-0.3, -0.1) == pytest.approx(1 - 0.2 / 0.4)
    assert relearning_robustness(-0.3, -0.1, form="one_sided") == pytest.approx(1 / 3)
    assert relearning_robustness(-0.1, -0.3, form="one_sided") == 1.0
    assert relearning_robustness(-0.1, 0.3) == 0.0
    assert quantisation_robustness(0.2, 0.3) == pytest.approx(0.8)
    assert quantisation_robustness(0.2, 0.4, form="one_sided") == 0.5
    assert quantisation_robustness(0.4, 0.2, form="one_sided") == 1.0
    assert metric_robustness(0.5, 1.0) == pytest.approx(2 / 3)
    assert meta_overall(0.9, 0.0) == 0.0


def test_no_change_speaks_against_nothing():
    for form in ("symmetric", "one_sided"):
        assert relearning_robustness(0.0, 0.0, form=form) == 1.0
        assert quantisation_robustness(0.0, 0.0, form=form) == 1.0
    assert relearning_robustness(0.0, -0.4, form="one_sided") == 1.0
    assert relearning_robustness(0.0, -0.4) == 0.0


@given(changes, changes)
def test_r_is_bounded_and_symmetric(one, other):
    assert 0 <= relearning_robustness(one, other) <= 1
    assert relearning_robustness(one, other) == pytest.approx(relearning_robustness(other, one))
    assert 0 <= relearning_robustness(one, other, form="one_sided") <= 1


@given(values, values)
def test_q_is_bounded_and_symmetric(one, other):
    assert 0 <= quantisation_robustness(one, other) <= 1
    assert quantisation_robustness(one, other) == pytest.approx(quantisation_robustness(other, one))
    assert 0 <= quantisation_robustness(one, other, form="one_sided") <= 1
