"""Where methods meet the edges: masks around methods without steps, one row, whole numbers, shapes that differ by a one, ties."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from efface.errors import InputError
from efface.methods.nets.certified_removal import CertifiedLinear, allowed_bound
from efface.methods.nets.l1_sparse import magnitude_mask
from efface.models.net_losses import NetLoss
from efface.registry import NETS
from efface.train.unlearn_net import NetJob, NetOutcome, run_net_job


def blobs(count: int, classes: tuple[int, ...], seed: int) -> TensorDataset:
    """Rows around one corner of a cube per class."""
    y = torch.tensor([classes[i % len(classes)] for i in range(count)])
    return TensorDataset(torch.eye(3)[y] + 0.1 * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), y)


FORGET, RETAIN, VALIDATION = blobs(24, (2,), 0), blobs(60, (0, 1), 1), blobs(30, (0, 1, 2), 2)


def small_net(*, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16) if norm else nn.ReLU(), nn.Linear(16, 3))


def trained_net(**kind: Any) -> nn.Module:
    net = small_net(**kind)
    x, y = (torch.cat(pair) for pair in zip(FORGET.tensors, RETAIN.tensors, strict=True))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return net.eval()


def unlearn(net: nn.Module, method: str, forget: Any = FORGET, retain: Any = RETAIN, **settings: Any) -> NetOutcome:
    given = NETS.get(method)(**settings)
    loss = NetLoss(None, task="classification")
    return run_net_job(NetJob(net, given, forget, retain, task="classification", loss=loss, validation=VALIDATION, num_classes=3))


def error(net: nn.Module, rows: TensorDataset) -> float:
    x, y = rows.tensors
    return float((net(x).argmax(1) != y).float().mean())


WITHOUT_STEPS: dict[str, dict[str, Any]] = {
    "random_label": {"epochs": 1},
    "ssd": {"selection": 0.1},
    "fisher": {},
    "influence": {"last_layer": False},
    "iau": {},
    "boundary_expand": {"epochs": 1},
    "l1_sparse": {"epochs": 1, "prune": 0.5},
}


@pytest.mark.parametrize("name", WITHOUT_STEPS)
def test_salun_holds_a_method_to_its_share_whatever_the_method_does(name: str) -> None:
    net = trained_net()
    made = unlearn(net, "salun", share=0.1, within={"name": name, **WITHOUT_STEPS[name]}).net
    pairs = list(zip(net.parameters(), made.parameters(), strict=True))
    changed = sum(int((a != b).sum()) for a, b in pairs)
    assert 0 < changed <= int(0.1 * sum(a.numel() for a, _ in pairs))


def test_salun_hands_its_batch_norm_on_and_refuses_a_fresh_net() -> None:
    net = trained_net(norm=True)
    made = unlearn(net, "salun", batch_norm="eval", within={"name": "random_label", "epochs": 1}).net
    assert torch.equal(made[1].running_mean, net[1].running_mean)
    with pytest.raises(InputError, match="trains a fresh net"):
        NETS.get("salun")(within={"name": "retrain"})


def test_scrub_rewinds_to_the_error_its_validation_rows_end_with() -> None:
    net = trained_net()
    settings = {"epochs": 6, "max_epochs": 6, "learning_rate": 0.02, "batch_size": 8}
    plain = unlearn(net, "scrub", **settings).net
    assert error(net, FORGET) == 0, "measured on the original, the goal would be to forget nothing"
    assert error(plain, FORGET) > 0.9
    assert error(unlearn(net, "scrub", rewind=True, **settings).net, FORGET) > 0.9


def gaussian_delta(shift: float, epsilon: float) -> float:
    """Return the exact delta of two unit normals that far apart (Balle and Wang 2018, equation 6)."""
    phi = NormalDist().cdf
    return phi(shift / 2 - epsilon / shift) - math.exp(epsilon) * phi(-shift / 2 - epsilon / shift)


def test_the_certificate_of_several_classes_is_one_for_all_of_them() -> None:
    x, y = (torch.cat(pair) for pair in zip(FORGET.tensors, RETAIN.tensors, strict=True))
    net = CertifiedLinear.trained_on(x / 4, y, classes=3, lam=0.5, sigma=10.0)
    allowed = allowed_bound(10.0, 1.0, 1e-4)
    rows = {"forget": TensorDataset(FORGET.tensors[0][:1] / 4, FORGET.tensors[1][:1]), "retain": TensorDataset(x[1:] / 4, y[1:])}
    assert any("Certified for" in note for note in unlearn(net, "certified_removal", **rows).notes)
    net.bound.fill_(0.9 * allowed)  # each within what is allowed, together not
    assert gaussian_delta(0.9 * allowed * math.sqrt(3) / 10, 1.0) > 1e-4 > gaussian_delta(allowed / 10, 1.0)
    with pytest.raises(InputError, match="nothing is certified"):
        unlearn(net, "certified_removal", **rows)


def test_quantiles_are_imitated_one_by_one() -> None:
    loss = NetLoss("quantile", task="forecasting", quantiles=(0.1, 0.9))
    outputs, others = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    # .1 of 1 too low, .1 of 2 too high
    assert float(loss.imitation(outputs, others)) == pytest.approx(0.1 * 1 + 0.1 * 2)
    assert float(loss.imitation(outputs, outputs)) == 0
    assert float(NetLoss("mse", task="regression").imitation(outputs, others)) == pytest.approx(2.5)


class Squeezed(nn.Module):
    """A regressor that answers (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu()).squeeze(-1)


def test_a_last_layer_whose_outputs_are_squeezed_is_still_the_last() -> None:
    torch.manual_seed(0)
    rows = [TensorDataset(part.tensors[0], part.tensors[0].sum(1)) for part in (FORGET, RETAIN)]
    loss = NetLoss("mse", task="regression")
    net = Squeezed()
    made = run_net_job(NetJob(net, NETS.get("influence")(), *rows, task="regression", loss=loss)).net
    assert not torch.equal(made.head.weight, net.head.weight)


def test_damping_is_the_same_for_every_solver_and_an_unfinished_one_says_so() -> None:
    net = trained_net()
    steps = {}
    for solver in ("exact", "cg", "lissa"):
        made = unlearn(net, "influence", solver=solver, iterations=5000, damping=0.05)
        steps[solver] = made.net[2].weight - net[2].weight
        assert not any("unexplained" in note for note in made.notes)
    for solver in ("cg", "lissa"):
        assert float((steps[solver] - steps["exact"]).norm() / steps["exact"].norm()) < 1e-3
    assert any("unexplained" in note for note in unlearn(net, "influence", solver="lissa", iterations=3).notes)


@pytest.mark.parametrize("solver", ["diagonal", "woodfisher"])
def test_a_singular_matrix_wants_damping(solver: str) -> None:
    with pytest.raises(InputError, match="damping above 0"):
        NETS.get("influence")(solver=solver, damping=0)


@pytest.mark.parametrize("name", ["random_label", "salun", "unsir", "fine_tune"])
def test_labels_may_stand_in_a_column(name: str) -> None:
    columns = [TensorDataset(part.tensors[0], part.tensors[1][:, None]) for part in (FORGET, RETAIN)]
    net = trained_net()
    flat, column = unlearn(net, name).net, unlearn(net, name, *columns).net
    assert all(torch.equal(a, b) for a, b in zip(flat.parameters(), column.parameters(), strict=True))


def test_whole_numbers_as_targets_do_not_cut_the_draws_off() -> None:
    torch.manual_seed(0)
    net, loss = nn.Linear(3, 1), NetLoss(None, task="regression")
    made = []
    for kind in (torch.int64, torch.float32):
        rows = [TensorDataset(part.tensors[0], part.tensors[1].to(kind)) for part in (FORGET, RETAIN)]
        made.append(run_net_job(NetJob(net, NETS.get("gaussian_amnesiac")(), *rows, task="regression", loss=loss)).net)
    assert torch.equal(made[0].weight, made[1].weight)


def test_laf_takes_a_single_forget_row_and_leaves_no_gradients() -> None:
    one = TensorDataset(*(tensor[:1] for tensor in FORGET.tensors))
    short = {"epochs": 1, "vae_epochs": 1}
    made = unlearn(trained_net(), "laf_r", one, decoder_out="linear", **short).net
    assert all(bool(torch.isfinite(p).all()) and p.grad is None for p in made.parameters())


@pytest.mark.parametrize("name", ["neg_grad", "scrub"])
def test_one_row_does_not_go_through_batchnorm_in_training(name: str) -> None:
    one = TensorDataset(*(tensor[:1] for tensor in FORGET.tensors))
    net = trained_net(norm=True)
    with pytest.raises(InputError, match="batch_norm: eval"):
        unlearn(net, name, one)
    assert unlearn(net, name, one, batch_norm="eval").net is not None


class Tempered(nn.Module):
    """A classifier with a learned temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.temperature = nn.Linear(3, 3), nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / self.temperature


def test_fisher_takes_a_parameter_without_dimensions() -> None:
    torch.manual_seed(0)
    net = Tempered()
    assert not torch.equal(unlearn(net, "fisher").net.temperature, net.temperature)


def test_pruning_drops_its_share_among_equal_weights() -> None:
    masks = magnitude_mask({"w": torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])}, 0.5)
    assert int(masks["w"].sum()) == 4
    assert masks["w"][0, :3].tolist() == [0, 0, 0], "the smallest go first"
