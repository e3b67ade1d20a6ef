"""Ordinary nets as everything else sees them: what they predict and how they represent their inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.activations import SplitNet, as_in_use, call_net, device_of, on_device, outputs_of
from efface.models.fingerprint import weights_hash

__all__ = ["NetPredictor", "Predictor", "inner_net", "net_fingerprint"]


@runtime_checkable
class Predictor(Protocol):
    """What is evaluated and attacked: two verbs on a batch of inputs."""

    @property
    def fingerprint(self) -> str:
        """Identity of everything that decides what is predicted."""

    def predict(self, x: Any) -> Tensor:
        """Return logits (B, K), predictions (B,) or (B, ...), or quantiles (B, ..., Q), on the CPU."""

    def features(self, x: Any) -> Tensor:
        """Return the representations, (B, d), on the CPU; ``InputError`` where the net has no head."""


class NetPredictor:
    """A net in evaluation mode, without gradients; it is not changed, and its mode is put back after each call.

    Args:
        net: The net.
        head: Name of its head; None: its last linear layer.
    """

    def __init__(self, net: nn.Module, *, head: str | None = None) -> None:
        self.net = net
        self.split = SplitNet(net, head=head)

    @property
    def fingerprint(self) -> str:
        """Hash of class, structure and weights."""
        return net_fingerprint(self.net)

    def predict(self, x: Any) -> Tensor:
        """Return what the net says of a batch of inputs, on the CPU."""
        with as_in_use(self.net):
            return outputs_of(call_net(self.net, on_device(x, device_of(self.net)))).detach().cpu()

    def features(self, x: Any) -> Tensor:
        """Return the representations of a batch of inputs, (B, d), on the CPU."""
        with as_in_use(self.net):
            return self.split.features(on_device(x, device_of(self.net))).detach().cpu()

    def predict_all(self, batches: Iterable[tuple[Any, Any]]) -> Tensor:
        """Return what the net says of all rows of ``batches`` of (x, y), in their order."""
        return torch.cat([self.predict(x) for x, _ in batches])


def net_fingerprint(net: nn.Module) -> str:
    """Return 64 hex digits that change with a net's class, its structure or any weight or buffer."""
    structure = f"{type(net).__module__}.{type(net).__qualname__}\n{net}"
    return hashlib.sha256(f"{structure}\n{weights_hash(net)}".encode()).hexdigest()


def inner_net(model: Any) -> nn.Module:
    """Return the net to unlearn: the model itself, or what a Lightning module wraps.

    Raises:
        InputError: When it is no ``torch.nn.Module``, or a Lightning module with several nets.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"The model is a {type(model).__name__}. An ordinary net is a torch.nn.Module (timm, torchvision and Hugging Face "
            "models are). Pass the module."
        )
    if not any(base.__name__ == "LightningModule" for base in type(model).__mro__):
        return model
    nets = [child for child in model.children() if any(True for _ in child.parameters())]
    if len(nets) != 1:
        names = ", ".join(name for name, child in model.named_children() if child in nets) or "none"
        raise InputError(
            f"The Lightning module {type(model).__name__} holds {len(nets)} nets with weights ({names}). One net is unlearned at a "
            "time. Pass the inner net itself, for example module.model."
        )
    return nets[0]
