"""SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency, Fan, Liu, Zhang, Wei, Wong and Liu, ICLR 2024.

arXiv 2310.12508; formulas only, its Classification code carries no licence.

m = 1 for the share k of all weights with the largest |sum over forget batches of grad(-L)|, ranked over all tensors at once;
then any method, changing the weights with m = 1 only.

Weights with m = 0 stay what they were to the last bit: their gradients are zeroed, what weight decay and momentum would still move
is put back after every step, and what a method changes without steps (ssd, influence) is put back at its end. The mask is measured
in evaluation mode. ``within`` names the method; random labels as in the paper's main rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from efface.errors import InputError
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import Mode, NetConfig, NetData, NetMethod, NetTools
from efface.methods.nets.gradients import Batches, Gradients, Loss, batch_gradients, flatten, trained, unflatten
from efface.registry import NETS

__all__ = ["SalUn", "SalUnConfig", "largest", "saliency"]


def saliency(net: nn.Module, batches: Batches, loss: Loss) -> Gradients:
    """Return |sum over batches of the gradient of the batch-mean loss|, per parameter."""
    total: Gradients = {}
    for _, gradient in batch_gradients(net, batches, loss):
        for name, value in gradient.items():
            total[name] = total[name] + value if name in total else value
    return {name: value.abs() for name, value in total.items()}


def largest(scores: Mapping[str, Tensor], share: float) -> Gradients:
    """Return 1 for the floor(share x P) largest entries over all tensors, else 0, in the shapes of ``scores``."""
    flat = flatten(scores)
    mask = torch.zeros_like(flat)
    mask[flat.argsort(descending=True)[: int(len(flat) * share)]] = 1
    return unflatten(mask, scores)


class SalUnConfig(NetConfig):
    """Hyper-parameters of SalUn."""

    share: float = Field(0.5, gt=0, le=1, description="Share of the weights that may change; 0.5 in the paper.")
    within: dict[str, Any] = Field(
        default={"name": "random_label"}, description="The method that is run on them, with its settings."
    )


class SalUn(NetMethod):
    """Run another method on the weights that the forget rows pull at most."""

    name: ClassVar[str] = "salun"
    summary: ClassVar[str] = "another method (random labels) on the half of the weights the forget rows pull at most"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification", "regression", "forecasting"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    approach: ClassVar[str] = "weight saliency"
    paper: ClassVar[Paper | None] = Paper(
        "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency",
        "2310.12508",
        "Fan, Liu, Zhang, Wei, Wong and Liu",
        2024,
        "https://github.com/OPTML-Group/Unlearn-Saliency",
    )
    Config: ClassVar[type[MethodConfig]] = SalUnConfig
    config: SalUnConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        settings = dict(self.config.within)
        name = str(settings.pop("name", ""))
        if not name or name == self.name:
            raise InputError(
                f"SalUn wraps {name or 'no method'}. It wraps another method by name. Write within: {{name: random_label}}."
            )
        if self.config.batch_norm is not None:
            settings.setdefault("batch_norm", self.config.batch_norm)
        self.inner: NetMethod = NETS.get(name)(**settings)
        if self.inner.needs_recipe:
            raise InputError(
                f"SalUn wraps {name}, which trains a fresh net. It says which weights of the original may change. "
                "Name a method that changes the original in within, such as random_label."
            )

    @property
    def mode(self) -> Mode:
        """How the inner method runs the net while it changes it."""
        return self.inner.mode

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Measure the mask in evaluation mode, then run the inner method on it."""
        if data.task not in self.inner.tasks:
            raise InputError(
                f"SalUn is to run {self.inner.name} on a {data.task} problem. {self.inner.name} works for "
                f"{', '.join(sorted(self.inner.tasks))}. Name another method in within."
            )
        net.eval()
        scores = saliency(net, tools.loader(data.forget, shuffle=False, batch_size=self.config.batch_size), tools.loss)
        parameters, masks = trained(net), largest(scores, self.config.share)
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        made = self.inner.run(net, data, tools.masked({parameters[name]: mask for name, mask in masks.items()}))
        with torch.no_grad():
            for name, parameter in trained(made).items():
                parameter.copy_(torch.where(masks[name].to(torch.bool), parameter, before[name]))
        return made
