"""Fast Machine Unlearning without Retraining through Selective Synaptic Dampening, Foster, Schoepf and Brintrup, AAAI 2024.

arXiv 2308.07707; reference code: if-loops/selective-synaptic-dampening, ``src/ssd.py``.

I_S,p = mean over batches of (gradient of the batch-mean loss)^2;  selected: I_f > alpha I_D
theta_p <- theta_p min(1, (lambda I_D / I_f)^exponent)  where selected

Importances depend on the batch size, so that both sets are gone through in batches of one size. No retain row is needed where
I_D was kept from before; here it is computed over forget and retain rows. ``loss="output_norm"`` is the label-free variant (LFSSD,
arXiv 2402.19308): the gradient of the squared length of the outputs in place of the loss's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import LabelNeed, NetConfig, NetData, NetMethod, NetTools
from efface.methods.nets.gradients import Batches, Gradients, Loss, sum_squared_batch_gradients, trained

__all__ = ["SSD", "SSDConfig", "dampened", "importances"]


def importances(net: nn.Module, batches: Batches, loss: Loss) -> Gradients:
    """Return the mean over batches of the squared gradient of the batch-mean loss, per parameter."""
    total, number = sum_squared_batch_gradients(net, batches, loss)
    return {name: value / number for name, value in total.items()}


def dampened(
    weight: Tensor,
    forget: Tensor,
    full: Tensor,
    *,
    selection: float = 10.0,
    dampening: float = 1.0,
    upper: float = 1.0,
    exponent: float = 1.0,
) -> Tensor:
    """Return the weights with those dampened that matter more to the forget rows.

    Args:
        weight: theta_p.
        forget: I_f, of the same shape; 0 is never selected.
        full: I_D.
        selection: alpha of the paper; larger selects fewer.
        dampening: lambda.
        upper: Largest factor: 1 keeps dampening from being amplification.
        exponent: Of the ratio.
    """
    selected = forget > selection * full
    factor = (dampening * full / forget.clamp_min(torch.finfo(forget.dtype).tiny)).pow(exponent).clamp(max=upper)
    return torch.where(selected, weight * factor, weight)


def output_norm(outputs: Tensor, _: Any) -> Tensor:
    """Return the batch mean of the squared length of the outputs (LFSSD)."""
    return outputs.flatten(1).square().sum(1).mean()


class SSDConfig(NetConfig):
    """Hyper-parameters of selective synaptic dampening."""

    selection: float = Field(10.0, gt=0, description="alpha; 10 in the paper, 5 for ViT class forgetting, 50 on PinsFace.")
    dampening: float = Field(1.0, gt=0, description="lambda; 1 in the paper, 0.1 on PinsFace.")
    upper: float = Field(1.0, gt=0, description="Largest factor a weight is multiplied by.")
    exponent: float = Field(1.0, gt=0)
    loss: Literal["task", "output_norm"] = Field("task", description="output_norm: needs no labels (LFSSD).")


class SSD(NetMethod):
    """Shrink the weights that matter to the forget rows far more than to all rows; no training."""

    name: ClassVar[str] = "ssd"
    summary: ClassVar[str] = "dampen the weights that the forget rows need more than the others do"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    batch_norm: ClassVar[Literal["train", "eval"]] = "eval"
    approach: ClassVar[str] = "weight importance"
    paper: ClassVar[Paper | None] = Paper(
        "Fast Machine Unlearning without Retraining through Selective Synaptic Dampening",
        "2308.07707",
        "Foster, Schoepf and Brintrup",
        2024,
        "https://github.com/if-loops/selective-synaptic-dampening",
    )
    Config: ClassVar[type[MethodConfig]] = SSDConfig
    config: SSDConfig

    @property
    def labels_read(self) -> LabelNeed:
        """None by the length of the outputs."""
        return "none" if self.config.loss == "output_norm" else "both"

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Measure both importances in evaluation mode and dampen in place."""
        config = self.config
        loss: Loss = output_norm if config.loss == "output_norm" else tools.loss
        net.train(self.mode == "train")
        every: Any = ConcatDataset([data.kept, data.forget])
        full = importances(net, tools.loader(every, shuffle=False, batch_size=config.batch_size), loss)
        forget = importances(net, tools.loader(data.forget, shuffle=False, batch_size=config.batch_size), loss)
        changed = 0
        with torch.no_grad():
            for name, weight in trained(net).items():
                new = dampened(
                    weight,
                    forget[name],
                    full[name],
                    selection=config.selection,
                    dampening=config.dampening,
                    upper=config.upper,
                    exponent=config.exponent,
                )
                changed += int((new != weight).sum())
                weight.copy_(new)
        tools.note(f"Dampened {changed} of {sum(p.numel() for p in trained(net).values())} weights.")
        return net
