"""One forward pass says the same whatever the padding, the batch and the positions asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efface.data.collate import IGNORE, collate
from efface.data.encoding import Encoded
from efface.models.scoring import answer_scores, gather_answers

FAMILIES = ["llama", "gpt2", "gemma2", "opt", "bloom", "mamba"]


@pytest.fixture(params=FAMILIES)
def family_model(request, build):
    extra = {"n_head": 4, "n_layer": 2} if request.param == "bloom" else {}
    return request.param, build(request.param, **extra)


def alone(model, sequences):
    with torch.no_grad():
        return torch.cat([answer_scores(model, collate([s], pad_id=1)).logp for s in sequences])


def test_a_batch_scores_like_single_rows(family_model, sequences):
    _, model = family_model
    with torch.no_grad():
        together = answer_scores(model, collate(sequences, pad_id=1)).logp
    torch.testing.assert_close(together, alone(model, sequences), atol=2e-5, rtol=1e-5)


def test_left_padding_scores_like_right_padding(family_model, sequences):
    _, model = family_model
    with torch.no_grad():
        left = answer_scores(model, collate(sequences, pad_id=1, side="left")).logp
    torch.testing.assert_close(left, alone(model, sequences), atol=2e-5, rtol=1e-5)


def test_kept_positions_equal_full_logits(family_model, sequences):
    _, model = family_model
    batch = collate(sequences, pad_id=1)
    with torch.no_grad():
        kept = answer_scores(model, batch)
        full = gather_answers(model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits, batch.labels)
        dense = answer_scores(model, batch, dense=True)
    torch.testing.assert_close(kept.logits, full.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dense.logits, full.logits, atol=1e-6, rtol=1e-6)
    assert torch.equal(kept.targets, full.targets)
    assert torch.equal(kept.row, full.row)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_head_is_given_the_answers_own_positions(build, sequences, family):
    model = build(family)
    seen = []
    handle = model.get_output_embeddings().register_forward_hook(lambda _, args, output: seen.append(tuple(output.shape[:2])))
    batch = collate(sequences, pad_id=1)
    kept = answer_scores(model, batch)
    handle.remove()
    assert seen == [(1, sum(s.answer_length for s in sequences))]
    assert len({s.answer_start for s in sequences}) > 1  # else the union over the rows would hold no more than the answers
    full = gather_answers(model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits, batch.labels)
    weights = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(kept.logp.square().sum(), weights)
    theirs = torch.autograd.grad(full.logp.square().sum(), weights)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * float(other.abs().max()) + 1e-6, rtol=1e-3)


def test_a_model_that_must_see_every_position_is_run_as_it_wants(build, sequences):
    model = build("llama")
    batch = collate(sequences, pad_id=1)
    rows = batch.num_rows
    with torch.no_grad():
        plain = answer_scores(model, batch)
    forward, calls = model.forward, []

    def stubborn(*args, logits_to_keep=0, **kwargs):
        output = forward(*args, logits_to_keep=logits_to_keep, **kwargs)
        calls.append(output.logits.shape[0])
        if output.logits.shape[0] != rows:
            output.logits = output.logits.transpose(0, 1)  # something the answers' positions cannot be read from
        return output

    model.forward = stubborn
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(answer_scores(model, batch).logits, plain.logits, atol=1e-6, rtol=1e-6)
    assert calls == [1, rows, rows]  # tried once, then left alone


def test_groups_of_rows_are_the_rows(build, sequences):
    model = build("llama")
    scores = answer_scores(model, collate(sequences, pad_id=1), layers=(0,))
    first, second = scores.split_rows([2, len(sequences) - 2])
    assert first.num_rows == 2
    assert first.keys + second.keys == scores.keys
    assert first.row_ids + second.row_ids == scores.row_ids
    assert torch.equal(torch.cat([first.logits, second.logits]), scores.logits)
    assert torch.equal(torch.cat([first.targets, second.targets]), scores.targets)
    assert torch.equal(torch.cat([first.row, second.row + 2]), scores.row)
    assert torch.equal(torch.cat([first.hidden[0], second.hidden[0]]), scores.hidden[0])
    assert first.lengths.tolist() + second.lengths.tolist() == [s.answer_length for s in sequences]
    parts = torch.cat([first.sequence_sum(first.logp), second.sequence_sum(second.logp)])
    torch.testing.assert_close(parts, scores.sequence_sum(scores.logp))
    assert scores.split_rows([len(sequences)])[0] is scores


def test_scores_against_a_slow_loop(build, sequences):
    model = build("llama")
    with torch.no_grad():
        scores = answer_scores(model, collate(sequences, pad_id=1))
        sums = []
        for sequence in sequences:
            logits = model(torch.tensor([sequence.input_ids])).logits[0].double()
            logp = logits - logits.logsumexp(-1, keepdim=True)
            sums.append(sum(logp[t - 1, sequence.input_ids[t]] for t in range(sequence.answer_start, sequence.answer_end)))
    torch.testing.assert_close(scores.sequence_sum(scores.logp).double(), torch.stack(sums), atol=1e-4, rtol=1e-5)
    assert scores.lengths.tolist() == [s.answer_length for s in sequences]


def test_pad_id_never_matters(build, sequences):
    model = build("llama")
    with torch.no_grad():
        one = answer_scores(model, collate(sequences, pad_id=1)).logp
        other = answer_scores(model, collate(sequences, pad_id=17)).logp
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_answers_may_hold_the_pad_token(build):
    model = build("llama")
    sequence = Encoded((5, 1, 7, 1, 9, 1), 2, 6)
    batch = collate([sequence, Encoded((5, 6, 7, 8, 9, 10, 11, 12), 3, 8)], pad_id=1)
    assert batch.attention_mask[0].tolist() == [1] * 6 + [0, 0]
    assert (batch.labels[0] != IGNORE).sum() == 4
    with torch.no_grad():
        torch.testing.assert_close(answer_scores(model, batch).logp[:4], alone(model, [sequence]), atol=1e-5, rtol=1e-5)


def test_a_prompt_without_answer_gives_no_scores(build):
    model = build("llama")
    with torch.no_grad():
        scores = answer_scores(model, collate([Encoded((3, 4), 2, 2), Encoded((3, 4, 5), 1, 3)], pad_id=1))
    assert scores.lengths.tolist() == [0, 2]
    assert torch.isfinite(scores.sequence_mean(scores.logp)).all()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_and_batch_size_never_matter(build, data):
    model = build("llama")
    lengths = data.draw(st.lists(st.integers(2, 20), min_size=2, max_size=6))
    rows = [
        Encoded(
            tuple(data.draw(st.lists(st.integers(2, 300), min_size=n, max_size=n))), data.draw(st.integers(1, n - 1)), n, str(i)
        )
        for i, n in enumerate(lengths)
    ]
    order = data.draw(st.permutations(range(len(rows))))
    with torch.no_grad():
        plain = answer_scores(model, collate(rows, pad_id=1))
        mixed = answer_scores(model, collate([rows[i] for i in order], pad_id=1))
    sums, mixed_sums = plain.sequence_sum(plain.logp), mixed.sequence_sum(mixed.logp)
    torch.testing.assert_close(mixed_sums, sums[list(order)], atol=1e-4, rtol=1e-5)
