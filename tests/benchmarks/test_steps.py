"""Both sides of a step compute the same loss and take the same step; tables name bound and baseline. Never a time."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from benchmarks.plain import METHODS, PlainLoop
from benchmarks.shapes import PAD, SHAPES, Shape, make_model, make_sequences
from benchmarks.steps import COMPARED, LEARNING_RATE, compare_steps, our_losses, our_settings, plain_batches, step_table
from benchmarks.timing import Ratio
from efface.train.items import UnlearningItems
from efface.train.language_model import train

SMALL = Shape("small", 97, 16, 32, 2, 2, 3, (6, 14), 0.4)


@pytest.mark.parametrize("method", COMPARED, ids=lambda method: method.plain)
def test_both_sides_compute_the_same_losses_and_weights(method):
    """Not only at the start, where the reference is the model itself, but over several steps."""
    steps = 4
    model = make_model(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # far enough from uniform that a wrong position would show
    forget, retain = (make_sequences(SMALL, 5, name=name) for name in ("forget", "retain"))
    items = UnlearningItems(forget, retain if method.retention else [])
    learning_rate = 3e-3
    plain = PlainLoop(copy.deepcopy(model), method.plain, learning_rate)
    batches = plain_batches(items, SMALL.rows)
    for _ in range(steps):
        plain.step(next(batches))

    losses, _ = our_losses(model, method, forget, retain)
    settings = our_settings(SMALL, steps=steps, rows=len(forget)).model_copy(update={"learning_rate": learning_rate})
    result = train(model, items, losses, settings, pad_id=PAD)
    last = result.history[-1].values
    assert last["loss_forget"] + last.get("loss_retain", 0.0) == pytest.approx(plain.losses[-1], rel=2e-4)
    first = result.first_step_logs
    assert first["loss_forget"] + first.get("loss_retain", 0.0) == pytest.approx(plain.losses[0], rel=1e-5, abs=1e-6)
    assert abs(plain.losses[-1] - plain.losses[0]) > 1e-3
    for (name, ours), theirs in zip(model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3, msg=name)


def test_only_methods_that_read_a_reference_keep_a_copy():
    model = make_model(SMALL)
    kept = {name: PlainLoop(copy.deepcopy(model), name, LEARNING_RATE)._frozen is not None for name in METHODS}
    assert kept == {"grad_diff": False, "npo_forget": True, "npo": True, "npo_kl": True}


def test_bounds_are_those_of_counted_forward_passes():
    assert [round(method.bound, 2) for method in COMPARED] == [1.0, 1.33, 1.17, 1.33]
    shape = replace(SMALL, prompt_share=0.5)
    parameters = 10_000
    head = shape.vocab_size * shape.hidden_size
    expected = (4 * parameters) / (3 * (parameters - head / 2))
    assert COMPARED[1].bound_with_logits(shape, parameters) == pytest.approx(expected)


def test_a_comparison_fills_a_table():
    compared = [compare_steps(SMALL, method, rounds=2, block=1) for method in COMPARED]
    for entry in compared:
        assert entry.losses[0] == pytest.approx(entry.losses[1], rel=1e-4, abs=1e-6)
        assert entry.wall.rounds == entry.cpu.rounds == 2
        assert (entry.reference_seconds > 0) == METHODS[entry.method.plain].needs_frozen
    assert [entry.sequences for entry in compared] == [0, 3, 3, 6]
    table = step_table(SMALL, compared)
    text = table.text()
    assert len(table.rows) == len(COMPARED)
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert "Baseline: a frozen copy" in text
    assert "1.33 (4/3)" in text
    assert [row["method"] for row in table.as_dict()["rows"]] == [method.plain for method in COMPARED]


def test_sequences_are_functions_of_their_arguments():
    shape = SHAPES["tiny"]
    assert make_sequences(shape, 3, name="forget") == make_sequences(shape, 5, name="forget")[:3]
    assert make_sequences(shape, 3, name="forget") != make_sequences(shape, 3, name="retain")
    assert all(item.answer_length / item.answer_end == pytest.approx(0.5, abs=0.05) for item in make_sequences(shape, 9, name="x"))


def test_ratios_pair_the_rounds():
    ratio = Ratio.of([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds) == (2.0, 1.0, 3.0, 3)
    assert str(ratio) == "2.00 (1.00-3.00)"
