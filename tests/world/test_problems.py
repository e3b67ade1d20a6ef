"""Embedded problems: the same data each time, and something to forget in each."""

from __future__ import annotations

import pytest
import torch

from efface.errors import InputError
from efface.world.problems import PROBLEMS, embedded_problem


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_problem_is_whole_and_repeats_itself(name):
    first, second = embedded_problem(name), embedded_problem(name)
    assert first.name == name
    assert 10 <= len(first.forget_rows()) < len(first.train) / 2
    assert torch.equal(first.train.x, second.train.x)
    assert (first.forget_rows() == second.forget_rows()).all()
    state = torch.random.get_rng_state()
    one, other, third = first.make_model(0), second.make_model(0), first.make_model(1)
    assert torch.equal(state, torch.random.get_rng_state())
    weights = [next(net.parameters()) for net in (one, other, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    outputs = one(first.train.x[:3])
    assert outputs.shape == ((3,) if first.task == "regression" else (3, first.num_classes))


def test_rows_of_certified_removal_have_length_at_most_one():
    problem = embedded_problem("breast_cancer")
    assert float(problem.train.x.norm(dim=1).max()) <= 1 + 1e-6


def test_unknown_name_lists_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'digits'"):
        embedded_problem("digit")
