"""What every registered method for nets must do, on nets small enough to take in at a glance."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from efface.data.problem import NetTraining
from efface.errors import InputError, MissingNeed
from efface.methods.base import Need
from efface.methods.nets.base import NetMethod
from efface.methods.nets.certified_removal import CertifiedLinear
from efface.models.net_losses import NetLoss
from efface.registry import NETS
from efface.train.unlearn_net import NetJob, run_net_job

CLASSES, SIDE = 3, 8
SHORT: dict[str, dict[str, Any]] = {
    "laf": {"epochs": 1, "vae_epochs": 1},
    "laf_r": {"epochs": 1, "vae_epochs": 1},
    "blindspot": {"epochs": 1, "blindspot_steps": 2},
    "boundary_shrink": {"epochs": 1, "bound": 0.5},
    "unsir": {"noise_rows": 4, "noise_steps": 2, "copies": 1, "retain_per_class": 5},
    "influence": {"samples": 10},
    "certified_removal": {"exceed": "note"},
}
CASES = [(name, task) for name in NETS.names() for task in sorted(NETS.get(name).tasks)]


class SmallNet(nn.Module):
    """Convolution, BatchNorm and two linear layers over 8 x 8 images."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.body = nn.Linear(4 * 16, 12)
        self.mid = nn.Tanh()
        self.head = nn.Linear(12, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.conv(x))).flatten(1)
        return self.head(self.mid(self.body(x)))


def outputs_for(task: str) -> int:
    return {"classification": CLASSES, "regression": 1, "forecasting": 3}[task]


def make_net(task: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return SmallNet(outputs_for(task))


def rows_for(task: str, count: int, seed: int, classes: tuple[int, ...] = (0, 1, 2)) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, SIDE, SIDE, generator=generator)
    if task == "classification":
        return TensorDataset(x, torch.tensor([classes[i % len(classes)] for i in range(count)]))
    return TensorDataset(x, torch.randn(count, generator=generator))


def make_method(name: str) -> NetMethod:
    cls = NETS.get(name)
    settings = dict(SHORT.get(name, {}))
    if "epochs" in cls.Config.model_fields:
        settings.setdefault("epochs", 1)
    return cls(**settings)


def make_job(name: str, task: str, **changes: Any) -> NetJob:
    """Return a job with class 2 to forget; a certified linear model where the method wants one."""
    net: nn.Module = make_net(task)
    forget, retain = rows_for(task, 9, 1, (2,)), rows_for(task, 20, 2, (0, 1))
    if name == "certified_removal":
        # Images of 64 pixels in [0, 1] are at most 8 long.
        forget, retain = (TensorDataset(rows.tensors[0] / 8, rows.tensors[1]) for rows in (forget, retain))
        every = [torch.cat([a, b]) for a, b in zip(retain.tensors, forget.tensors, strict=True)]
        net = CertifiedLinear.trained_on(*every, classes=CLASSES, lam=0.1, seed=0)
    extra: dict[str, Any] = {}
    if task != "classification":
        extra = {"neg_grad": {"max_loss": 5.0}, "salun": {"within": {"name": "fine_tune", "epochs": 1}}}.get(name, {})
    method = NETS.get(name)(**{**make_method(name).config.model_dump(exclude_unset=True), **extra})
    job = NetJob(
        net=net,
        method=method,
        forget=forget,
        retain=retain,
        task=task,
        loss=NetLoss(None, task=task),
        make_model=lambda seed: make_net(task, seed),
        recipe=NetTraining(epochs=1, batch_size=8),
        seed=5,
    )
    return replace(job, **changes)


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_changes_a_copy_alone_and_the_same_way_for_a_seed(name: str, task: str) -> None:
    job = make_job(name, task)
    before, mode = state(job.net), job.net.training
    torch.manual_seed(99)
    expected_draw = torch.rand(1)
    torch.manual_seed(99)
    first = run_net_job(job)
    assert torch.equal(torch.rand(1), expected_draw), "the global generator moved"
    torch.manual_seed(7)  # whatever the caller's generator says
    second = run_net_job(job)
    assert equal(before, state(job.net))
    assert job.net.training == mode
    assert not equal(before, state(first.net)), "nothing was unlearned"
    assert equal(state(first.net), state(second.net))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in first.net.state_dict().values())
    assert list(first.net.state_dict()) == list(before)
    assert {n: t.shape for n, t in first.net.state_dict().items()} == {n: t.shape for n, t in before.items()}


@pytest.mark.parametrize("name", NETS.names())
def test_says_what_it_is(name: str) -> None:
    cls = NETS.get(name)
    assert cls.name == name
    assert cls.summary
    assert cls.tasks <= {"classification", "regression", "forecasting"}
    assert cls.needs_labels in ("none", "forget", "retain", "both")
    assert all(isinstance(need, Need) for need in cls.needs)


@pytest.mark.parametrize("name", NETS.names())
def test_refuses_an_unknown_setting(name: str) -> None:
    with pytest.raises(InputError, match="unknown key 'no_such_setting'"):
        NETS.get(name)(no_such_setting=1)


@pytest.mark.parametrize("name", NETS.names())
def test_runs_without_the_labels_it_does_not_read(name: str) -> None:
    method = make_method(name)
    job = make_job(name, sorted(method.tasks)[0])
    hidden = {
        side: TensorDataset(getattr(job, side).tensors[0])
        for side in ("forget", "retain")
        if job.method.labels_read not in (side, "both")
    }
    full = run_net_job(job)
    found = run_net_job(replace(job, **hidden))
    assert equal(state(full.net), state(found.net))


@pytest.mark.parametrize("name", [name for name in NETS.names() if NETS.get(name)().labels_read != "none"])
def test_misses_labels_by_name(name: str) -> None:
    method = make_method(name)
    job = make_job(name, sorted(method.tasks)[0])
    side = "forget" if job.method.labels_read in ("forget", "both") else "retain"
    with pytest.raises(MissingNeed, match=f"The {side} rows have no labels"):
        run_net_job(replace(job, **{side: TensorDataset(getattr(job, side).tensors[0])}))


@pytest.mark.parametrize("name", [name for name in NETS.names() if Need.RETAIN_SET in NETS.get(name).needs])
def test_misses_rows_to_keep(name: str) -> None:
    method = make_method(name)
    with pytest.raises(MissingNeed, match="rows to keep"):
        run_net_job(make_job(name, sorted(method.tasks)[0], retain=None))


@pytest.mark.parametrize("name", NETS.names())
def test_refuses_a_task_it_is_not_for(name: str) -> None:
    method = make_method(name)
    others = {"classification", "regression", "forecasting"} - method.tasks
    if not others:
        pytest.skip("works for every task")
    job = make_job(name, sorted(method.tasks)[0])
    with pytest.raises(MissingNeed, match="is no method for"):
        run_net_job(replace(job, task=sorted(others)[0]))


EVALUATED = [name for name in NETS.names() if NETS.get(name)().mode == "eval" and name != "certified_removal"]


@pytest.mark.parametrize("name", EVALUATED)
def test_leaves_the_statistics_of_batchnorm_alone_in_evaluation_mode(name: str) -> None:
    method = make_method(name)
    job = make_job(name, sorted(method.tasks)[0])
    made = run_net_job(job).net
    buffers = dict(job.net.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in made.named_buffers())


def test_moves_the_statistics_of_batchnorm_in_training_mode() -> None:
    job = make_job("random_label", "classification")
    assert job.method.mode == "train"
    assert not torch.equal(run_net_job(job).net.norm.running_mean, job.net.norm.running_mean)
    still = replace(job, method=NETS.get("random_label")(epochs=1, batch_norm="eval"))
    assert torch.equal(run_net_job(still).net.norm.running_mean, job.net.norm.running_mean)


def test_a_copy_of_the_net_is_what_another_seed_starts_from() -> None:
    job = make_job("random_label", "classification")
    other = run_net_job(replace(job, seed=6)).net
    assert not equal(state(run_net_job(job).net), state(other))
    assert equal(state(job.net), state(copy.deepcopy(job.net)))
