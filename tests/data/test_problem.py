"""Which rows a problem chooses, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from efface.data.net_sets import as_rows
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
        ("rows", "forget is 'rows'"),
        (lambda x: True, r"failed on row 0 \(TypeError"),
        (lambda x, y: x.nothing, r"failed on row 0 \(AttributeError"),
        (lambda x, y: np.array([True, False]), r"failed on row 0 \(ValueError"),
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


def test_a_function_sees_what_the_data_set_gives():
    rows = as_rows([(np.zeros(1), label) for label in (0, 1, 2, 0, 1, 2)])
    assert problem(lambda _, y: y in {1}, train=rows).forget_rows().tolist() == [1, 4]


def test_a_recipe_may_be_a_mapping():
    assert problem([0], training={"epochs": 3}).training == NetTraining(epochs=3)
    with pytest.raises(InputError, match=r"unknown key 'epoch' \(did you mean 'epochs'\?\)"):
        problem([0], training={"epoch": 3})
    with pytest.raises(InputError, match=r"epochs: Input should be"):
        NetTraining(epochs=0)


def test_bad_problems():
    with pytest.raises(InputError, match="test holds no rows"):
        problem([0], test=as_rows((np.zeros((0, 1)), np.zeros(0))))
    frame = pd.DataFrame({"a": [0.0, 1.0], "b": [2.0, 3.0]})
    with pytest.raises(InputError, match="test has its columns in another order than train: b stands for a"):
        problem([0], train=as_rows((frame, [0, 1])), test=as_rows((frame[["b", "a"]], [0, 1])))
    with pytest.raises(InputError, match="The task is 'ranking'"):
        problem([0], task="ranking")
    with pytest.raises(InputError, match="watches a validation set"):
        problem([0], training=NetTraining(keep="best"))
    with pytest.raises(InputError, match="train_as_tested has 3 rows and train has 6"):
        problem([0], train_as_tested=TEST)
