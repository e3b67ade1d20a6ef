"""The baseline for nets: training loops in plain PyTorch, as they are commonly written. Nothing here imports efface.

Rows lie in two tensors and are shuffled by a seeded permutation per epoch; a batch is indexed out of them. A step is zero_grad,
forward, cross entropy, backward, an Adam step, and the loss as a number for the log. There is no device, precision, schedule,
mask, callback or check that the loss is finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Rows", "batches", "gradients_one_by_one", "plain_neg_grad_plus", "plain_training"]

Rows = tuple[Tensor, Tensor]
"""Inputs and class numbers, a row of each per item."""


def batches(rows: Rows, batch_size: int, generator: torch.Generator) -> Iterator[Rows]:
    """Yield the batches of one epoch in a new order."""
    x, y = rows
    for chosen in torch.randperm(len(x), generator=generator).split(batch_size):
        yield x[chosen], y[chosen]


def plain_training(net: nn.Module, rows: Rows, *, epochs: int, learning_rate: float, batch_size: int, seed: int) -> list[float]:
    """Train in place on the cross entropy and return the mean loss of every epoch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    means = []
    net.train()
    for _ in range(epochs):
        total, count = 0.0, 0
        for x, y in batches(rows, batch_size, generator):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            total, count = total + loss.item(), count + 1
        means.append(total / count)
    return means


def plain_neg_grad_plus(
    net: nn.Module,
    rows: tuple[Rows, Rows],
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seeds: tuple[int, int],
    alpha: float,
) -> list[float]:
    """Descend on ``alpha`` times the loss of the retain rows less the rest of it on the forget rows, ``rows`` being both."""
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    retain, forget = (torch.Generator().manual_seed(seed) for seed in seeds)
    means = []
    net.train()
    for _ in range(epochs):
        total, count = 0.0, 0
        others = _again_and_again(lambda: batches(rows[1], batch_size, forget))
        for x, y in batches(rows[0], batch_size, retain):
            forget_x, forget_y = next(others)
            optimizer.zero_grad()
            loss = alpha * F.cross_entropy(net(x), y) - (1 - alpha) * F.cross_entropy(net(forget_x), forget_y)
            loss.backward()
            optimizer.step()
            total, count = total + loss.item(), count + 1
        means.append(total / count)
    return means


def _again_and_again(epoch: Callable[[], Iterator[Rows]]) -> Iterator[Rows]:
    while True:
        yield from epoch()


def gradients_one_by_one(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return one gradient per row, (B, *shape) by parameter name, with a forward and a backward pass for every row."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    rows = []
    for index in range(len(x)):
        loss = F.cross_entropy(net(x[index : index + 1]), y[index : index + 1])
        rows.append(torch.autograd.grad(loss, parameters))
    return {name: torch.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
