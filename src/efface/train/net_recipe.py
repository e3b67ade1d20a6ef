"""Training a net by its problem's recipe: the original, the retrained, and what methods train anew."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from efface.data.net_batches import RowBatches
from efface.data.problem import NetTraining
from efface.methods.nets.base import Fitted, Turn, make_optimizer
from efface.models.activations import as_in_use, device_of, forward, on_device
from efface.models.net_losses import NetLoss
from efface.train.net import fit

__all__ = ["mean_loss", "penalised_loss", "train_recipe"]

PLATEAU = 10
"""Epochs without a lower validation loss after which the plateau scheduler divides the learning rate by ten."""


def mean_loss(net: nn.Module, dataset: Any, loss: NetLoss, *, batch_size: int = 512) -> float:
    """Return the mean loss per row of a net as it is used."""
    total = 0.0
    device = device_of(net)
    with as_in_use(net):
        for x, y in RowBatches(dataset, batch_size=batch_size):
            outputs = forward(net, on_device(x, device))
            total += float(loss(outputs, on_device(y, device), reduction="mean")) * len(outputs)
    return total / len(dataset)


def train_recipe(
    net: nn.Module,
    dataset: Any,
    recipe: NetTraining,
    loss: NetLoss,
    *,
    seed: int,
    validation: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Train ``net`` in place on ``dataset``.

    Args:
        net: A fresh net.
        dataset: Training rows with labels.
        recipe: How.
        loss: What to minimise; the recipe may add a gradient penalty.
        seed: Of the order of the rows.
        validation: Rows that decide which epoch is kept, where the recipe says so.
        progress: Told of (batches done, batches in all).
    """
    optimizer = make_optimizer(net.parameters(), recipe)
    watch = _Validation(net, recipe, loss, validation if recipe.watches_validation else None)
    fitted = fit(
        net,
        RowBatches(dataset, batch_size=recipe.batch_size, seed=seed),
        Turn(penalised_loss(loss, recipe), optimizer),
        epochs=recipe.epochs,
        max_grad_norm=recipe.max_grad_norm,
        schedule=lambda done: watch.factor * _factor(recipe.scheduler, done),
        after_epoch=watch.after_epoch,
        progress=progress,
    )
    watch.put_back_best()
    return fitted


def _factor(scheduler: str, done: float) -> float:
    if scheduler == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if scheduler == "cosine" else 1.0


def penalised_loss(loss: NetLoss, recipe: NetTraining) -> Callable[[nn.Module, Any], Tensor]:
    """Return the loss of a batch, with alpha times the norm of its gradient where the recipe has a gradient penalty."""

    def plain(net: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return loss(forward(net, x), y)

    if recipe.gradient_penalty == 0:
        return plain
    from efface.methods.nets.iau import gradient_norm

    def penalised(net: nn.Module, batch: Any) -> Tensor:
        value = plain(net, batch)
        parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
        norm = gradient_norm([g for g in gradients if g is not None], kind=recipe.gradient_norm)
        return value + recipe.gradient_penalty * norm

    return penalised


class _Validation:
    """Follows the validation loss: which epoch was best, when to lower the rate, when to end."""

    def __init__(self, net: nn.Module, recipe: NetTraining, loss: NetLoss, rows: Any) -> None:
        self.net, self.recipe, self.loss, self.rows = net, recipe, loss, rows
        self.best = math.inf
        self.since = 0
        self.factor = 1.0
        self.kept: dict[str, Tensor] | None = None

    def after_epoch(self, epoch: int) -> str | None:
        if self.rows is None:
            return None
        value = mean_loss(self.net, self.rows, self.loss)
        if value < self.best:
            self.best, self.since = value, 0
            if self.recipe.keep == "best":
                self.kept = copy.deepcopy(self.net.state_dict())
            return None
        self.since += 1
        if self.recipe.scheduler == "plateau" and self.since % PLATEAU == 0:
            self.factor /= 10
        if self.recipe.patience is not None and self.since >= self.recipe.patience:
            return f"no lower validation loss in {self.since} epochs, at epoch {epoch}"
        return None

    def put_back_best(self) -> None:
        if self.kept is not None:
            self.net.load_state_dict(self.kept)
