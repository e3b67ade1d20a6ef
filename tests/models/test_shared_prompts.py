"""Continuations of one prompt get the rows they have alone, while the prompt runs once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from efface.data.encoding import Encoded
from efface.data.items import ScoreItem
from efface.models.language_model import LocalModel
from efface.models.shared_prompts import can_share_prompts, find_prompts

QUESTIONS = ["Where was Ada Bell born?", "Who taught Mina Okoro, and for how many long years?", "What?"]
ANSWERS = ["In Lisbon.", "Ada Bell was born in Lisbon, by the sea.", "No", "Her mother, a teacher of music, taught her.", ""]
SHARING = {"llama": True, "gpt2": True, "opt": True, "gemma2": False, "mamba": False}


def items(answers=ANSWERS):
    return [ScoreItem(f"{i}", answer, question) for question in QUESTIONS for i, answer in enumerate(answers)]


def same(found, expected):
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own.targets, other.targets)
        np.testing.assert_allclose(own.logp, other.logp, atol=3e-5, rtol=1e-5)
        np.testing.assert_allclose(own.mean, other.mean, atol=3e-5, rtol=1e-4)
        np.testing.assert_array_equal(own.hit, other.hit)
        assert (own.text, own.ends_in_eos) == (other.text, other.ends_in_eos)


def one_by_one(model, tokenizer, wanted):
    return [LocalModel(model, tokenizer).score([item])[0] for item in wanted]


@pytest.mark.parametrize("family", SHARING)
def test_rows_are_those_of_whole_sequences(build, tokenizer, family):
    model = build(family)
    local = LocalModel(model, tokenizer)
    same(local.score(items()), one_by_one(model, tokenizer, items()))
    tokens = sum(len(local.encode(item).input_ids) for item in items())
    # Windows and states are no plain cache: such a model reads every sequence whole.
    assert can_share_prompts(model, vocab_size=len(tokenizer)) is SHARING[family]
    assert (local.stats.tokens < 0.8 * tokens) is SHARING[family]


def test_lora_takes_part_and_can_be_switched_off(build, tokenizer):
    model = get_peft_model(build("llama"), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)).eval()
    local = LocalModel(model, tokenizer)
    same(local.score(items()), one_by_one(model, tokenizer, items()))
    bare = local.bare()
    same(bare.score(items()), one_by_one(build("llama"), tokenizer, items()))
    assert not np.allclose(bare.score(items())[0].logp, local.score(items())[0].logp)


def test_a_small_budget_makes_several_batches_of_the_same_rows(build, tokenizer):
    model = build("llama")
    small = LocalModel(model, tokenizer, token_budget=70)
    same(small.score(items()), LocalModel(model, tokenizer).score(items()))
    assert small.stats.forward_passes > 4


def test_a_published_mask_of_tokens_is_left_to_whole_sequences(build, tokenizer):
    published = LocalModel(build("llama"), tokenizer, variant="openunlearning")  # pad is EOS: real EOS tokens are hidden
    published.score(items())
    assert published.stats.tokens == sum(len(published.encode(item).input_ids) for item in items())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(items()))), count=st.integers(2, len(items())))
def test_any_selection_in_any_order(build, tokenizer, order, count):
    model = build("llama")
    wanted = [items()[i] for i in order[:count]]
    same(LocalModel(model, tokenizer).score(wanted), LocalModel(model, tokenizer, token_budget=1).score(wanted))


def test_what_is_grouped():
    def sequence(prompt, answer):
        return Encoded((*prompt, *answer), len(prompt), len(prompt) + len(answer))

    long, short = tuple(range(2, 22)), (5, 6, 7)
    found = find_prompts(
        [sequence(short, (1, 2)), sequence(long, (3,)), sequence(short, (4,)), sequence(long, (8, 9)), sequence((1,), (2,))]
    )
    assert found.groups == ((1, 3), (0, 2))
    assert found.alone == (4,)
    # Prompts of a few tokens before long answers are not worth the trouble.
    assert find_prompts([sequence(short, tuple(range(60))), sequence(short, tuple(range(50)))]).groups == ()
    assert find_prompts([]).alone == ()
