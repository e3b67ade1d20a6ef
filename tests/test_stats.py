"""Statistics against closed forms, scipy, and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from efface.errors import InputError
from efface.stats import (
    auc,
    auc_interval,
    bootstrap_mean,
    bootstrap_replicates,
    clopper_pearson,
    harmonic_mean,
    hierarchical_bootstrap,
    holm,
    ks_interval,
    ks_test,
    log10_separation_floor,
    tpr_at_fpr,
)

numbers = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30)
GENERATOR = np.random.default_rng(11)


def test_the_interval_of_independent_values_is_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(3, 2, 400)
    interval = bootstrap_mean(values, seed=1)
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05)
    assert interval.n_entities == 400


def test_resampling_entities_widens_the_interval_of_dependent_values():
    values = np.repeat([0.0, 1.0] * 10, 10)
    entities = np.repeat(np.arange(20), 10)
    by_entity, by_row = bootstrap_mean(values, entities), bootstrap_mean(values)
    assert by_entity.n_entities == 20
    assert by_entity.high - by_entity.low > 2 * (by_row.high - by_row.low)


def test_the_bootstrap_is_seeded_and_does_not_care_how_it_is_cut_into_chunks(monkeypatch):
    values, entities = GENERATOR.normal(size=60), np.arange(60) // 3
    whole = bootstrap_mean(values, entities, seed=3)
    assert bootstrap_mean(values, entities, seed=3) == whole
    assert bootstrap_mean(values, entities, seed=4) != whole
    monkeypatch.setattr("efface.stats._CHUNK", 500)
    cut = bootstrap_mean(values, entities, seed=3)
    assert [cut.low, cut.high] == pytest.approx([whole.low, whole.high])


def test_few_entities_are_not_meaningful():
    assert not bootstrap_mean([0, 1, 1], ["a", "b", "b"]).is_meaningful
    assert bootstrap_mean([], []) is None


def test_replicates_of_a_ratio_weigh_items_by_how_often_their_entity_is_drawn():
    replicates = bootstrap_replicates(lambda w: w.sum(axis=1), ["a", "a", "b"], draws=500)
    assert set(replicates) <= {2.0, 3.0, 4.0}
    assert len(set(replicates)) == 3


def test_a_cluster_per_value_is_asked_for():
    with pytest.raises(InputError, match="one length"):
        bootstrap_mean([1, 2, 3], ["a", "b"])


def test_seeds_are_drawn_before_entities():
    spread = [np.full(20, 0.0), np.full(20, 1.0), np.full(20, 0.5)]
    interval = hierarchical_bootstrap(spread)
    assert interval.low < 0.2
    assert interval.high > 0.8
    assert "3 seeds" in interval.method
    assert "20 entities" in interval.method
    same = hierarchical_bootstrap([np.full(20, 0.5)] * 3)
    assert same.low == same.high == 0.5
    assert hierarchical_bootstrap([]) is None


@given(numbers, numbers)
@settings(deadline=None)
def test_ks_is_symmetric_and_agrees_with_scipy(x, y):
    here, there = ks_test(x, y), ks_test(y, x)
    assert here.statistic == pytest.approx(there.statistic)
    assert here.p_value == pytest.approx(there.p_value)
    assert here.p_value == pytest.approx(scipy_stats.ks_2samp(x, y).pvalue)
    assert here.log10_p >= here.log10_floor


@pytest.mark.parametrize(("n", "floor"), [(40, 1.86e-23), (200, 1.94e-119), (300, 1.48e-179), (400, 1.06e-239)])
def test_complete_separation_reaches_the_floor(n, floor):
    result = ks_test(np.arange(n), np.arange(n) + n)
    assert result.statistic == 1
    assert result.p_value == pytest.approx(floor, rel=5e-3)
    assert result.log10_p == pytest.approx(result.log10_floor, abs=1e-6)


def test_the_floor_of_unequal_sizes_is_two_over_the_number_of_paths():
    assert log10_separation_floor(3, 5) == pytest.approx(math.log10(2 / math.comb(8, 3)))
    assert ks_test([1, 2, 3], [4, 5, 6, 7, 8]).p_value == pytest.approx(2 / math.comb(8, 3))
    assert log10_separation_floor(1, 1) == 0


def test_log10_p_stays_finite_where_p_underflows():
    separated = ks_test(np.arange(1000), np.arange(1000) + 1000)
    assert separated.p_value == 0
    assert separated.log10_p == pytest.approx(separated.log10_floor)
    nearly = ks_test(np.arange(2000), np.arange(2000) + 1900)
    assert separated.log10_floor > nearly.log10_p > nearly.log10_floor


def test_ks_refuses_nan_and_emptiness():
    with pytest.raises(InputError, match="not numbers"):
        ks_test([1, math.nan], [1, 2])
    with pytest.raises(InputError, match="empty"):
        ks_test([], [1])


def test_the_ks_interval_covers_d_and_pairs_entities():
    x = GENERATOR.normal(size=80)
    y = x + 0.8
    interval = ks_interval(x, y)
    d = ks_test(x, y).statistic
    assert interval.low <= d <= interval.high
    entities = np.arange(80) // 4
    paired = ks_interval(x, y, (entities, entities), paired=True)
    assert paired.n_entities == 20
    assert 0 <= paired.low <= paired.high <= 1


def test_every_ks_replicate_is_the_statistic_of_a_resample():
    x, y = np.array([1.0, 2.0, 2.0, 3.0]), np.array([2.0, 2.0, 4.0])
    interval = ks_interval(x, y, seed=5, level=1.0)
    possible = {0.0} | {abs(i / 4 - j / 3) for i in range(5) for j in range(4)}
    assert min(abs(interval.low - value) for value in possible) < 1e-12
    assert min(abs(interval.high - value) for value in possible) < 1e-12


@given(numbers, numbers)
@settings(deadline=None)
def test_auc_of_a_score_and_of_its_negative_sum_to_one(x, y):
    assert auc(x, y) + auc([-v for v in x], [-v for v in y]) == pytest.approx(1)
    assert auc(x, y) == pytest.approx(roc_auc_score([0] * len(x) + [1] * len(y), [*x, *y]))


def test_the_auc_interval_covers_the_auc():
    x, y = GENERATOR.normal(size=100), GENERATOR.normal(0.7, size=100)
    interval = auc_interval(x, y)
    assert interval.low < auc(x, y) < interval.high
    assert interval.high - interval.low < 0.2
    equal = auc_interval([1.0] * 12, [1.0] * 12)
    assert equal.low == equal.high == 0.5


def test_auc_refuses_what_it_cannot_rank():
    with pytest.raises(InputError):
        auc([], [1])
    with pytest.raises(InputError):
        auc([math.nan], [1])


def test_true_positives_at_a_false_positive_rate():
    negatives = np.arange(100.0)
    assert tpr_at_fpr(negatives, [98.5, 99.5, 1.0, 2.0], fpr=0.01) == 0.5
    assert tpr_at_fpr(negatives, [98.5, 99.5, 1.0, 2.0], fpr=0.0) == 0.25
    assert tpr_at_fpr(negatives, [50.5], fpr=0.5) == 1.0
    assert tpr_at_fpr([1.0] * 10, [1.0] * 10) == 0.0


def test_clopper_pearson_at_the_ends_and_in_the_middle():
    assert clopper_pearson(0, 2995, one_sided=True).high < 0.001
    assert clopper_pearson(0, 2994, one_sided=True).high > 0.001
    full = clopper_pearson(5, 5)
    assert full.high == 1
    assert full.low == pytest.approx(0.025 ** (1 / 5))
    with pytest.raises(InputError):
        clopper_pearson(3, 2)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=9), st.data())
@settings(deadline=None)
def test_a_zero_part_makes_the_harmonic_mean_zero(values, data):
    assert harmonic_mean(values) == pytest.approx(scipy_stats.hmean(values))
    where = data.draw(st.integers(0, len(values)))
    assert harmonic_mean([*values[:where], 0.0, *values[where:]]) == 0


def test_harmonic_mean_of_what_cannot_be():
    assert harmonic_mean([0.5, -0.1]) == 0
    assert math.isnan(harmonic_mean([0.5, -0.1], negative="nan"))
    assert math.isnan(harmonic_mean([0.5, math.nan]))
    with pytest.raises(InputError):
        harmonic_mean([])
