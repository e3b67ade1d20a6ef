"""Gaussian amnesiac learning: the targets of what must go are replaced by draws from a Gaussian, and the net is fine-tuned on all.

Deep Regression Unlearning, Tarun, Chundawat, Mandal, Kankanhalli, ICML 2023, arXiv 2210.08196, its baseline; code:
ayu987/deep-regression-unlearning.

    y'_i ~ N(mu, s^2) for i in D_f, mu and s (n - 1 in the denominator) of ALL training targets; one draw for the whole run

It pulls predictions towards the mean, where a retrained net extrapolates, and overshoots for targets at the edge.

Options beyond the paper: ``clip`` to the range of the targets, ``redraw`` each epoch, ``statistics="retain"``, by which no
statistic of the forget rows leaks into the net (and their labels are not read).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from efface.data.net_batches import Relabelled
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, LabelNeed, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.models.activations import forward

__all__ = ["GaussianAmnesiac", "GaussianAmnesiacConfig", "gaussian_targets"]


def gaussian_targets(targets: Tensor, noise: Tensor, *, clip: bool = False) -> Tensor:
    """Return draws from N(mu, s^2) with the mean and standard deviation (n - 1) of ``targets``.

    Args:
        targets: What the statistics are of, (n, ...), one per output.
        noise: Standard normal draws, (n_f, ...).
        clip: Whether the draws are kept within the range of ``targets``.
    """
    drawn = targets.mean(0) + targets.std(0, unbiased=True) * noise
    return torch.minimum(torch.maximum(drawn, targets.amin(0)), targets.amax(0)) if clip else drawn


class GaussianAmnesiacConfig(GradientConfig):
    """Hyper-parameters of Gaussian amnesiac learning."""

    epochs: int = Field(1, ge=1, description="Passes over all rows; the paper's code: 1 (images), 5 (text).")
    clip: bool = Field(False, description="Keep the draws within the range of the targets.")
    redraw: bool = Field(False, description="Draw anew in each epoch.")
    statistics: Literal["all", "retain"] = Field("all", description="Whose mean and deviation; all: as in the paper's code.")


class GaussianAmnesiac(NetMethod):
    """Fine-tune on all rows, those that must go under random targets."""

    name: ClassVar[str] = "gaussian_amnesiac"
    summary: ClassVar[str] = "fine-tuning with Gaussian draws as targets of the forget rows"
    paper: ClassVar[Paper | None] = Paper(
        "Deep Regression Unlearning",
        "2210.08196",
        "Tarun, Chundawat, Mandal, Kankanhalli",
        2023,
        "https://github.com/ayu987/deep-regression-unlearning",
    )
    tasks: ClassVar[frozenset[str]] = frozenset({"regression", "forecasting"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    needs_labels: ClassVar[LabelNeed] = "both"
    approach: ClassVar[str] = "relabelling"
    Config: ClassVar[type[MethodConfig]] = GaussianAmnesiacConfig
    config: GaussianAmnesiacConfig

    @property
    def labels_read(self) -> LabelNeed:
        """Those of the forget rows are read for the statistics of all rows only."""
        return "both" if self.config.statistics == "all" else "retain"

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Fine-tune on all rows under the new targets."""
        settings = self.config
        step = Turn(lambda net, batch: tools.loss(forward(net, batch[0]), batch[1]), make_optimizer(net.parameters(), settings))
        rounds = settings.epochs if settings.redraw else 1
        for _ in range(rounds):
            batches = tools.loader(self._rows(data, tools), batch_size=settings.batch_size)
            tools.fit(
                net,
                batches,
                step,
                epochs=settings.epochs // rounds,
                mode=self.mode,
                max_grad_norm=settings.max_grad_norm,
            )
        return net

    def _rows(self, data: NetData, tools: NetTools) -> Any:
        retain = data.labels("retain")
        targets = torch.cat([retain, data.labels("forget")]) if self.config.statistics == "all" else retain
        noise = torch.randn((len(data.forget), *retain.shape[1:]), generator=tools.generator, dtype=torch.float64)
        if not retain.is_floating_point():  # whole numbers would cut the draws off
            retain = retain.to(torch.get_default_dtype())
        drawn = gaussian_targets(targets.double(), noise, clip=self.config.clip).to(retain.dtype)
        return ConcatDataset([Relabelled(data.forget, drawn), Relabelled(data.kept, retain)])
