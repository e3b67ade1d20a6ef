"""Slope and worst step of a figure over folds."""

from __future__ import annotations

import numpy as np
import pytest

from efface.evals.metrics.curves import relative_slope, slope_metric, worst_step
from efface.evals.metrics.muse import Scalability
from efface.results import Metric


def metric(values, ids=("a", "b", "c")) -> Metric:
    kept = [value for value in values if value is not None]
    return Metric("retain_knowmem", float(np.mean(kept)), "higher", n=len(kept), per_item=tuple(values), item_ids=ids)


def test_slope_by_hand():
    assert relative_slope([0.8, 0.8, 0.8]) == 0
    assert relative_slope([0.5, 0.4, 0.3, 0.2]) == pytest.approx(-0.1 / 0.5)
    assert relative_slope([[0.5, 0.4], [0.4, 0.5]]) == pytest.approx([-0.2, 0.25])
    assert worst_step([0.9, 0.8, 0.5, 0.6]) == (pytest.approx(-0.3), 3)


def test_slope_with_an_interval_over_entities_that_all_folds_share():
    curve = [metric([1.0, 1.0, 1.0]), metric([1.0, 0.5, 0.5]), metric([1.0, 0.0, 0.0])]
    found = slope_metric(Scalability, curve, {"a": "kept", "b": "lost", "c": "lost"}, seed=0)
    assert found.value == pytest.approx(relative_slope([1, 2 / 3, 1 / 3]))
    assert found.interval.n_entities == 2
    assert found.interval.low == pytest.approx(-0.5)
    assert found.interval.high == pytest.approx(0)
    assert found.details["worst_step"] == pytest.approx(-1 / 3)


def test_a_row_without_a_figure_is_left_out_of_its_fold():
    curve = [metric([1.0, None, 0.5]), metric([1.0, 1.0, 0.5])]
    found = slope_metric(Scalability, curve, {}, seed=0)
    assert found.value == pytest.approx((2.5 / 3 - 0.75) / 0.75)
    assert found.interval.low <= found.value <= found.interval.high


def test_no_slope_without_a_first_value_and_no_interval_on_other_rows():
    zero = slope_metric(Scalability, [metric([0.0, 0.0, 0.0]), metric([1.0, 1.0, 1.0])], {}, seed=0)
    assert zero.value is None
    assert "0 at the first fold" in zero.reason
    missing = slope_metric(Scalability, [metric([1.0, 1.0, 1.0]), Metric("x", None, "higher", reason="no set")], {}, seed=0)
    assert missing.reason == "fold 2: no set"
    other = slope_metric(Scalability, [metric([1.0, 1.0, 1.0]), metric([0.5, 0.5, 0.5], ids=("d", "e", "f"))], {}, seed=0)
    assert other.value == pytest.approx(-0.5)
    assert other.interval is None
