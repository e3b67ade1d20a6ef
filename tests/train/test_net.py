"""The loop of nets, on nets and numbers small enough to follow by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from efface.data.net_batches import RowBatches
from efface.data.problem import NetTraining
from efface.errors import TrainingStopped
from efface.methods.nets.base import Turn
from efface.models.net_losses import NetLoss
from efface.models.seeding import seeded
from efface.train.net import fit
from efface.train.net_recipe import mean_loss, train_recipe


def weight(value: float) -> nn.Linear:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, value)
    return net


def pull(target: float):
    """Gradient of the loss: weight - target."""
    return lambda net, batch: 0.5 * (net.weight - target).square().sum()


def sgd(net: nn.Module, rate: float, **settings: float) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=rate, **settings)


def test_turns_are_taken_one_after_the_other_on_every_batch():
    net = weight(0.0)
    fitted = fit(net, [None, None], [Turn(pull(1.0), sgd(net, 0.5)), Turn(pull(-1.0), sgd(net, 0.5))])
    # 0 -> 0.5 -> -0.25 -> 0.375 -> -0.3125; each turn sees what the one before it left.
    assert net.weight.item() == pytest.approx(-0.3125)
    assert fitted.steps == 4
    assert fitted.losses[0][0] == pytest.approx((0.5 * 1.0 + 0.5 * 1.25**2) / 2)
    assert fitted.losses[1][0] == pytest.approx((0.5 * 1.5**2 + 0.5 * 1.375**2) / 2)


def test_plain_training_equals_a_loop_written_out():
    rows = TensorDataset(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 3)
    torch.manual_seed(1)
    ours, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(ours.state_dict())
    loss = nn.CrossEntropyLoss()
    turn = Turn(lambda net, batch: loss(net(batch[0]), batch[1]), torch.optim.Adam(ours.parameters(), lr=0.01))
    fit(ours, RowBatches(rows, batch_size=16, seed=3), turn, epochs=2)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    batches = RowBatches(rows, batch_size=16, seed=3)
    for _ in range(2):
        for x, y in batches:
            optimizer.zero_grad()
            loss(plain(x), y).backward()
            optimizer.step()
    assert torch.equal(ours.weight, plain.weight)


def test_masked_weights_stay_whatever_the_optimiser_does():
    net = nn.Linear(3, 1, bias=False)
    nn.init.ones_(net.weight)
    optimizer = sgd(net, 0.1, momentum=0.9, weight_decay=0.5)
    mask = {net.weight: torch.tensor([[1.0, 0.0, 1.0]])}
    fit(net, [None] * 3, Turn(lambda net, _: net.weight.sum(), optimizer), masks=mask)
    assert net.weight[0, 1].item() == 1.0
    assert (net.weight[0, [0, 2]] < 1.0).all()


def test_stops_when_asked_and_says_why():
    net = weight(0.0)
    fitted = fit(net, [None] * 9, Turn(pull(1.0), sgd(net, 0.1)), stop=lambda done, loss: "enough" if done == 4 else None)
    assert (fitted.steps, fitted.stopped) == (4, "enough")
    assert fit(net, [None] * 9, Turn(pull(1.0), sgd(net, 0.1)), epochs=5, max_steps=11).steps == 11
    again = fit(net, [None], Turn(pull(1.0), sgd(net, 0.1)), epochs=9, after_epoch=lambda done: "done" if done == 2 else None)
    assert (again.steps, again.stopped) == (2, "done")


def test_schedule_changes_rates_and_puts_them_back():
    net = weight(0.0)
    optimizer = sgd(net, 0.5)
    seen: list[float] = []
    turn = Turn(pull(1.0), optimizer)
    fit(
        net,
        [None] * 2,
        turn,
        epochs=2,
        schedule=lambda done: 1 - done,
        after_backward=lambda _: seen.append(optimizer.param_groups[0]["lr"]),
    )
    assert seen == pytest.approx([0.5, 0.375, 0.25, 0.125])
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_clips_the_gradient():
    net = weight(0.0)
    fit(net, [None], Turn(pull(100.0), sgd(net, 1.0)), max_grad_norm=2.0)
    assert net.weight.item() == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize(("mode", "moves"), [("train", True), ("eval", False)])
def test_mode_decides_over_batchnorm_and_is_put_back(mode, moves):
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    net[0].eval()
    fit(net, [torch.ones(4, 2)], Turn(lambda net, x: net(x).sum(), sgd(net, 0.1)), mode=mode)
    assert bool((net[0].running_mean != 0).any()) is moves
    assert (net.training, net[0].training, net[1].training) == (True, False, True)


def test_a_loss_that_is_no_number_ends_training_before_the_step():
    net = weight(1.0)
    with pytest.raises(TrainingStopped, match="became nan at batch 2"):
        fit(net, [1.0, float("nan")], Turn(lambda net, b: (net.weight * b).sum(), sgd(net, 0.1)))
    assert net.weight.item() == pytest.approx(0.9)


def test_seeded_draws_repeat_and_leave_the_callers_alone():
    def draws():
        return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()  # noqa: NPY002

    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    expected = draws()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    with seeded(1):
        first = draws()
    with seeded(1):
        assert draws() == first
    with seeded(1), torch.no_grad():
        pass
    assert draws() == expected


ROWS = TensorDataset(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 2)
LOSS = NetLoss(None, task="classification")


def trained(**settings) -> nn.Linear:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    train_recipe(net, ROWS, NetTraining(batch_size=16, **settings), LOSS, seed=4, validation=ROWS)
    return net


def test_recipe_lowers_the_loss_and_repeats():
    torch.manual_seed(0)
    before = mean_loss(nn.Linear(3, 2), ROWS, LOSS)
    first, second = trained(epochs=5, learning_rate=0.05), trained(epochs=5, learning_rate=0.05)
    assert mean_loss(first, ROWS, LOSS) < before
    assert torch.equal(first.weight, second.weight)


def test_best_epoch_is_kept_and_patience_ends():
    wild = {"epochs": 8, "learning_rate": 30.0, "optimizer": "sgd"}
    last, best = (mean_loss(trained(keep=keep, **wild), ROWS, LOSS) for keep in ("last", "best"))
    assert best < last
    net = nn.Linear(3, 2)
    fitted = train_recipe(net, ROWS, NetTraining(patience=1, **wild), LOSS, seed=0, validation=ROWS)
    assert "no lower validation loss" in fitted.stopped


@pytest.mark.parametrize("kind", ["per_tensor", "global"])
def test_gradient_penalty_is_the_norm_of_the_gradient(kind):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    hand = nn.Linear(3, 2)
    hand.load_state_dict(net.state_dict())
    recipe = NetTraining(epochs=1, batch_size=64, optimizer="sgd", learning_rate=0.1, gradient_penalty=0.5, gradient_norm=kind)
    train_recipe(net, ROWS, recipe, LOSS, seed=0)
    x, y = ROWS.tensors
    value = LOSS(hand(x), y)
    first = torch.autograd.grad(value, [hand.weight, hand.bias], create_graph=True)
    norms = [g.square().sum() for g in first]
    norm = sum(norms).sqrt() if kind == "global" else sum(n.sqrt() for n in norms)
    steps = torch.autograd.grad(value + 0.5 * norm, [hand.weight, hand.bias])
    torch.testing.assert_close(net.weight, hand.weight - 0.1 * steps[0])
    torch.testing.assert_close(net.bias, hand.bias - 0.1 * steps[1])


def test_mean_loss_counts_rows_not_batches():
    x = torch.tensor([[0.0], [0.0], [4.0]])
    net = weight(1.0)
    rows = TensorDataset(x, torch.zeros(3, 1))
    assert mean_loss(net, rows, NetLoss("l1", task="regression"), batch_size=2) == pytest.approx(4 / 3)
