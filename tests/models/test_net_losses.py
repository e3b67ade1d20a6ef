"""Losses of nets, by hand."""

from __future__ import annotations

import pytest
import torch

from efface.errors import InputError
from efface.models.net_losses import NetLoss, quantile_loss


def test_targets_are_never_broadcast():
    outputs, target = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert NetLoss("l1", task="regression")(outputs, target) == pytest.approx(1.5)
    assert NetLoss("mse", task="regression")(outputs, target, reduction="none").tolist() == [1.0, 4.0]
    assert NetLoss("mse", task="regression")(outputs, target, reduction="sum") == 5.0
    with pytest.raises(InputError, match=r"labels have the shape \(3,\)"):
        NetLoss("l1", task="regression")(outputs, torch.zeros(3))


def test_quantile_loss_sums_over_quantiles():
    # e = 2 - (1, 2, 4): 0.1 * 1 + 0 + (1 - 0.9) * 2
    assert quantile_loss(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([2.0]), (0.1, 0.5, 0.9)).tolist() == pytest.approx([0.3])
    steps = quantile_loss(torch.zeros(2, 5, 3), torch.ones(2, 5), (0.1, 0.5, 0.9))
    assert steps.tolist() == pytest.approx([1.5, 1.5])
    with pytest.raises(InputError, match="dimension of 2 and there are 3 quantiles"):
        quantile_loss(torch.zeros(4, 2), torch.zeros(4), (0.1, 0.5, 0.9))


def test_defaults_by_task_and_functions():
    assert [NetLoss(None, task=t).name for t in ("classification", "regression", "forecasting")] == [
        "cross_entropy",
        "l1",
        "quantile",
    ]
    rows = NetLoss(lambda outputs, y: (outputs - y).abs(), task="regression")
    assert rows(torch.tensor([1.0, 3.0]), torch.zeros(2)) == 2.0
    mean = NetLoss(lambda outputs, y: (outputs - y).abs().mean(), task="regression")
    assert mean(torch.tensor([1.0, 3.0]), torch.zeros(2), reduction="sum") == 4.0
    with pytest.raises(InputError, match="returns one number for a batch"):
        mean(torch.zeros(2), torch.zeros(2), reduction="none")


def test_labels_that_do_not_fit():
    loss = NetLoss(None, task="classification")
    assert loss(torch.zeros(2, 4), torch.tensor([[1], [3]])) == pytest.approx(torch.log(torch.tensor(4.0)).item())
    with pytest.raises(InputError, match="asked of rows without labels"):
        loss(torch.zeros(2, 4), None)
    with pytest.raises(InputError, match="one row of logits per item"):
        loss(torch.zeros(2), torch.zeros(2).long())
