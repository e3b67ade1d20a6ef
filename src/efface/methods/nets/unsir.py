"""Fast Yet Effective Machine Unlearning, Tarun, Chundawat, Mandal and Kankanhalli, TNNLS 2023, arXiv 2111.08947 (UNSIR).

noise:   N by Adam on  - CE(f(N), c) + l2 mean_i ||N_i||^2      (error-maximising noise for a class c, the net frozen)
impair:  one epoch on copies of the noise labelled c and some retain rows of every class
repair:  one epoch on the same retain rows

Forgets whole classes: what it needs of the forget rows is which classes they are. With several classes each gets its own noise;
the original notebook labels all noise with the first class. The noise is not bound to the pixel range, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from efface.errors import InputError, MissingNeed
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.methods.nets.gradients import Loss
from efface.models.activations import forward

__all__ = ["UNSIR", "UNSIRConfig", "noise_loss", "rows_per_class"]


def noise_loss(outputs: Tensor, labels: Tensor, noise: Tensor, loss: Loss, *, l2: float) -> Tensor:
    """Return - CE(f(N), c) + l2 mean_i ||N_i||^2, what the noise descends on."""
    return -loss(outputs, labels) + l2 * noise.flatten(1).square().sum(1).mean()


def rows_per_class(labels: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """Return up to ``count`` random row numbers of every class among ``labels``, (n,)."""
    order = torch.randperm(len(labels), generator=generator)
    flat = labels.reshape(-1)[order]
    chosen: list[int] = []
    for label in flat.unique().tolist():
        chosen += order[flat == label][:count].tolist()
    return chosen


class UNSIRConfig(GradientConfig):
    """Hyper-parameters of UNSIR: those of the bad-teaching and SSD repositories, but for a tenth of their copies of the noise."""

    noise_rows: int = Field(32, ge=1, description="Rows of noise per class.")
    noise_steps: int = Field(25, ge=1)
    noise_learning_rate: float = Field(0.1, gt=0)
    l2: float = Field(0.1, ge=0, description="Weight of the noise's own length.")
    copies: int = Field(8, ge=1, description="Copies of the noise while impairing; 20 of 256 rows or 80 of 32 in published code.")
    retain_per_class: int = Field(500, ge=1, description="Retain rows per class in both epochs.")
    learning_rate: float = Field(1e-4, gt=0, description="Adam, impair; 0.02 in the original notebook.")
    repair_learning_rate: float = Field(1e-4, gt=0, description="0.01 in the original notebook.")


class UNSIR(NetMethod):
    """Impair with noise that a class cannot explain, then repair."""

    name: ClassVar[str] = "unsir"
    summary: ClassVar[str] = "impair with error-maximising noise of the forgotten classes, then repair"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    approach: ClassVar[str] = "noise"
    paper: ClassVar[Paper | None] = Paper(
        "Fast Yet Effective Machine Unlearning",
        "2111.08947",
        "Tarun, Chundawat, Mandal and Kankanhalli",
        2021,
        "https://github.com/vikram2000b/Fast-Machine-Unlearning",
    )
    Config: ClassVar[type[MethodConfig]] = UNSIRConfig
    config: UNSIRConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Make the noise, impair, repair."""
        config = self.config
        if data.forget_labels is None or data.retain_labels is None:
            raise MissingNeed(
                "UNSIR has no labels. It makes noise for the classes that must go and picks retain rows of every class. "
                "Give labels."
            )
        classes = sorted(set(data.forget_labels.reshape(-1).tolist()))
        if set(classes) & set(data.retain_labels.reshape(-1).tolist()):
            raise InputError(
                f"The classes {classes} of the forget rows also stand among the retain rows. UNSIR forgets whole classes. "
                "Forget all rows of a class, or choose another method."
            )
        first = data.forget[0][0]
        if not isinstance(first, Tensor):
            raise InputError("The inputs are not plain tensors. UNSIR learns noise in their shape. Choose another method.")
        made, named = self._noise(net, first, classes, tools)
        noise = TensorDataset(made, named.reshape(-1, *data.retain_labels.shape[1:]))
        retain: Any = Subset(data.kept, rows_per_class(data.retain_labels, config.retain_per_class, tools.generator))
        impair: Any = ConcatDataset([*[noise] * config.copies, retain])
        for rows, rate in ((impair, config.learning_rate), (retain, config.repair_learning_rate)):
            step = Turn(
                lambda net, batch: tools.loss(forward(net, batch[0]), batch[1]),
                make_optimizer(net.parameters(), config, learning_rate=rate),
            )
            batches = tools.loader(rows, batch_size=config.batch_size)
            tools.fit(net, batches, step, epochs=config.epochs, mode=self.mode, max_grad_norm=config.max_grad_norm)
        return net

    def _noise(self, net: nn.Module, like: Tensor, classes: Sequence[int], tools: NetTools) -> tuple[Tensor, Tensor]:
        """Return noise (classes x rows, ...) and its labels, on the CPU."""
        config = self.config
        labels = torch.tensor(list(classes)).repeat_interleave(config.noise_rows)
        start = torch.randn(len(labels), *like.shape, generator=tools.generator)
        noise = nn.Parameter(start.to(tools.device, like.dtype))
        target = labels.to(tools.device)
        flags = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
        net.requires_grad_(False)
        try:
            turn = Turn(
                lambda net, _: noise_loss(forward(net, noise), target, noise, tools.loss, l2=config.l2),
                torch.optim.Adam([noise], lr=config.noise_learning_rate),
            )
            tools.fit(net, [None] * config.noise_steps, turn, mode="eval", label="noise")
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
        return noise.detach().cpu(), labels
