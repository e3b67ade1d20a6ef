"""Membership attacks: they find what is there, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from efface.errors import InputError
from efface.evals.nets.membership import (
    attack_success_rate,
    called_members,
    called_members_logistic,
    match_rows,
    matched_attack,
    strata_of_targets,
)
from efface.evals.nets.per_example import lira_score, logit_of_probability, shadow_attack


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_attacks_are_blind_on_halves_of_one_set(rng):
    probabilities = rng.dirichlet([1, 1, 1], size=1600)
    quarter = np.split(rng.permutation(1600), 4)
    confidence = [probabilities[rows, 0] for rows in quarter]
    zeros = np.zeros(400, dtype=int)
    assert matched_attack(confidence[0], confidence[1], strata=(zeros, zeros)).accuracy == pytest.approx(0.5, abs=0.1)
    first, second = called_members_logistic(confidence[0], confidence[1], confidence[2], confidence[3])
    assert abs(first.mean() - second.mean()) < 0.1
    success = attack_success_rate(*(probabilities[rows] for rows in quarter))
    assert success.mean() == pytest.approx(0.5, abs=0.1)


def test_attacks_find_members_with_high_confidence(rng):
    seen, unseen = rng.uniform(0.8, 1.0, 200), rng.uniform(0.0, 0.6, 200)
    assert called_members(seen, unseen, rng.uniform(0.85, 0.95, 50))[0].mean() > 0.95
    assert called_members(seen, unseen, rng.uniform(0.1, 0.5, 50))[0].mean() < 0.05
    zeros = np.zeros(200, dtype=int)
    assert matched_attack(-np.log(seen), -np.log(unseen + 1e-3), strata=(zeros, zeros)).accuracy > 0.95


def test_success_rate_counts_forget_rows_first():
    sure, unsure = np.tile([0.99, 0.01], (60, 1)), np.tile([0.55, 0.45], (60, 1))
    right = attack_success_rate(sure, unsure, sure[:20], unsure)
    assert right.tolist() == [1.0] * 40
    assert attack_success_rate(sure, unsure, unsure[:20], unsure)[:20].sum() == 0


def test_matching_takes_equal_numbers_of_each_class():
    forget, unseen = np.array([0] * 5 + [1] * 2 + [2] * 3), np.array([0] * 3 + [1] * 9)
    left, right = match_rows(forget, unseen, seed=1)
    assert sorted(forget[left]) == sorted(unseen[right]) == [0, 0, 0, 1, 1]
    assert len(set(left)) == len(left)
    assert [part.tolist() for part in match_rows(forget, unseen, seed=1)] == [left.tolist(), right.tolist()]


def test_strata_leave_out_targets_beyond_the_forget_rows():
    ours, theirs = strata_of_targets(np.arange(10.0), np.array([-1.0, 0.0, 4.5, 9.0, 9.1]))
    assert theirs[0] == theirs[-1] == -1
    assert set(theirs[1:4]) <= set(ours)
    constant, other = strata_of_targets([2.0, 2.0], [2.0, 3.0])
    assert constant.tolist() == [0, 0]
    assert other.tolist() == [0, -1]


def test_too_few_matched_rows_are_refused():
    with pytest.raises(InputError, match="at least 10"):
        matched_attack(np.zeros(20), np.zeros(20), strata=(np.zeros(20), np.ones(20)))


@pytest.mark.parametrize("broken", [[], [np.nan, 1.0]])
def test_empty_or_broken_features_are_refused(broken):
    with pytest.raises(InputError, match="not finite"):
        called_members(np.ones(5), broken, np.ones(3))


def test_lira_score_is_the_difference_of_log_densities():
    score = lira_score([0.1, 0.9, 1.5], mu_unlearned=1.2, sd_unlearned=0.5, mu_retrained=0.3, sd_retrained=0.7)
    np.testing.assert_allclose(score, [-2.0427114368481742, 0.5238191753967233, 1.625859991723254])


def noisy_model(shift):
    """A model that says of each example its difficulty, plus ``shift`` on its own half."""

    def make(half, seed):
        figures = np.linspace(-1, 1, 40) + np.random.default_rng(seed).normal(0, 0.1, 40)
        figures[half] += shift
        return figures

    return make


def test_shadow_attack_tells_hidden_from_gone():
    hidden = shadow_attack(noisy_model(0.5), noisy_model(0.0), lambda model: model, examples=40, pairs=16, seed=5)
    gone = shadow_attack(noisy_model(0.0), noisy_model(0.0), lambda model: model, examples=40, pairs=16, seed=5)
    assert hidden.auc > 0.95
    assert 0.3 < gone.auc < 0.7
    assert not hidden.is_low_power
    assert len(hidden.scores_seen) == 40


def test_shadow_attack_refuses_what_it_cannot_fit():
    with pytest.raises(InputError, match="at least 4"):
        shadow_attack(noisy_model(0), noisy_model(0), lambda model: model, examples=40, pairs=2)
    with pytest.raises(InputError, match="one figure per candidate"):
        shadow_attack(noisy_model(0), noisy_model(0), lambda model: model[:3], examples=40, pairs=4)


def test_logit_stays_finite():
    assert np.isfinite(logit_of_probability([0.0, 0.5, 1.0])).all()
