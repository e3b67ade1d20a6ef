"""Nets, numbers and tolerances of the deepnets fixtures, as they state them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from efface.models.net_losses import NetLoss
from efface.train.net import accelerator

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}
CROSS_ENTROPY = NetLoss("cross_entropy", task="classification")
DEVICE = accelerator().device


def tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=DEVICE)


def tensors(values: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor(value) for name, value in values.items()}


def rows(part: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return inputs and class numbers."""
    return tensor(part["x"]), torch.tensor(part["y"], dtype=torch.long, device=DEVICE)


def tolerance_of(fixture: dict[str, Any]) -> dict[str, float]:
    return {"rtol": 1e-5, "atol": 1e-7, **fixture.get("tolerance", {})}


class StoredNet(nn.Module):
    """The layers of a stored state in its order, linear or convolutions, an activation between them.

    Args:
        state: Values by name.
        activation: What stands between the layers.
        pads: Padding of the convolutions; where there is none, the size stays.
    """

    def __init__(self, state: dict[str, Any], activation: type[nn.Module], pads: Sequence[int] = ()) -> None:
        super().__init__()
        self._between = activation()
        self._names = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
        values, padding = tensors(state), iter(pads)
        for name in self._names:
            outputs, inputs, *kernel = values[f"{name}.weight"].shape
            options: dict[str, Any] = {"bias": f"{name}.bias" in state, "dtype": torch.float64, "device": DEVICE}
            if kernel:
                pad = next(padding, kernel[0] // 2)
                self._place(name, nn.Conv2d(inputs, outputs, tuple(kernel), padding=pad, **options))
            else:
                self._place(name, nn.Linear(inputs, outputs, **options))
        self.load_state_dict(values)

    def _place(self, name: str, layer: nn.Module) -> None:
        owner: nn.Module = self
        *parents, leaf = name.split(".")
        for part in parents:
            if part not in dict(owner.named_children()):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.add_module(leaf, layer)

    def forward(self, x: Tensor) -> Tensor:
        for number, name in enumerate(self._names):
            layer = self.get_submodule(name)
            x = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
            x = self._between(x) if number + 1 < len(self._names) else x
        return x


def net_of(case: dict[str, Any], key: str = "model_state", *, activation: str = "tanh") -> StoredNet:
    """Return a net of a case; what its ``architecture`` says goes before ``activation``."""
    text = case.get("architecture", "").lower()
    said = re.search("|".join(ACTIVATIONS), text)
    pads = [int(pad) for pad in re.findall(r"pad(?:ding)?[ =](\d+)", text)]
    return StoredNet(case["inputs"][key], ACTIVATIONS[said[0] if said else activation], pads)
