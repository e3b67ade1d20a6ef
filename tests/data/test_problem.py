"""Which rows a problem chooses, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from efface.data.problem import NetTraining, Problem
from efface.errors import InputError

ROWS = TensorDataset(torch.arange(6.0)[:, None], torch.tensor([0, 1, 2, 0, 1, 2]))
TEST = TensorDataset(torch.arange(3.0)[:, None], torch.tensor([2, 0, 1]))


def problem(forget, **changes) -> Problem:
    return Problem(
        **{
            "task": "classification",
            "make_model": lambda seed: nn.Linear(1, 3),
            "train": ROWS,
            "test": TEST,
            "forget": forget,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("forget", "rows"),
    [
        ([4, 1], [1, 4]),
        (np.array([True, False, False, True, False, False]), [0, 3]),
        (lambda _, y: int(y) == 2, [2, 5]),
    ],
)
def test_chosen_rows(forget, rows):
    made = problem(forget)
    assert made.forget_rows().tolist() == rows
    assert sorted([*made.forget_rows(), *made.retain_rows()]) == list(range(6))


def test_a_function_chooses_test_rows_too():
    assert problem(lambda _, y: int(y) == 2).test_forget_rows().tolist() == [0]
    assert problem([0]).test_forget_rows() is None
    assert problem([0], test_forget=[2]).test_forget_rows().tolist() == [2]


@pytest.mark.parametrize(
    ("forget", "message"),
    [
        ([0, 6], "1 row numbers that do not exist, such as 6"),
        ([-1], "do not exist, such as -1"),
        ([1, 1], "names 1 rows twice"),
        ([True, False], "has 2 entries for 6 rows"),
        ([0.5], "holds float64 values"),
        ([[1, 2]], "has 2 dimensions"),
        ([], "chooses none of the 6 rows"),
        (lambda *_: False, "chooses none of the 6 rows"),
        (list(range(6)), "All 6 training rows must go"),
    ],
)
def test_bad_choices(forget, message):
    with pytest.raises(InputError, match=message):
        problem(forget).forget_rows()


def test_a_function_needs_labels():
    with pytest.raises(InputError, match="no pair of input and label"):
        problem(lambda x, y: True, train=[torch.ones(1)] * 6).forget_rows()


def test_bad_problems():
    with pytest.raises(InputError, match="The task is 'ranking'"):
        problem([0], task="ranking")
    with pytest.raises(InputError, match="watches a validation set"):
        problem([0], training=NetTraining(keep="best"))
    with pytest.raises(InputError, match="train_as_tested has 3 rows and train has 6"):
        problem([0], train_as_tested=TEST)
