"""A small classification problem whose models are made by hand, so that every figure is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from efface.data.net_sets import as_rows
from efface.data.problem import Problem


class Table(nn.Module):
    """A net whose logits are its input times a fixed matrix; class k is seen in column k."""

    def __init__(self, scale: float = 4.0, forgotten: int | None = None) -> None:
        super().__init__()
        weight = scale * torch.eye(3)
        if forgotten is not None:
            weight[forgotten] = -scale
        self.head = nn.Linear(3, 3, bias=False)
        self.head.weight.data = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


@pytest.fixture(scope="session")
def make_table():
    return Table


@pytest.fixture(scope="session")
def problem() -> Problem:
    """150 training and 90 test rows of three classes in equal parts; class 0 must go."""
    rng = np.random.default_rng(0)

    def rows(count: int):
        labels = np.arange(count) % 3
        x = np.eye(3)[labels] + 0.1 * rng.normal(size=(count, 3))
        return as_rows((x, labels))

    return Problem(
        task="classification",
        make_model=lambda seed: Table(scale=0.1 * (seed + 1)),
        train=rows(150),
        test=rows(90),
        forget=lambda x, y: int(y) == 0,
        class_names=("red", "green", "blue"),
    )
