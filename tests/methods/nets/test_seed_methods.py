"""Blindspot, Gaussian amnesiac, LAF and the plainest baselines: what they do, on problems that train in a second or two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import nn
from torch.utils.data import TensorDataset

from efface.data.problem import NetTraining
from efface.methods.nets.base import NetMethod
from efface.methods.nets.blindspot import Blindspot, attention_difference, attention_map
from efface.methods.nets.gaussian_amnesiac import GaussianAmnesiac, gaussian_targets
from efface.methods.nets.laf import LAF, LAFRepaired, alignment_loss, reconstruction_gap
from efface.methods.nets.neg_grad import NegGrad
from efface.methods.nets.neg_grad_plus import NegGradPlus
from efface.methods.nets.retrain import Retrain
from efface.models.net_losses import NetLoss
from efface.models.seeding import seeded
from efface.train.net_recipe import train_recipe
from efface.train.unlearn_net import NetJob, NetOutcome, run_net_job

L1 = NetLoss(None, task="regression")
RECIPE = NetTraining(epochs=60, learning_rate=0.01, batch_size=64)


def curve(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """y rises with x but turns down where x < -0.5, which nobody guesses who has not seen it."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(count, 1, generator=generator) - 1
    y = torch.where(x < -0.5, -4 - 2 * x, x).ravel() + 0.05 * torch.randn(count, generator=generator)
    return x, y


def make(seed: int) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))


X, Y = curve(600, 0)
GONE = (X < -0.5).ravel()
FORGET, RETAIN = TensorDataset(X[GONE], Y[GONE]), TensorDataset(X[~GONE], Y[~GONE])


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    made = {"original": make(0), "retrained": make(1)}
    for seed, (role, rows) in enumerate((("original", TensorDataset(X, Y)), ("retrained", RETAIN))):
        train_recipe(made[role], rows, RECIPE, L1, seed=seed)
    return made


def job(net: nn.Module, method: NetMethod, **changes: Any) -> NetJob:
    given = {"forget": FORGET, "retain": RETAIN, "task": "regression", "loss": L1, "make_model": make, "recipe": RECIPE}
    return NetJob(net=net, method=method, **{**given, **changes})


@torch.no_grad()
def predictions(net: nn.Module, x: torch.Tensor) -> np.ndarray:
    return net(x).ravel().numpy()


def errors(net: nn.Module) -> tuple[float, float]:
    """Mean absolute error on what must go and on what stays."""
    gap = np.abs(predictions(net, X) - Y.numpy())
    return float(gap[GONE.numpy()].mean()), float(gap[~GONE.numpy()].mean())


@pytest.mark.parametrize("method", [Blindspot(), GaussianAmnesiac(epochs=10), Retrain()], ids=lambda method: method.name)
def test_what_must_go_is_predicted_more_like_retraining(nets, method):
    unlearned = run_net_job(job(nets["original"], method)).net
    original, retrained, found = (predictions(net, X[GONE]) for net in (nets["original"], nets["retrained"], unlearned))
    assert wasserstein_distance(found, retrained) < 0.6 * wasserstein_distance(original, retrained)
    forgotten, kept = errors(unlearned)
    assert forgotten > 5 * errors(nets["original"])[0]
    assert kept < 0.25


def test_doing_nothing_and_knowing_nothing_fail_these_bounds(nets):
    original, retrained = (predictions(net, X[GONE]) for net in (nets["original"], nets["retrained"]))
    assert wasserstein_distance(original, retrained) > 0.5
    assert errors(nets["original"])[1] < 0.1
    assert errors(make(7))[1] > 0.25


def test_blindspot_reads_no_label_of_what_must_go(nets):
    method = Blindspot(epochs=1, blindspot_steps=3)
    lies = TensorDataset(X[GONE], 99 * torch.ones(int(GONE.sum())))
    states = [run_net_job(job(nets["original"], method, forget=rows)).net.state_dict() for rows in (FORGET, lies)]
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def steps(outcome: NetOutcome) -> dict[str, int]:
    named: dict[str, int] = {}
    for point in outcome.history:
        for name in point.values:
            named[name] = named.get(name, 0) + 1
    return named


def test_blindspot_trains_long_enough_on_few_rows(nets):
    few = {"forget": TensorDataset(X[GONE][:8], Y[GONE][:8]), "retain": TensorDataset(X[~GONE][:24], Y[~GONE][:24])}
    outcome = run_net_job(job(nets["original"], Blindspot(batch_size=8), **few))
    assert outcome.cost.steps == 120 + 120  # 40 epochs of 3 batches, then 30 of 4
    assert run_net_job(job(nets["original"], Blindspot(batch_size=8, epochs=1, blindspot_steps=2), **few)).cost.steps == 2 + 4


def test_attention_of_units_is_alive_where_the_published_one_is_dead():
    first, second = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    # squares 9, 16 over sqrt(337): (7 / sqrt(337))^2 in both places
    assert attention_difference(first, second).item() == pytest.approx(49 / 337)
    assert attention_difference(first, second, "reference").item() == 0
    assert attention_map(torch.zeros(2, 3)).isfinite().all()


def test_gaussian_targets():
    targets, noise = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.0, 1.0, -5.0])
    spread = float(torch.tensor([1.0, 2.0, 6.0]).std())
    assert gaussian_targets(targets, noise).tolist() == pytest.approx([3, 3 + spread, 3 - 5 * spread])
    assert gaussian_targets(targets, noise, clip=True).tolist() == pytest.approx([3, 3 + spread, 1])
    each = gaussian_targets(torch.tensor([[0.0, 10.0], [2.0, 10.0]]), torch.ones(1, 2))
    assert each.tolist() == [pytest.approx([1 + 2**0.5, 10])]


def test_gaussian_statistics_of_what_stays_need_no_label_of_what_goes(nets):
    method = GaussianAmnesiac(statistics="retain", redraw=True, epochs=2)
    bare = run_net_job(job(nets["original"], method, forget=TensorDataset(X[GONE])))
    full = run_net_job(job(nets["original"], method))
    assert all(torch.equal(a, b) for a, b in zip(bare.net.state_dict().values(), full.net.state_dict().values(), strict=True))


def test_bounded_gap_and_alignment():
    e = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert reconstruction_gap(e, e).item() == pytest.approx(2.0)
    assert reconstruction_gap(e + 1e6, e).item() == pytest.approx(2 * np.e)
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    # c = 0, k = 1: 0 - 1 * (1 / temp); the further what must go has moved, the lower
    assert alignment_loss(one, one, one, other, temp=2.0).item() == pytest.approx(-0.5)
    assert alignment_loss(one, other, one, one, temp=2.0).item() == pytest.approx(1.0)


CE = NetLoss(None, task="classification")
LABELS = torch.arange(240) % 3


def clusters() -> torch.Tensor:
    noise = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))
    return noise + 4 * nn.functional.one_hot(LABELS, 6)


def classifier(seed: int) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 16), nn.Linear(16, 3))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    net = classifier(0)
    train_recipe(net, TensorDataset(clusters(), LABELS), NetTraining(epochs=30, learning_rate=0.01), CE, seed=0)
    return net


def class_job(net: nn.Module, method: NetMethod) -> NetJob:
    x, gone = clusters(), LABELS == 2
    return NetJob(
        net=net,
        method=method,
        forget=TensorDataset(x[gone], LABELS[gone]),
        retain=TensorDataset(x[~gone], LABELS[~gone]),
        task="classification",
        loss=CE,
        make_model=classifier,
    )


@torch.no_grad()
def accuracy(net: nn.Module) -> tuple[float, float]:
    hits = (net(clusters()).argmax(1) == LABELS).float()
    return float(hits[LABELS == 2].mean()), float(hits[LABELS != 2].mean())


FAST = {"epochs": 60, "lr_ue": 1e-3, "lr_ra": 2e-3, "batch_size": 16, "decoder_out": "linear"}


@pytest.mark.parametrize(
    ("method", "bound"),
    [
        (LAF(**FAST), 0.4),
        (LAFRepaired(**FAST), 0.1),
        (NegGrad(learning_rate=1e-2, max_loss=3.0), 0.4),
        (NegGradPlus(learning_rate=1e-2, alpha=0.7), 0.1),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_class_is_forgotten_and_the_others_are_kept(trained, method, bound):
    assert accuracy(trained) == (1.0, 1.0)
    forgotten, kept = accuracy(run_net_job(class_job(trained, method)).net)
    assert forgotten <= bound
    assert kept > 0.8


def test_ascent_ends_where_guessing_begins(trained):
    outcome = run_net_job(class_job(trained, NegGrad(learning_rate=1e-2, epochs=50)))
    assert "the forget loss" in outcome.stopped
    assert "passed 1.10" in outcome.stopped
    endless = run_net_job(class_job(trained, NegGrad(learning_rate=1e-2, epochs=5, max_loss=None)))
    assert endless.stopped == "completed"


def test_laf_leaves_the_head_alone_and_repair_the_rest(trained):
    head = "3."
    laf = run_net_job(class_job(trained, LAF(epochs=2, vae_epochs=1))).net.state_dict()
    repaired = run_net_job(class_job(trained, LAFRepaired(epochs=2, vae_epochs=1))).net.state_dict()
    before = trained.state_dict()
    for name in before:
        assert torch.equal(laf[name], before[name]) is name.startswith(head)
        assert torch.equal(repaired[name], laf[name]) is not name.startswith(head)


def test_few_batches_are_noted(trained):
    notes = run_net_job(class_job(trained, LAF(epochs=2, vae_epochs=1))).notes
    assert any("LAF took 6 pairs of batches" in note for note in notes)
