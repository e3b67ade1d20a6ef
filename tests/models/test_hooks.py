from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from efface.data.collate import collate
from efface.errors import EffaceError, InputError
from efface.models.hooks import capture_layers, decoder_layers, final_hidden, hidden_size, output_head, unwrap
from efface.models.scoring import answer_scores


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt", "gpt_neox", "bart"])
def test_layers_are_those_the_model_reports(build, family):
    model = build(family)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad(), capture_layers(model, (0, -1)) as captured:
        states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    assert len(decoder_layers(model)) == len(states) - 1
    assert captured[0].shape == (1, 4, hidden_size(model))
    torch.testing.assert_close(captured[0], states[1])


def test_captured_activations_carry_gradients(build, sequences):
    model = build("llama")
    scores = answer_scores(model, collate(sequences[:2], pad_id=1), layers=(1,))
    scores.hidden[1].square().sum().backward()
    assert decoder_layers(model)[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    model.zero_grad()


def test_activations_stand_at_the_answer_tokens_own_positions(build, sequences):
    model = build("llama")
    sequence = sequences[2]
    with torch.no_grad(), capture_layers(model, (0,)) as captured:
        model(torch.tensor([sequence.input_ids]))
    expected = captured[0][0, sequence.answer_start : sequence.answer_end]
    with torch.no_grad():
        scores = answer_scores(model, collate([sequences[4], sequence], pad_id=1), layers=(0,))
    torch.testing.assert_close(scores.hidden[0][scores.row == 1], expected, atol=1e-5, rtol=1e-5)


def test_no_layers_means_no_hooks(build):
    model = build("llama")
    with capture_layers(model, ()) as captured:
        assert not any(module._forward_hooks for module in model.modules())
    assert captured == {}


def test_hooks_are_removed_even_after_an_error(build):
    model = build("llama")
    with pytest.raises(RuntimeError, match="stop"), capture_layers(model, (0,)):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_that_is_not_there(build):
    with pytest.raises(InputError, match="layers 0 to 1"), capture_layers(build("llama"), (7,)):
        pass


def test_a_model_without_layers():
    class Odd(nn.Module):
        class config:
            num_hidden_layers = 3

        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

    with pytest.raises(InputError, match="could not be found"):
        decoder_layers(Odd())


def test_wrappers_are_seen_through(build):
    model = build("llama")
    layers = decoder_layers(model)
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"))
    assert unwrap(wrapped) is model
    assert decoder_layers(wrapped) == layers
    assert isinstance(output_head(wrapped), nn.Linear)
    assert unwrap(nn.DataParallel(wrapped)) is model


def test_final_hidden_is_what_the_head_is_given(build):
    model = build("gpt2")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), final_hidden(model) as slot:
        logits = model(ids).logits
    torch.testing.assert_close(output_head(model)(slot.value), logits)


def test_a_slot_before_the_forward_pass(build):
    with final_hidden(build("gpt2")) as slot, pytest.raises(EffaceError, match="Run the model first"):
        _ = slot.value
