"""Paired comparisons against every sign pattern written out, and against scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from efface.errors import InputError
from efface.paired import PairedSeed, paired_difference, sign_flip_test


def enumerated(values: list[float]) -> float:
    """The definition: the share of all sign patterns at least as extreme."""
    observed = abs(sum(values)) - 1e-9
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((1, -1), repeat=len(values))]
    return sum(total >= observed for total in sums) / len(sums)


def test_hand_computed() -> None:
    # Of the 8 patterns of 1, 2, 3 only +++ and --- reach |6|.
    found = sign_flip_test([1, 2, 3])
    assert found.p_value == pytest.approx(0.25)
    assert found.log10_floor == pytest.approx(math.log10(0.25))
    # 3 - 2 - 1 = 0: every pattern is at least as extreme.
    assert sign_flip_test([3, -2, -1]).p_value == pytest.approx(1.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=9))
def test_equals_the_enumeration(values: list[float]) -> None:
    assert sign_flip_test(values).p_value == pytest.approx(enumerated(values), rel=1e-9)


def test_agrees_with_scipy_on_many_values() -> None:
    values = np.random.default_rng(0).normal(0.2, 1.0, 80)
    by_chance = scipy_stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    assert sign_flip_test(list(values)).p_value == pytest.approx(by_chance.pvalue, abs=0.01)


def test_ends_of_the_scale() -> None:
    assert sign_flip_test([0.0, 0.0]).n == 0
    assert sign_flip_test([0.0, 0.0]).p_value == 1.0
    far = sign_flip_test([1.0] * 2000)  # 2^-1999 is no float
    assert far.log10_p == pytest.approx(far.log10_floor)
    assert far.log10_floor == pytest.approx(-1999 * math.log10(2))
    assert sign_flip_test([0.5, 0.25, -0.5]).p_value == sign_flip_test([-0.5, -0.25, 0.5]).p_value


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf]])
def test_refuses_what_is_no_difference(values: list[float]) -> None:
    with pytest.raises(InputError, match="one finite number per entity"):
        sign_flip_test(values)


def test_difference_over_seeds_weighs_seeds_alike() -> None:
    seeds = [
        PairedSeed([0.0, 0.0], [1.0, 0.0], ["a", "b"]),  # mean 0.5
        PairedSeed([0.0] * 4, [1.0] * 4, ["c", "c", "d", "d"]),  # mean 1
    ]
    found = paired_difference(seeds)
    assert found.difference == pytest.approx(0.75)
    assert (found.n_rows, found.n_entities, found.n_seeds) == (4, 4, 2)
    assert found.test.n == 3  # b does not differ
    assert found.interval is not None
    assert found.interval.low <= 0.75 <= found.interval.high
    turned = paired_difference([PairedSeed(s.second, s.first, s.entities) for s in seeds])
    assert turned.difference == pytest.approx(-0.75)
    assert turned.test.p_value == found.test.p_value


def test_an_entity_of_two_seeds_is_one_entity() -> None:
    twice = [PairedSeed([0.0], [1.0], ["a"]), PairedSeed([0.0], [1.0], ["a"])]
    assert paired_difference(twice).test.p_value == 1.0  # one entity says nothing
    apart = [PairedSeed([0.0], [1.0], ["a"]), PairedSeed([0.0], [1.0], ["b"])]
    assert paired_difference(apart).test.p_value == pytest.approx(0.5)


def test_refuses_unpaired_rows() -> None:
    with pytest.raises(InputError, match="same rows under both"):
        paired_difference([PairedSeed([0.0], [1.0, 2.0], ["a"])])
    with pytest.raises(InputError, match="share no seed"):
        paired_difference([])
