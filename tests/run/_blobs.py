"""A problem that trains in a second, its rows, and how nets are compared."""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn
from torch.utils.data import TensorDataset

PROBLEM = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from efface import NetTraining, Problem

def rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    return TensorDataset(torch.randn(count, 4, generator=generator) + 2 * nn.functional.one_hot(y, 4), y)

def problem():
    return Problem(
        task="classification",
        make_model=lambda seed: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)),
        train=rows(90, 0),
        test=rows(45, 1),
        forget=lambda x, y: int(y) == 2,
        training=NetTraining(epochs=15, learning_rate=0.02, batch_size=16),
        name="blobs",
    )
"""


def blobs(count: int = 90, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(count) % 3
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) + 2 * nn.functional.one_hot(y, 4), y


X, Y = blobs()
FORGET, RETAIN = TensorDataset(X[Y == 2], Y[Y == 2]), TensorDataset(X[Y != 2], Y[Y != 2])


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in net.state_dict().values()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def frame(rows: torch.Tensor) -> pd.DataFrame:
    return pd.DataFrame({**{f"x{i}": X[rows, i].numpy() for i in range(4)}, "y": Y[rows].numpy()})


class LightningModule(nn.Module):
    """Stands for Lightning's class, which is told by its name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.metric = nn.Identity()
