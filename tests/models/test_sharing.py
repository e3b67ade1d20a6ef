"""Answers of one token after the same prompt are read off one sequence, and are the same figures as when each is run alone."""

from __future__ import annotations

import numpy as np
import pytest

from efface.adapters.choice import make_adapter
from efface.data.encoding import Encoded
from efface.data.items import ScoreItem
from efface.models.language_model import LocalModel
from efface.models.sharing import share_prompts

PROMPTS = [
    f"Which is it, {'really, ' * length}number {length}?\nA. one\nB. two\nC. three\nD. four\nAnswer:" for length in (0, 3, 7, 1)
]


def letters():
    return [
        ScoreItem(f"{n}-{letter}", f" {letter}", prompt, form="completion") for n, prompt in enumerate(PROMPTS) for letter in "ABCD"
    ]


def mixed():
    long = [ScoreItem("long", " two and a half", PROMPTS[1], form="completion"), ScoreItem("qa", "It is two.", "Which?")]
    return [*letters()[:6], *long, *letters()[6:]]


def alone(local, items):
    return [local.score([item])[0] for item in items]


def assert_equal(shared, separate):
    for one, other in zip(shared, separate, strict=True):
        np.testing.assert_array_equal(one.targets, other.targets)
        np.testing.assert_allclose(one.logp, other.logp, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(one.rank, other.rank)
        np.testing.assert_array_equal(one.hit, other.hit)
        np.testing.assert_allclose(one.mean, other.mean, atol=1e-5, rtol=1e-4)
        assert (one.text, one.ends_in_eos) == (other.text, other.ends_in_eos)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mamba"])
@pytest.mark.parametrize("items", [letters, mixed])
def test_shared_and_separate_scoring_agree(build, tokenizer, family, items):
    model = build(family)
    asked = items()
    assert_equal(LocalModel(model, tokenizer).score(asked), alone(LocalModel(model, tokenizer), asked))


TEXTS = ["two", "a good deal more than two", "two and a half", "none of these, whatever else may be said of it"]


def long_answers(prompts=PROMPTS):
    return [ScoreItem(f"{n}-{text}", f" {text}", prompt, form="completion") for n, prompt in enumerate(prompts) for text in TEXTS]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt", "mamba", "qwen2"])
def test_a_kept_prompt_gives_the_same_rows(build, tokenizer, family):
    model = build(family)
    together = LocalModel(model, tokenizer)
    rows = together.score([*long_answers(), *letters()])
    separate = LocalModel(model, tokenizer)
    assert_equal(rows, alone(separate, [*long_answers(), *letters()]))
    # gemma2's window and mamba's state are no plain keys and values of all tokens
    assert together._can_share_prompts() is (family not in ("mamba", "gemma2"))
    if together._can_share_prompts():
        assert together.stats.tokens < 0.6 * separate.stats.tokens


def test_a_kept_prompt_does_not_depend_on_the_batch(build, tokenizer):
    model = build("llama")
    one_by_one = LocalModel(model, tokenizer, token_budget=1)
    rows = one_by_one.score(long_answers())
    assert_equal(LocalModel(model, tokenizer).score(long_answers()), rows)
    progress = []
    LocalModel(model, tokenizer).score(long_answers(), progress=lambda done, total: progress.append((done, total)))
    assert progress[-1] == (len(TEXTS) * len(PROMPTS), len(TEXTS) * len(PROMPTS))


@pytest.mark.parametrize("name", ["lora", "grun"])
def test_a_kept_prompt_and_an_adapter(build, tokenizer, name):
    model = make_adapter(name).apply(build("llama"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.5)
    local = LocalModel(model.eval(), tokenizer)
    assert_equal(local.score(long_answers()), alone(local, long_answers()))
    assert local._can_share_prompts() is (name == "lora")  # edits act where a prompt ends, which a kept prompt does not show
    assert_equal(local.bare().score(long_answers()), alone(local.bare(), long_answers()))


def test_published_masks_by_id_are_not_shared(build, tokenizer):
    local = LocalModel(build("llama"), tokenizer, variant="openunlearning")  # its pad token is its EOS
    assert not local._can_share_prompts()
    assert_equal(local.score(long_answers()), alone(local, long_answers()))


def test_letters_cost_one_sequence_per_question(build, tokenizer):
    # A new line before the letter: this small tokenizer has no token for a letter with its blank.
    lines = [f"{prompt}\n" for prompt in PROMPTS]
    items = [ScoreItem(f"{n}-{letter}", letter, line, form="completion") for n, line in enumerate(lines) for letter in "ABCD"]
    together, separate = LocalModel(build("llama"), tokenizer), LocalModel(build("llama"), tokenizer)
    rows = together.score(items)
    assert_equal(rows, alone(separate, items))
    assert separate.stats.tokens == 4 * together.stats.tokens
    assert together.stats.tokens == sum(len(together.encode(item).input_ids) for item in items[::4])


@pytest.mark.parametrize("name", ["lora", "grun"])
def test_an_adapter_does_not_change_that(build, tokenizer, name):
    model = make_adapter(name).apply(build("llama"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.5)
    local = LocalModel(model.eval(), tokenizer)
    lines = [f"{prompt}\n" for prompt in PROMPTS]
    items = [ScoreItem(f"{n}-{letter}", letter, line, form="completion") for n, line in enumerate(lines) for letter in "ABCD"]
    rows = local.score(items)
    assert_equal(rows, alone(local, items))
    bare = local.bare().score(items)
    assert any(abs(float(one.logp[0] - other.logp[0])) > 1e-2 for one, other in zip(rows, bare, strict=True))


def test_what_is_shared():
    def encoded(ids, start):
        return Encoded(tuple(ids), start, len(ids))

    sequences = [
        encoded([5, 6, 7], 2),
        encoded([5, 6, 8], 2),
        encoded([5, 9, 7], 2),  # another prompt
        encoded([5, 6, 7, 8], 2),  # the same prompt, a longer answer
        encoded([5, 6, 7], 1),  # the same tokens, another border
        encoded([5, 6, 9], 2),
    ]
    runs = share_prompts(sequences)
    assert [run.positions for run in runs] == [(0, 1, 5), (2,), (3,), (4,)]
    assert runs[0].answers == ((7,), (8,), (9,))
    assert runs[2].answers == ((7, 8),)
    assert sorted(p for run in runs for p in run.positions) == list(range(len(sequences)))
