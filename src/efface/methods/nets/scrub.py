"""Towards Unbounded Machine Unlearning, Kurmanji, Triantafillou, Hayes and Triantafillou, NeurIPS 2023, arXiv 2302.09880.

max-step (epochs <= msteps), on forget batches:   minimise  - KL(theta_0 || f)
min-step (every epoch), on retain batches:        minimise    alpha KL(theta_0 || f) + gamma CE

with KL = T^2 KL_batchmean(softmax(z_0/T) || softmax(z/T)). SCRUB+R (``rewind=True``) goes back to the checkpoint, one per epoch,
whose error on the forget rows is nearest to the error that the net ends with on validation rows of the same classes: forgetting no
further than a net that never saw them. Written from the paper; the authors' code is for non-commercial use and was not used.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from efface.errors import MissingNeed
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.methods.nets.gradients import placed
from efface.models.activations import as_in_use, forward

__all__ = ["SCRUB", "SCRUBConfig", "distillation_kl"]


def distillation_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), averaged over the batch; logits are (B, K)."""
    log_student = (student / temperature).log_softmax(-1)
    target = (teacher / temperature).softmax(-1)
    return temperature**2 * F.kl_div(log_student, target, reduction="batchmean")


class SCRUBConfig(GradientConfig):
    """Hyper-parameters of SCRUB: those of the paper's small-scale setting, without its weight decay and batch sizes."""

    epochs: int = Field(5, ge=1, description="Min-steps; 5 to 10 small, 3 large.")
    max_epochs: int = Field(3, ge=0, description="msteps: epochs that begin with a max-step; 3 small, 2 large.")
    learning_rate: float = Field(5e-4, gt=0, description="Adam small, SGD with momentum 0.9 large.")
    weight_decay: float = Field(0.0, ge=0, description="0.1 small, 5e-4 large in the paper's settings.")
    alpha: float = Field(0.5, ge=0, description="Weight of the distillation on retain rows; 0.001 large.")
    gamma: float = Field(1.0, ge=0, description="Weight of the cross entropy on retain rows; 0.99 large.")
    temperature: float = Field(4.0, gt=0)
    forget_batch_size: int | None = Field(None, ge=1, description="None: as the retain batches.")
    rewind: bool = Field(False, description="SCRUB+R: keep the epoch whose forget error is nearest to the final validation error.")


class SCRUB(NetMethod):
    """Disobey the original net on the forget rows and obey it elsewhere, in turn."""

    name: ClassVar[str] = "scrub"
    summary: ClassVar[str] = "max-steps away from the original on forget rows, min-steps towards it on retain rows"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    approach: ClassVar[str] = "distillation"
    paper: ClassVar[Paper | None] = Paper(
        "Towards Unbounded Machine Unlearning", "2302.09880", "Kurmanji, Triantafillou, Hayes and Triantafillou", 2023
    )
    Config: ClassVar[type[MethodConfig]] = SCRUBConfig
    config: SCRUBConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Take max-steps and min-steps in turn; with ``rewind`` go back to the best epoch."""
        config, teacher = self.config, copy.deepcopy(net)
        forget = tools.loader(data.forget, batch_size=config.forget_batch_size or config.batch_size)
        retain = tools.loader(data.kept, batch_size=config.batch_size)
        optimizer = make_optimizer(net.parameters(), config)

        def divergence(net: nn.Module, x: Any) -> tuple[Tensor, Tensor]:
            with as_in_use(teacher):
                taught = forward(teacher, x)
            outputs = forward(net, x)
            return outputs, distillation_kl(outputs, taught, config.temperature)

        def max_loss(net: nn.Module, batch: Any) -> Tensor:
            return -divergence(net, batch[0])[1]

        def min_loss(net: nn.Module, batch: Any) -> Tensor:
            outputs, kl = divergence(net, batch[0])
            return config.alpha * kl + config.gamma * tools.loss(outputs, batch[1])

        alike = self._validation(data) if config.rewind else None
        checkpoints: list[tuple[float, dict[str, Tensor]]] = []
        for epoch in range(config.epochs):
            if epoch < config.max_epochs:
                tools.fit(net, forget, Turn(max_loss, optimizer), mode=self.mode, max_grad_norm=config.max_grad_norm)
            tools.fit(net, retain, Turn(min_loss, optimizer), mode=self.mode, max_grad_norm=config.max_grad_norm)
            if alike is not None:
                checkpoints.append((error_rate(net, data.forget, tools), copy.deepcopy(net.state_dict())))
        if alike is not None:
            goal = error_rate(net, alike, tools)
            net.load_state_dict(min(checkpoints, key=lambda checkpoint: abs(checkpoint[0] - goal))[1])
        return net

    def _validation(self, data: NetData) -> Any:
        """Return the validation rows of the classes that are forgotten."""
        classes = set() if data.forget_labels is None else set(data.forget_labels.reshape(-1).tolist())
        rows = [] if data.validation is None else [row for row in data.validation if int(row[1]) in classes]
        if not rows:
            raise MissingNeed(
                "SCRUB+R (rewind) has no validation rows of the forgotten classes. It goes back to the epoch whose forget error is "
                "nearest to theirs. Give the problem a validation set, or leave rewind out."
            )
        return rows


def error_rate(net: nn.Module, rows: Any, tools: NetTools) -> float:
    """Return the share of rows whose class is missed, in [0, 1]."""
    wrong = total = 0
    with as_in_use(net):
        for x, y in placed(tools.loader(rows, shuffle=False), net):
            wrong += int((forward(net, x).argmax(-1) != y.reshape(-1)).sum())
            total += len(y)
    return wrong / total
