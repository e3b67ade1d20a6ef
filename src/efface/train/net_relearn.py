"""Training that gives forgotten rows back: what the relearn time of the evaluation is measured with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from efface.data.net_batches import RowBatches, with_labels
from efface.data.net_sets import Part
from efface.data.problem import Problem
from efface.methods.nets.base import Turn, make_optimizer
from efface.models.activations import forward
from efface.models.net_losses import NetLoss
from efface.models.seeding import seeded
from efface.train.net import fit

__all__ = ["relearner"]


def relearner(problem: Problem, *, seed: int = 0) -> Callable[[Any, Callable[[int], bool]], None]:
    """Return a function that trains a net in place on ALL training rows that have a label, at the recipe's rate.

    Args:
        problem: Rows, loss and recipe.
        seed: Of the order of the rows; the same for every net, so that relearn times can be compared.

    Returns:
        ``train(net, after_step)``; ``after_step`` gets the number of steps and says whether to end. Nothing else ends it: a number
        of epochs would bound small sets of rows by fewer steps than large ones.
    """
    loss = NetLoss(problem.loss, task=problem.task, quantiles=problem.quantiles)

    def train(net: nn.Module, after_step: Callable[[int], bool]) -> None:
        recipe = problem.training
        if recipe is None:
            raise TypeError("The problem has no training recipe. Relearning trains at its rate. Give it one.")
        with seeded(0):
            labelled = with_labels(problem.train, np.arange(len(problem.train)))
        rows = problem.train if len(labelled) == len(problem.train) else Part(problem.train, labelled)
        with seeded(seed):
            fit(
                net,
                RowBatches(rows, batch_size=recipe.batch_size, seed=seed),
                Turn(lambda model, batch: loss(forward(model, batch[0]), batch[1]), make_optimizer(net.parameters(), recipe)),
                epochs=sys.maxsize,
                stop=lambda steps, _: "known again" if after_step(steps) else None,
            )

    return train
