"""Spans, BLEU, (n, p)-extraction, fluency: on numbers made by hand and against slow definitions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from _lookup import token_row
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.evals.metrics.answers import Rouge
from efface.evals.metrics.base import Truth
from efface.evals.metrics.fluency import Distinct, RepetitionRate, distinct_share
from efface.evals.metrics.memorization import (
    EXTRACTION_TOKENS,
    Bleu,
    ExtractionProbability,
    LongestVerbatim,
    at_least_once,
    bleu,
    continuation_probability,
    longest_near_verbatim,
    longest_verbatim,
    samples_needed,
    top_k_probability,
)
from efface.evals.metrics.tokens import exact_memorization, extraction_strength

LETTERS = st.lists(st.sampled_from("abc"), max_size=5)


def distance(first, second):
    """Edit distance of two stretches and the most matches a cheapest-or-dearer alignment within the budget can have."""
    table = {(i, j): i + j for i in range(len(first) + 1) for j in range(len(second) + 1) if not i or not j}
    for i, j in product(range(1, len(first) + 1), range(1, len(second) + 1)):
        change = table[i - 1, j - 1] + (first[i - 1] != second[j - 1])
        table[i, j] = min(change, table[i - 1, j] + 1, table[i, j - 1] + 1)
    return table[len(first), len(second)]


def test_spans_by_hand():
    reference = ["the", "cat", "sat", "on", "the", "mat", "today"]
    assert longest_verbatim(["a", "cat", "sat", "on", "a", "mat"], reference) == 3
    assert longest_near_verbatim(["a", "cat", "sat", "on", "a", "mat"], reference, edits=1) == 4  # cat sat on [the] mat
    assert longest_near_verbatim(["the", "cat", "on", "the", "mat"], reference, edits=1) == 5  # sat left out
    assert longest_near_verbatim(["the", "cat", "then", "sat", "on", "the", "mat"], reference, edits=1) == 6  # then added
    assert longest_near_verbatim(["dogs", "run"], reference, edits=3) == 0
    assert longest_verbatim([], reference) == longest_verbatim(reference, []) == 0


@settings(max_examples=30)
@given(LETTERS, LETTERS, st.integers(0, 2))
def test_near_verbatim_is_what_a_search_over_all_stretches_finds(written, reference, edits):
    found = longest_near_verbatim(written, reference, edits=edits)
    assert found == longest_near_verbatim(reference, written, edits=edits)
    assert longest_verbatim(written, reference) <= found <= min(len(written), len(reference))
    if edits:
        assert longest_near_verbatim(written, reference, edits=edits - 1) <= found
    stretches = [
        (written[a:b], reference[c:d])
        for a, b in product(range(len(written) + 1), repeat=2)
        for c, d in product(range(len(reference) + 1), repeat=2)
        if a < b and c < d
    ]
    # a stretch pair within the budget shares at least its longer side less the budget
    bound = max((max(len(x), len(y)) - edits for x, y in stretches if distance(x, y) <= edits), default=0)
    assert found >= bound


def test_verbatim_by_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(40):
        first, second = ([str(x) for x in rng.integers(0, 3, 8)] for _ in range(2))
        runs = [first[a:b] for a, b in product(range(9), repeat=2) if a < b]
        longest = max((len(run) for run in runs if any(second[i : i + len(run)] == run for i in range(8))), default=0)
        assert longest_verbatim(first, second) == longest


def test_bleu_by_hand():
    assert bleu("the cat sat on the mat", "The cat sat on the mat.") == pytest.approx(1.0)
    assert bleu("dogs run", "the cat sat") == 0.0
    assert bleu("", "the cat sat") == 0.0
    assert bleu("the cat", "") is None
    # precisions of "a b c x" against "a b c d": 3/4, then raised by one: 3/4, 2/3, 1/2; no brevity penalty
    assert bleu("a b c x", "a b c d") == pytest.approx((3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu("\u5317\u4eac\u5e02\u4e2d\u5fc3", "\u5317\u4eac\u5e02\u4e2d\u5fc3") == pytest.approx(1.0)


def test_extraction_by_hand():
    row = token_row([math.log(0.5), math.log(0.4), math.log(0.9)], hit=[True, False, True])
    assert continuation_probability(row) == pytest.approx(0.2)  # EOS is not asked for
    assert continuation_probability(row, tokens=1) == pytest.approx(0.5)
    assert continuation_probability(row, decoding="greedy") == 0
    assert continuation_probability(row, tokens=1, decoding="greedy") == 1
    assert at_least_once(0.2, 3) == pytest.approx(1 - 0.8**3)
    assert at_least_once(0, 5) == 0
    assert at_least_once(1, 5) == 1
    assert at_least_once(1e-300, 100) == pytest.approx(1e-298)
    assert samples_needed(0.2, 0.5) == 4  # 1 - 0.8^3 = 0.488, 1 - 0.8^4 = 0.590
    assert samples_needed(0, 0.5) == math.inf
    assert samples_needed(1, 0.5) == 1
    long = token_row([math.log(0.5)] * (EXTRACTION_TOKENS + 20), eos=False)
    assert ExtractionProbability.item(long) == pytest.approx(at_least_once(0.5**EXTRACTION_TOKENS, 100))


@given(st.floats(1e-6, 0.999), st.floats(0.01, 0.99))
def test_the_samples_needed_are_just_enough(probability, confidence):
    needed = samples_needed(probability, confidence)
    assert at_least_once(probability, needed) >= confidence - 1e-9
    assert needed == 1 or at_least_once(probability, needed - 1) < confidence + 1e-9


def test_top_k_bounds_hold_the_true_value():
    rng = np.random.default_rng(1)
    for _ in range(30):
        logits = rng.normal(size=(3, 8)) * 2
        targets = rng.integers(0, 8, 3)
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        own = chances[np.arange(3), targets]
        ranks = (logits > logits[np.arange(3), targets][:, None]).sum(axis=1)
        row = token_row(np.log(own), hit=ranks == 0, eos=False)
        row = type(row)(row.targets, row.logp, ranks.astype(np.int32), row.mean, row.var, row.hit, False, "")
        for k in (1, 3, 8):
            kept = np.sort(chances, axis=1)[:, ::-1][:, :k].sum(axis=1)
            true = float(np.prod(own / kept)) if (ranks < k).all() else 0.0
            bounds = top_k_probability(row, k)
            assert bounds.low - 1e-6 <= true <= bounds.high + 1e-6


def test_empty_and_one_token_answers():
    empty, single, wrong = token_row([]), token_row([-0.1], eos=False), token_row([-3.0], eos=False)
    for metric in (extraction_strength, exact_memorization):
        assert metric(empty) is None
        assert (metric(single), metric(wrong)) == (1.0, 0.0)
    assert extraction_strength(empty, variant="openunlearning") == 0.0
    only_eos = token_row([-0.1])
    assert extraction_strength(only_eos) is exact_memorization(only_eos) is ExtractionProbability.item(only_eos) is None
    two = token_row([-3.0, -0.1], eos=False)  # the published code judges the first token alone, and floors it at 1
    assert extraction_strength(two, variant="openunlearning") == 1.0
    assert exact_memorization(two, variant="openunlearning") == 0.0
    assert top_k_probability(empty, 5) is continuation_probability(empty) is None
    assert top_k_probability(wrong, 1).high == 0.0


def test_repetition_and_distinct_pairs():
    assert RepetitionRate.item("a b c d a b c d a b c d", Truth()) == pytest.approx(1 - 4 / 9)
    assert RepetitionRate.item("a b c", Truth()) is None
    assert Distinct.item("a a a a", Truth()) == pytest.approx(1 / 3)
    assert Distinct.item("", Truth()) is None
    assert distinct_share("abcd", 2) == 1.0


def test_text_without_a_reference_is_left_out_not_scored():
    for metric in (LongestVerbatim, Bleu, Rouge):
        assert metric.item("something", Truth("...")) is None
        assert metric.item("", Truth("some words here")) == 0.0
