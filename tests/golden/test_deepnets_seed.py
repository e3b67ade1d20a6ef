"""Deep Regression Unlearning and Label-Agnostic Forgetting against their published code."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from _fixtures import fixture_params, read_fixture
from _nets import CROSS_ENTROPY, DEVICE, StoredNet, net_of, rows, tensor, tensors, tolerance_of
from torch import nn

from efface.data.net_batches import PairedBatches
from efface.evals.nets.regression import wasserstein
from efface.methods.nets.base import Turn
from efface.methods.nets.blindspot import attention_difference, attention_map, blindspot_loss, forget_loss
from efface.methods.nets.gaussian_amnesiac import gaussian_targets
from efface.methods.nets.laf import alignment_loss, head_loss, laf_losses, reconstruction_gap, vae_loss
from efface.models.activations import Activations, SplitNet
from efface.models.net_losses import NetLoss, quantile_loss
from efface.stats import ks_test
from efface.train.net import fit

BLINDSPOT, LAF = "deepnets_blindspot*.json", "deepnets_laf*.json"
BASE_LOSSES = {"l1": "l1", "mae": "l1", "l2": "mse", "mse": "mse"}


def assert_state(net: nn.Module, expected: dict[str, Any], tolerance: dict[str, float]) -> None:
    found = net.state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], tensor(value), **tolerance, msg=lambda m, name=name: f"{name}: {m}")


def attention_4d(case, close):
    close(attention_map(tensor(case["inputs"]["x"])), case["expected"]["out"])


def attention_diff(case, close):
    for name, expected in case["expected"].items():  # d4, d3, d2
        first, second = (tensor(case["inputs"][f"{side}{name[1:]}"]) for side in "xy")
        close(attention_difference(first, second, "reference"), expected)


def base_loss(params):
    """Return the loss that ``base_loss``, such as "L1 mean", names."""
    said = params.get("base_loss", "L1").lower()
    return NetLoss(next(name for word, name in BASE_LOSSES.items() if word in said), task="regression")


def forget_loss_case(case, close):
    inputs, params = case["inputs"], case["params"]
    mask = torch.tensor(inputs["mask"], dtype=torch.bool, device=DEVICE)
    outputs = [tensor(inputs[name])[mask] for name in ("model_output", "proxy_output")]
    hidden = [[tensor(a)[mask] for a in inputs[name]] for name in ("model_activations", "proxy_activations")]
    for key, beta in (("loss", params["AT_beta"]), ("loss_beta0", 0.0)):
        found = forget_loss(*outputs, *hidden, beta=beta, attention="reference", distance=base_loss(params))
        close(found, case["expected"][key])


def blindspot_epochs(case, close):
    inputs, params = case["inputs"], case["params"]
    net, blindspot = (net_of(case, key, activation="relu") for key in ("model_state", "blindspot_state"))
    batches = [(tensor(b["x"]), (tensor(b["y"]), tensor(b["forget"]))) for b in inputs["batches"]]
    hidden = Activations(net)
    loss = blindspot_loss(hidden, hidden.on(blindspot.eval()), base_loss(params), beta=params["AT_beta"], attention="reference")
    fitted = fit(net, batches, Turn(loss, torch.optim.Adam(net.parameters(), lr=params["lr"])), epochs=params["epochs"])
    close(fitted.losses[0][-1], case["expected"]["mean_train_loss_last_epoch"])
    close(net, case["expected"]["model_state"])


def quantiles(case, close):
    inputs = case["inputs"]
    close(
        quantile_loss(tensor(inputs["preds"]), tensor(inputs["target"]), case["params"]["quantiles"]).mean(),
        case["expected"]["loss"],
    )


def gaussian(case, close):
    targets, expected = tensor(case["inputs"]["targets"]), case["expected"]
    gone = targets <= case["params"]["forget_if_le"]
    noise = tensor(np.random.RandomState(case["params"]["seed"]).standard_normal(int(gone.sum())))
    close(gaussian_targets(targets, tensor([0.0, 1.0])), [expected["mean"], expected["mean"] + expected["std"]])
    new = targets.clone()
    new[gone] = gaussian_targets(targets, noise)
    close(new, expected["new_targets"])


def wasserstein_case(case, close):
    unlearned, retrained = case["inputs"]["unlearned"], case["inputs"]["retrained"]
    close(wasserstein(unlearned, retrained), case["expected"]["w1"])
    close(ks_test(unlearned, retrained).statistic, case["expected"]["ks_stat"])


def vae_loss_case(case, close):
    inputs = tensors(case["inputs"])
    close(vae_loss(**inputs, kl_weight=case["params"]["kl_weight"]), case["expected"]["loss"])


def extractor(case, close):
    close(reconstruction_gap(**tensors(case["inputs"])), case["expected"]["loss"])


def alignment(case, close):
    inputs = tensors(case["inputs"])
    found = alignment_loss(inputs["s"], inputs["s_teacher"], inputs["u"], inputs["u_teacher"], temp=case["params"]["temp"])
    close(found, case["expected"]["loss"])


def surrogate(state: dict[str, Any]):
    """The fixture's stand-in for a VAE: sigmoid(b(relu(a(e))))."""
    net = StoredNet(state, nn.ReLU)
    return lambda e: (torch.sigmoid(net(e)), e)


def laf_epochs(case, close):
    inputs, params, expected = case["inputs"], case["params"], case["expected"]
    net, original = net_of(case), net_of(case)
    keep, gone = surrogate(inputs["vae_remain_state"]), surrogate(inputs["vae_forget_state"])
    split = SplitNet(net)
    losses = laf_losses(split, split.on(original), keep, gone, temp=params["temp"])
    rates = (params["lr_ue"], params["lr_ra"])
    turns = [Turn(loss, torch.optim.Adam(net.parameters(), lr=rate)) for loss, rate in zip(losses, rates, strict=True)]
    retain, forget = ([(tensor(x), None) for x in inputs[name]] for name in ("remain_batches", "forget_batches"))
    fitted = fit(net, PairedBatches(retain, forget), turns, epochs=params["epochs"], mode="eval")
    close(net, expected["model_state"])
    close(fitted.losses[0], expected["extractor_loss_per_epoch"])
    close(fitted.losses[1], expected["alignment_loss_per_epoch"])


def laf_r_repair(case, close):
    net, params = net_of(case), case["params"]
    batches = [rows(batch) for batch in case["inputs"]["remain_batches"]]
    head = SplitNet(net).head_module(batches[0][0])
    turn = Turn(head_loss(CROSS_ENTROPY), torch.optim.Adam(head.parameters(), lr=params["lr"]))
    fit(net, batches, turn, epochs=params["epochs"])
    close(net, case["expected"]["model_state"])


CASES = {
    BLINDSPOT: {
        "attention_4d": attention_4d,
        "attention_diff": attention_diff,
        "forget_loss": forget_loss_case,
        "blindspot_epochs_adam": blindspot_epochs,
        "quantile_loss": quantiles,
        "gaussian_amnesiac_targets": gaussian,
        "wasserstein_1d": wasserstein_case,
    },
    LAF: {
        "vae_loss": vae_loss_case,
        "extractor_nmse": extractor,
        "alignment_contrastive": alignment,
        "laf_epochs": laf_epochs,
        "laf_r_repair": laf_r_repair,
    },
}


def check(found: Any, expected: Any, *, tolerance: dict[str, float]) -> None:
    if isinstance(found, nn.Module):
        assert_state(found, expected, tolerance)
    else:
        value = found.detach() if isinstance(found, torch.Tensor) else tensor(found)
        torch.testing.assert_close(value, tensor(expected), **tolerance)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [pytest.param(p, *param.values, id=param.id, marks=param.marks) for p in CASES for param in fixture_params(p)],
)
def test_cases(pattern, path):
    fixture = read_fixture(path)
    close = partial(check, tolerance=tolerance_of(fixture))
    assert fixture["cases"]
    for case in fixture["cases"]:
        assert case["id"] in CASES[pattern], f"{path.name}: no test knows the case {case['id']}"
        CASES[pattern][case["id"]](case, close)
