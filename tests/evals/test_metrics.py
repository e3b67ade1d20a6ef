"""Metrics against hand-counted values, and their invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from _lookup import people_rows, token_row
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.data.schema import Row
from efface.evals.metrics.answers import chance_level, rouge_scores, token_entropy
from efface.evals.metrics.base import ALL_VARIANTS, Truth
from efface.evals.metrics.membership import (
    attack_score,
    loss_ratio,
    min_k,
    min_k_plus_plus,
    privleak,
    reference_score,
    rel_diff,
    zlib_score,
)
from efface.evals.metrics.tokens import answer_nll, exact_memorization, extraction_strength, option_probability, probability
from efface.evals.metrics.truth_ratio import closeness, forget_quality, knowledge_ratio, log_truth_ratio, model_utility, preference
from efface.registry import METRICS

hits = st.lists(st.booleans(), min_size=1, max_size=12)
losses = st.floats(0.01, 30)
variants = st.sampled_from(ALL_VARIANTS)


def row_of(found, *, eos=True):
    return token_row([-0.1 if hit else -3.0 for hit in found], hit=found, eos=eos)


def test_probability_is_the_geometric_mean_of_the_token_probabilities():
    row = token_row(np.log([0.5, 0.125]))
    assert answer_nll(row) == pytest.approx(-math.log(0.25))
    assert probability(answer_nll(row)) == pytest.approx(0.25)


def test_an_answer_without_a_token_is_missing_and_in_the_published_code_not_a_number():
    empty = token_row([])
    assert answer_nll(empty) is None
    assert math.isnan(answer_nll(empty, variant="openunlearning"))
    assert extraction_strength(empty) is None
    assert extraction_strength(empty, variant="openunlearning") == 0
    assert exact_memorization(empty) is exact_memorization(empty, variant="openunlearning") is None


@pytest.mark.parametrize(
    ("found", "strict", "published"),
    [
        ([True, True, True, True], 1.0, 1.0),
        ([False, True, True, True], 2 / 3, 2 / 3),
        ([True, True, False, True], 0.0, 1 / 3),
        ([False, True], 0.0, 1.0),
        ([True, False, True, False, True], 0.0, 1 / 4),
    ],
)
def test_extraction_strength_by_hand(found, strict, published):
    row = row_of(found)  # the last token is EOS
    assert extraction_strength(row) == pytest.approx(strict)
    assert extraction_strength(row, variant="openunlearning") == pytest.approx(published)


def test_strict_keeps_a_last_token_that_is_not_eos():
    row = row_of([True, True, False], eos=False)
    assert extraction_strength(row) == 0
    assert extraction_strength(row, variant="openunlearning") == 1
    assert exact_memorization(row) == pytest.approx(2 / 3)
    assert exact_memorization(row, variant="openunlearning") == 1


@given(hits, st.booleans())
@settings(deadline=None)
def test_extraction_strength_is_a_share_of_tokens_and_one_only_with_perfect_memory(found, eos):
    row = row_of(found, eos=eos)
    m = row.n - 1 if eos else row.n
    strength, memory = extraction_strength(row), exact_memorization(row)
    if m == 0:
        assert strength is memory is None
        return
    assert min(abs(strength - k / m) for k in range(m + 1)) < 1e-12
    assert (strength == 1) == (memory == 1)
    assert strength <= memory + 1e-12
    assert extraction_strength(row, variant="openunlearning") >= 1 / max(row.n - 1, 1) - 1e-12 or row.n == 1


@given(losses, st.lists(losses, min_size=1, max_size=5))
@settings(deadline=None)
def test_option_probabilities_agree_where_epsilon_does_not_matter(right, wrong):
    strict = option_probability(right, wrong)
    assert 0 <= strict <= 1
    assert option_probability(right, wrong, variant="original") == pytest.approx(strict, rel=1e-6, abs=1e-12)
    assert option_probability(right, wrong, variant="openunlearning") <= strict + 1e-12


def test_truth_ratio_by_hand():
    log_ratio = log_truth_ratio([1.0], [[2.0, 3.0]])
    assert log_ratio[0] == pytest.approx(1 - 2.5)
    assert closeness(log_ratio)[0] == pytest.approx(math.exp(-1.5))
    assert preference(log_ratio)[0] == pytest.approx(1 - math.exp(-1.5))
    assert preference([0.7])[0] == 0
    arithmetic = log_truth_ratio([1.0], [[2.0, 3.0]], mean="arithmetic")
    assert math.exp(arithmetic[0]) == pytest.approx((math.exp(-2) + math.exp(-3)) / 2 / math.exp(-1))
    assert knowledge_ratio([1.0], [[2.0, 3.0]])[0] == pytest.approx(math.exp(-1) / (math.exp(-1) + math.exp(-2.5)))


@given(st.lists(losses, min_size=1, max_size=6), variants)
@settings(deadline=None)
def test_the_variants_of_the_truth_ratio_agree_on_models_that_have_not_collapsed(rights, variant):
    rights = [min(loss, 12.0) for loss in rights]
    wrong = [[loss + 0.5, loss + 1.5] for loss in rights]
    strict = log_truth_ratio(rights, wrong)
    assert strict == pytest.approx([-1.0] * len(rights))
    assert log_truth_ratio(rights, wrong, variant=variant) == pytest.approx(strict, abs=1e-4)
    assert closeness(log_truth_ratio(rights, wrong, variant=variant), variant=variant) == pytest.approx(closeness(strict), abs=1e-4)


def test_a_collapsed_model_underflows_in_the_published_form_only():
    rights, wrong = [800.0, 900.0], [[801.0], [902.0]]
    published = log_truth_ratio(rights, wrong, variant="openunlearning")
    assert list(closeness(published, variant="openunlearning")) == [0.0, 0.0]
    assert published[0] == published[1]
    assert np.isfinite(published).all()
    assert list(closeness(log_truth_ratio(rights, wrong))) == pytest.approx([math.exp(-1), math.exp(-2)])


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=20), st.lists(st.floats(-4, 4), min_size=2, max_size=20))
@settings(deadline=None)
def test_forget_quality_is_symmetric_and_one_against_itself(mine, theirs):
    assert forget_quality(mine, theirs).p_value == pytest.approx(forget_quality(theirs, mine).p_value)
    assert forget_quality(mine, mine).p_value == 1


def test_utility_is_zero_if_a_part_is():
    assert model_utility([0.5] * 8 + [0.0]) == 0
    assert model_utility({"a": 0.5, "b": 0.25}) == pytest.approx(1 / 3)
    assert math.isnan(model_utility([0.5, -0.1], variant="openunlearning"))


def test_membership_scores_by_hand():
    row = token_row([-1.0, -4.0, -2.0, -3.0, -9.0], text="abc")
    assert min_k(row, share=0.5) == pytest.approx(3.5)  # EOS is left out, 2 of 4 tokens
    assert min_k(row, share=0.5, variant="original") == pytest.approx(6.5)  # 2 of 5
    assert min_k(row, share=0.01) == pytest.approx(4.0)
    assert math.isnan(min_k(row, share=0.01, variant="original"))
    assert min_k(token_row([-1.0])) is None
    assert min_k(token_row([-1.0]), variant="openunlearning") == 0
    assert min_k_plus_plus(row, share=0.5) == pytest.approx(1.5)  # (log p + 2) / 1
    assert zlib_score(row) == pytest.approx(3.8 / 11)
    assert zlib_score(token_row([-1.0], text="")) == pytest.approx(1 / 8)
    assert reference_score(row, token_row([-1.0] * 5)) == pytest.approx(2.8)
    assert loss_ratio(row, token_row([-1.9] * 5)) == pytest.approx(2.0)
    assert attack_score("mia_min_k", row, share=0.5) == min_k(row, share=0.5)


def test_the_variance_is_clamped():
    row = token_row([-1.0, -1.0], mean=[-2.0, -2.0], var=[-1e-9, 0.0])
    assert min_k_plus_plus(row) == pytest.approx(-1000.0)


@given(st.floats(0, 0.999), variants)
@settings(deadline=None)
def test_a_model_leaks_nothing_against_itself(area, variant):
    assert privleak(area, area, variant=variant) == pytest.approx(0, abs=1e-6)
    if area > 0:
        assert rel_diff(area, area, variant=variant) == pytest.approx(0, abs=1e-6)


def test_leakage_without_a_reference():
    assert privleak(0.9, None) is None
    assert privleak(0.9, None, variant="openunlearning") == pytest.approx(-80)
    assert privleak(0.9, 1.0) is None
    assert rel_diff(0.9, 0.0) is None


def test_entropy_of_tokens():
    assert token_entropy(["a", "b", "c", "d"]).normalised == pytest.approx(1)
    assert token_entropy(["a"] * 4).bits == 0
    assert token_entropy(["a"]).normalised == token_entropy([]).normalised == 0


def test_strict_rouge_reads_every_script_and_skips_what_has_no_word():
    assert rouge_scores("北京", "北京").rougeL_recall == 1
    assert rouge_scores("anything", "...") is None
    with pytest.warns(UserWarning, match="ASCII"):
        assert rouge_scores("北京", "北京", variant="openunlearning").rougeL_recall == 0


def test_fact_accuracy_and_refusals_of_one_answer():
    truth = Truth("She was born in Lima.", "Lima", ("City of Kings",), ("No comment.",))
    fact, refusal = METRICS.get("fact_accuracy"), METRICS.get("refusal_rate")
    assert fact.item("born in lima", truth) == 1
    assert fact.item("the city of kings", truth) == 1
    assert fact.item("Oslo", truth) == 0
    assert fact.item("Oslo", Truth("x")) is None
    assert refusal.item("No comment.", truth) == 1
    assert refusal.item("Oslo", truth) == 0


def test_chance_is_how_common_the_value_is_among_retained_people():
    pool = [row for row in people_rows("retain", 10) if row.attribute == "city"]  # each of five cities twice
    chance = chance_level(people_rows("forget", 1), pool)
    assert chance.level == pytest.approx((0.2 + 1 / 3) / 2, abs=0.2)
    cities = [Row.build({"question": "q", "answer": "a", "value": "Lima", "attribute": "city"})]
    assert chance_level(cities, pool).level == pytest.approx(0.2)
    options = [Row.build({"question": "q", "answer": "a", "value": "x", "perturbed_answer": ["b", "c", "d"]})]
    assert chance_level(options).level == pytest.approx(0.25)
    assert chance_level([Row.build({"question": "q", "answer": "a"})]) is None


def test_chance_counts_a_person_once_however_often_they_are_asked():
    rows = [{"question": f"q{i}", "answer": "a", "value": "Lima", "attribute": "city", "entity": "p0"} for i in range(9)]
    rows.append({"question": "q", "answer": "a", "value": "Oslo", "attribute": "city", "entity": "p1"})
    pool = [Row.build(row) for row in rows]
    assert chance_level([pool[0]], pool).level == pytest.approx(0.5)
