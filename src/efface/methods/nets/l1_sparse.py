"""Model Sparsity Can Simplify Machine Unlearning, Jia et al., NeurIPS 2023, arXiv 2304.04934.

L = CE(retain) + a_t ||theta||_1,  a_t = a (1 - t / (E - E_0)) for the epochs t < E - E_0, and 0 in the last E_0 epochs.

Fine-tuning on the retain rows with a penalty that lets go of weights only the forget rows need. All parameters are penalised,
biases and BatchNorm included, as in the reference code (OPTML-Group/Unlearn-Sparse). ``prune`` first sets the smallest weights to
zero in one shot and keeps them there ("prune first, then unlearn").
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.methods.nets.gradients import flatten, trained, unflatten
from efface.models.activations import forward

__all__ = ["L1Sparse", "L1SparseConfig", "magnitude_mask", "penalty_weight"]


def penalty_weight(alpha: float, epoch: int, *, epochs: int, plain_epochs: int) -> float:
    """Return a_t, which falls in a line to 0 and stays there for the last ``plain_epochs`` epochs."""
    falling = epochs - plain_epochs
    return alpha * (1 - epoch / falling) if epoch < falling else 0.0


def magnitude_mask(weights: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
    """Return 1 for the weights to keep: the largest share 1 - ``rate`` over all tensors of two or more dimensions."""
    matrices = {name: weight for name, weight in weights.items() if weight.dim() > 1}
    every = flatten(matrices).detach().abs()
    kept = torch.ones_like(every)
    kept[every.argsort(stable=True)[: int(rate * len(every))]] = 0  # a threshold would drop all that tie with it
    return unflatten(kept, matrices)


class L1SparseConfig(GradientConfig):
    """Hyper-parameters of l1-sparse unlearning."""

    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(0.01, gt=0, description="SGD with momentum 0.9; 0.01 in the paper's code.")
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    alpha: float = Field(5e-4, ge=0, description="a: weight of the penalty in the first epoch.")
    plain_epochs: int = Field(0, ge=0, description="E_0: epochs at the end without a penalty.")
    prune: float = Field(0.0, ge=0, lt=1, description="Share of the smallest weights set to zero beforehand; 0.95 in the paper.")


class L1Sparse(NetMethod):
    """Fine-tune on the retain rows with a fading l1 penalty."""

    name: ClassVar[str] = "l1_sparse"
    summary: ClassVar[str] = "fine-tuning on the retain rows with a fading l1 penalty"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    needs_labels: ClassVar[Literal["none", "forget", "retain", "both"]] = "retain"
    approach: ClassVar[str] = "sparsity"
    paper: ClassVar[Paper | None] = Paper(
        "Model Sparsity Can Simplify Machine Unlearning",
        "2304.04934",
        "Jia, Liu, Ram, Yao, Liu, Liu, Sharma and Liu",
        2023,
        "https://github.com/OPTML-Group/Unlearn-Sparse",
    )
    Config: ClassVar[type[MethodConfig]] = L1SparseConfig
    config: L1SparseConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Prune if asked, then fine-tune with the penalty of the epoch."""
        config = self.config
        if config.prune:
            parameters = trained(net)
            masks = magnitude_mask(parameters, config.prune)
            with torch.no_grad():
                for name, mask in masks.items():
                    parameters[name].mul_(mask)
            tools = tools.masked({parameters[name]: mask for name, mask in masks.items()})
        epoch = 0

        def loss(net: nn.Module, batch: Any) -> Tensor:
            weight = penalty_weight(config.alpha, epoch, epochs=config.epochs, plain_epochs=config.plain_epochs)
            plain = tools.loss(forward(net, batch[0]), batch[1])
            return plain if weight == 0 else plain + weight * torch.stack([p.abs().sum() for p in trained(net).values()]).sum()

        def next_epoch(done: int) -> None:
            nonlocal epoch
            epoch = done

        tools.fit(
            net,
            tools.loader(data.kept, batch_size=config.batch_size),
            Turn(loss, make_optimizer(net.parameters(), config)),
            epochs=config.epochs,
            mode=self.mode,
            max_grad_norm=config.max_grad_norm,
            after_epoch=next_epoch,
        )
        return net
