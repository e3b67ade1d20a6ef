"""The pure figures of nets on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.errors import InputError
from efface.evals.nets.classification import (
    confusion,
    cross_entropy,
    entropy,
    hits,
    margin,
    modified_entropy,
    true_probability,
)
from efface.evals.nets.figures import Column, figures_of
from efface.evals.nets.gap import GapPart, average_gap, gap_interval
from efface.evals.nets.klom import binned_kl, klom
from efface.evals.nets.regression import (
    absolute_error,
    pinball,
    quantile_coverage,
    squared_error,
    wasserstein,
    wasserstein_replicates,
)
from efface.evals.nets.similarity import activation_distance, js_divergence, zrf


def test_classifier_figures_by_hand():
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    labels = [0, 1]
    assert hits(logits, labels).tolist() == [1.0, 0.0]
    np.testing.assert_allclose(cross_entropy(logits, labels), [-math.log(0.7), -math.log(0.1)])
    np.testing.assert_allclose(margin(logits, labels), [math.log(0.7 / 0.3), math.log(0.1 / 0.9)])
    np.testing.assert_allclose(true_probability(np.exp(logits), labels), [0.7, 0.1])
    assert confusion([0, 2], labels, classes=3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_entropies_at_their_ends():
    sure, wrong = [[1.0, 0.0]], [[0.0, 1.0]]
    assert entropy(sure)[0] == pytest.approx(0.0, abs=1e-12)
    assert entropy([[0.5, 0.5]])[0] == pytest.approx(math.log(2))
    assert modified_entropy(sure, [0])[0] == pytest.approx(0.0, abs=1e-12)
    assert modified_entropy(wrong, [0])[0] > 100  # sure and wrong is worst, unlike for the plain entropy


def test_errors_by_hand():
    predictions, targets = [[1.0, 2.0], [3.0, 3.0]], [[0.0, 4.0], [3.0, 6.0]]
    assert absolute_error(predictions, targets).tolist() == [1.5, 1.5]
    assert squared_error(predictions, targets).tolist() == [2.5, 4.5]
    assert absolute_error([[1.0], [2.0]], [0.0, 0.0]).tolist() == [1.0, 2.0]  # a trailing axis of one is the same number


def test_quantile_figures_by_hand():
    predictions, targets, levels = [[0.0, 2.0], [0.0, 2.0]], [1.0, 3.0], (0.1, 0.9)
    # row 1: 0.1 * 1 + 0.1 * 1; row 2: 0.1 * 3 + 0.9 * 1
    np.testing.assert_allclose(pinball(predictions, targets, levels), [0.2, 1.2])
    assert quantile_coverage(predictions, targets, levels).tolist() == [[0.0, 1.0], [0.0, 0.0]]
    with pytest.raises(InputError, match="do not fit"):
        pinball(predictions, targets, (0.1, 0.5, 0.9))


def test_axes_of_one_are_no_mismatch_of_quantile_predictions():
    predictions, levels = np.arange(24.0).reshape(4, 3, 2), (0.1, 0.9)
    targets = np.arange(12.0).reshape(4, 3)
    for figure in (pinball, quantile_coverage):
        column = figure(predictions[:, 0], targets[:, :1], levels)  # (4, 2) against (4, 1)
        assert column.tolist() == figure(predictions[:, 0], targets[:, 0], levels).tolist()
        assert figure(predictions, targets[..., None], levels).tolist() == figure(predictions, targets, levels).tolist()
        assert figure(predictions[:, :1], targets[:, 0], levels).tolist() == column.tolist()
        for wrong in (targets.T, targets.reshape(4, 1, 3, 1)[:3], targets.ravel(), targets[:, :2], targets.reshape(2, 6)):
            with pytest.raises(InputError, match="do not fit"):
                figure(predictions, wrong, levels)
        with pytest.raises(InputError, match="do not fit"):
            figure(predictions[:, 0], targets[:1, :].reshape(1, 3), levels)


def test_predictions_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="do not fit"):
        absolute_error([1.0, 2.0, 3.0], [1.0, 2.0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20), st.floats(-5, 5))
def test_wasserstein_of_a_shift_is_the_shift(values, shift):
    moved = np.asarray(values) + shift
    assert wasserstein(values, moved) == pytest.approx(abs(shift), abs=1e-9)
    assert wasserstein(values, list(reversed(values))) == pytest.approx(0.0, abs=1e-9)


def test_wasserstein_replicates_keep_pairs():
    values = np.arange(30.0)
    assert wasserstein_replicates(values, values + 2, draws=50).tolist() == pytest.approx([2.0] * 50)
    with pytest.raises(InputError, match="cannot be paired"):
        wasserstein_replicates([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="cannot be paired"):
        wasserstein_replicates(np.zeros((3, 2)), np.zeros((2, 3)))


def test_wasserstein_replicates_draw_rows_with_all_their_values():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(20, 4)), rng.normal(size=(20, 4))
    picks = np.random.default_rng(5).integers(0, 20, (30, 20))
    expected = [wasserstein(first[rows], second[rows]) for rows in picks]
    np.testing.assert_allclose(wasserstein_replicates(first, second, draws=30, seed=5), expected, rtol=1e-12)
    assert (
        wasserstein_replicates(first[:, :1], second[:, 0], draws=30).tolist()
        == wasserstein_replicates(first[:, 0], second[:, 0], draws=30).tolist()
    )


def test_likeness_at_its_ends():
    one, other = [[50.0, -50.0]], [[-50.0, 50.0]]
    assert zrf(one, one)[0] == pytest.approx(1.0)
    assert js_divergence(one, other)[0] == pytest.approx(math.log(2))
    assert activation_distance(one, other)[0] == pytest.approx(math.sqrt(2))


def test_klom_is_zero_for_equal_and_large_for_separate_margins():
    same = np.linspace(-1, 1, 50)
    assert binned_kl(same, same) == pytest.approx(0.0, abs=1e-12)
    assert binned_kl(same, same + 10) > 5
    assert binned_kl([3.0], [3.0]) == pytest.approx(0.0, abs=1e-12)  # one value: the range is empty
    assert klom(np.stack([same, same], axis=1), np.stack([same, same + 10], axis=1)).argmax() == 1
    with pytest.raises(InputError, match="not of the same examples"):
        klom(np.zeros((5, 2)), np.zeros((5, 3)))


def test_gap_averages_absolute_differences():
    assert average_gap({"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 2.0}) == 2.0
    ones, zeros = np.ones(40), np.zeros(40)
    assert GapPart(ones, zeros, 100.0, "forget").points == 100.0
    interval = gap_interval([GapPart(ones, zeros, 100.0, "forget"), GapPart(ones, ones, 100.0, "test")])
    assert (interval.low, interval.high) == pytest.approx((50.0, 50.0))
    assert gap_interval([]) is None


def test_columns_of_a_set_share_their_draw():
    values = np.arange(40.0)
    found = figures_of(
        {"a": Column(values, "higher"), "b": Column(values + 1, "lower", keep=True)}, [str(i) for i in range(40)], seed=1
    )
    assert found["a"].interval.low + 1 == pytest.approx(found["b"].interval.low)
    assert found["b"].per_item[3] == 4.0
    assert found["a"].per_item == ()


def test_a_value_that_is_no_number_is_not_averaged_away():
    found = figures_of({"a": Column(np.array([1.0, np.nan]), "higher")}, ["x", "y"], seed=0)["a"]
    assert found.value is None
    assert found.reason == "1 of 2 rows gave no finite number"
