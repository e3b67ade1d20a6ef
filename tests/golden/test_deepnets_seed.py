"""Deep Regression Unlearning and Label-Agnostic Forgetting against their published code."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from _fixtures import fixture_params, read_fixture
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


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tensors(values: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor(value) for name, value in values.items()}


def linear(weight: Any, bias: Any) -> nn.Linear:
    layer = nn.Linear(np.shape(weight)[1], np.shape(weight)[0], dtype=torch.float64)
    layer.load_state_dict({"weight": tensor(weight), "bias": tensor(bias)})
    return layer


class ConvNet(nn.Module):
    """Convolutions with ReLU, then a linear layer over what is left, in the order of the state."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        for name in [key.removesuffix(".weight") for key in state if key.endswith(".weight")]:
            shape = np.shape(state[f"{name}.weight"])
            made = (
                nn.Conv2d(shape[1], shape[0], shape[2], padding=shape[2] // 2) if len(shape) == 4 else nn.Linear(shape[1], shape[0])
            )
            self.add_module(name, made.double())
        self.convolutions = [name for name, module in self.named_children() if isinstance(module, nn.Conv2d)]
        self.last = next(name for name, module in self.named_children() if isinstance(module, nn.Linear))
        self.act = nn.ReLU()
        self.load_state_dict(tensors(state))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.convolutions:
            x = self.act(getattr(self, name)(x))
        return getattr(self, self.last)(x.flatten(1))


class TanhNet(nn.Module):
    """fc2(tanh(fe x))."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self.fe = linear(state["fe.weight"], state["fe.bias"])
        self.fc2 = linear(state["fc2.weight"], state["fc2.bias"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.tanh(self.fe(x)))


def assert_state(net: nn.Module, expected: dict[str, Any], tolerance: dict[str, float]) -> None:
    found = net.state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], tensor(value), **tolerance, msg=lambda m, name=name: f"{name}: {m}")


def attention_4d(case, close):
    close(attention_map(tensor(case["inputs"]["x"])), case["expected"]["out"])


def attention_diff(case, close):
    for rank in ("4", "3", "2"):
        first, second = tensor(case["inputs"][f"x{rank}"]), tensor(case["inputs"][f"y{rank}"])
        close(attention_difference(first, second, "reference"), case["expected"][f"d{rank}"])
    unitwise = attention_difference(tensor(case["inputs"]["x2"]), tensor(case["inputs"]["y2"]))
    assert float(unitwise) > 0


def forget_loss_case(case, close):
    inputs = case["inputs"]
    mask = torch.tensor(inputs["mask"])
    outputs = [tensor(inputs[name])[mask] for name in ("model_output", "proxy_output")]
    hidden = [[tensor(a)[mask] for a in inputs[name]] for name in ("model_activations", "proxy_activations")]
    for key, beta in (("loss", case["params"]["AT_beta"]), ("loss_beta0", 0.0)):
        close(forget_loss(*outputs, *hidden, beta=beta, attention="reference"), case["expected"][key])


def blindspot_epochs(case, close):
    inputs, params = case["inputs"], case["params"]
    net, blindspot = ConvNet(inputs["model_state"]), ConvNet(inputs["blindspot_state"])
    batches = [(tensor(b["x"]), (tensor(b["y"]), tensor(b["forget"]))) for b in inputs["batches"]]
    hidden = Activations(net, ["act"])
    loss = blindspot_loss(hidden, hidden.on(blindspot.eval()), NetLoss("l1", task="regression"), beta=params["AT_beta"])
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
    rows = targets <= case["params"]["forget_if_le"]
    noise = tensor(np.random.RandomState(case["params"]["seed"]).standard_normal(int(rows.sum())))
    close(gaussian_targets(targets, torch.zeros(1, dtype=torch.float64))[0], expected["mean"])
    new = targets.clone()
    new[rows] = gaussian_targets(targets, noise)
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
    a, b = linear(state["a.weight"], state["a.bias"]), linear(state["b.weight"], state["b.bias"])
    return lambda e: (torch.sigmoid(b(torch.relu(a(e)))), e)


def laf_epochs(case, close):
    inputs, params, expected = case["inputs"], case["params"], case["expected"]
    net, original = TanhNet(inputs["model_state"]), TanhNet(inputs["model_state"])
    keep, gone = surrogate(inputs["vae_remain_state"]), surrogate(inputs["vae_forget_state"])
    split = SplitNet(net, head="fc2")
    losses = laf_losses(split, split.on(original), keep, gone, temp=params["temp"])
    rates = (params["lr_ue"], params["lr_ra"])
    turns = [Turn(loss, torch.optim.Adam(net.parameters(), lr=rate)) for loss, rate in zip(losses, rates, strict=True)]
    retain, forget = ([(tensor(x), None) for x in inputs[name]] for name in ("remain_batches", "forget_batches"))
    fitted = fit(net, PairedBatches(retain, forget), turns, epochs=params["epochs"], mode="eval")
    close(net, expected["model_state"])
    close(fitted.losses[0], expected["extractor_loss_per_epoch"])
    close(fitted.losses[1], expected["alignment_loss_per_epoch"])


def laf_r_repair(case, close):
    net = TanhNet(case["inputs"]["model_state"])
    batches = [(tensor(b["x"]), torch.tensor(b["y"])) for b in case["inputs"]["remain_batches"]]
    head = SplitNet(net).head_module(batches[0][0])
    turn = Turn(head_loss(NetLoss(None, task="classification")), torch.optim.Adam(head.parameters(), lr=case["params"]["lr"]))
    fit(net, batches, turn, epochs=case["params"]["epochs"])
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
    close = partial(check, tolerance=fixture["tolerance"])
    assert fixture["cases"]
    for case in fixture["cases"]:
        assert case["id"] in CASES[pattern], f"{path.name}: no test knows the case {case['id']}"
        CASES[pattern][case["id"]](case, close)
