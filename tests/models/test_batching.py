from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from efface.models.batching import logit_budget, plan_batches

LENGTHS = st.lists(st.integers(1, 400), max_size=200)


@given(lengths=LENGTHS, budget=st.integers(1, 5000))
def test_every_item_once_within_the_budget(lengths, budget):
    batches = plan_batches(lengths, token_budget=budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        width = max(lengths[i] for i in batch)
        assert len(batch) == 1 or width * len(batch) <= budget


@given(lengths=LENGTHS)
def test_longest_first(lengths):
    flat = [lengths[i] for batch in plan_batches(lengths, token_budget=1000) for i in batch]
    assert flat == sorted(lengths, reverse=True)


@given(lengths=LENGTHS, rows=st.integers(1, 9))
def test_row_limit(lengths, rows):
    assert all(len(batch) <= rows for batch in plan_batches(lengths, token_budget=10**6, max_rows=rows))


def test_logits_stay_under_a_gibibyte():
    assert logit_budget(8192, vocab_size=512, bytes_per_logit=4) == 8192
    assert logit_budget(8192, vocab_size=256_000, bytes_per_logit=4) * 256_000 * 4 <= 2**30
    assert logit_budget(8192, vocab_size=10**12, bytes_per_logit=4) == 1
