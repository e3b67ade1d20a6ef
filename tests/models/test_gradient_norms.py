"""Gradient norms: their size, who has a part in them, and that nothing is left behind."""

from __future__ import annotations

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model

from efface.data.collate import collate
from efface.data.items import ScoreItem
from efface.models.gradient_norms import gradient_norm, tracking_all
from efface.models.language_model import LocalModel

ITEMS = [
    ScoreItem("a", "Ada Bell was born in Lisbon.", "Where was Ada Bell born?"),
    ScoreItem("b", "By the sea.", "What does Tomas Ruiz write?"),
    ScoreItem("c", "Her mother, a teacher of music, taught Mina Okoro.", "Who taught Mina Okoro?"),
]


def by_hand(model, local, item, *, drop):
    """The loss of one row through the model's own labels, differentiated by the ordinary ``backward``."""
    encoded = local.encode(item)
    labels = torch.full((1, len(encoded.input_ids)), -100)
    stop = encoded.answer_end - drop
    labels[0, encoded.answer_start : stop] = torch.tensor(encoded.input_ids[encoded.answer_start : stop])
    model.zero_grad()
    model(input_ids=torch.tensor([encoded.input_ids]), labels=labels).loss.backward()
    norms = [float(weight.grad.norm()) for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return norms


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_whole_gradient_of_the_answer_without_eos(build, tokenizer, family):
    model = build(family)
    local = LocalModel(model, tokenizer, "plain")
    for item, norm in zip(ITEMS, local.gradient_norms(ITEMS), strict=True):
        parts = by_hand(model, local, item, drop=1)
        assert norm == pytest.approx(math.sqrt(sum(part**2 for part in parts)), rel=1e-4)


def test_the_published_form_is_a_mean_over_tensors(build, tokenizer):
    model = build("llama")
    local = LocalModel(model, tokenizer, "plain", variant="openunlearning")
    parts = by_hand(model, local, ITEMS[0], drop=1)
    assert local.gradient_norms(ITEMS[:1]) == pytest.approx([sum(parts) / len(parts)], rel=1e-4)


def test_the_published_form_lets_dropout_act_and_the_strict_one_does_not(build, tokenizer):
    changes = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}
    with_dropout, without = build("gpt2", **changes), build("gpt2")
    for variant, differs in (("strict", False), ("openunlearning", True)):
        first = LocalModel(with_dropout, tokenizer, "plain", variant=variant).gradient_norms(ITEMS)
        again = LocalModel(with_dropout, tokenizer, "plain", variant=variant).gradient_norms(ITEMS)
        plain = LocalModel(without, tokenizer, "plain", variant=variant).gradient_norms(ITEMS)
        assert first == again
        assert (first != pytest.approx(plain)) is differs


def test_other_rows_have_no_part_in_a_norm(build, tokenizer):
    local = LocalModel(build("llama"), tokenizer, "plain")
    together = local.gradient_norms([*ITEMS, ITEMS[0]])
    alone = [local.gradient_norms([item])[0] for item in [*ITEMS, ITEMS[0]]]
    assert together == alone


def test_a_row_without_a_token_to_judge_has_no_norm(build, tokenizer):
    empty, normal = LocalModel(build("llama"), tokenizer, "plain").gradient_norms(
        [ScoreItem("e", "", "Who?", "completion"), ITEMS[0]]
    )
    assert empty is None
    assert normal is not None


def test_nothing_is_left_behind(build, tokenizer):
    model = get_peft_model(build("llama"), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.eval()
    trained = [weight.requires_grad for weight in model.parameters()]
    draws = torch.random.get_rng_state()
    norms = LocalModel(model, tokenizer, "plain", variant="openunlearning").gradient_norms(ITEMS)
    assert all(norm > 0 for norm in norms)
    assert [weight.requires_grad for weight in model.parameters()] == trained
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), draws)


def test_other_norms_and_the_bound_between_them(build, tokenizer, sequences):
    model = build("llama")
    batch = collate([sequences[0]], pad_id=1)
    with torch.no_grad(), tracking_all(model) as weights:
        one, two = (gradient_norm(model, batch, weights, tokens=3, p=p) for p in (1.0, 2.0))
    assert one > two > 0
