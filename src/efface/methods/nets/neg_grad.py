"""Gradient ascent (NegGrad): climb the loss of the rows that must go.

max over theta of mean_{D_f} l(f(x), y). Defaults: 1e-4 for 5 epochs, as in Unlearn-Sparse (arXiv 2304.04934). The loss has no upper
bound, so that ascent destroys the net when nothing ends it.

Deviation: ascent ends once the loss of a forget batch passes that of guessing (ln K for K classes), beyond which a forget row
stands out instead of fading. ``max_loss=None`` is the published form, which never ends early; for regression there is no such
level, and nothing ends it unless a number is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, LabelNeed, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.models.activations import forward

__all__ = ["NegGrad", "NegGradConfig"]


class NegGradConfig(GradientConfig):
    """Hyper-parameters of gradient ascent."""

    epochs: int = Field(5, ge=1, description="Passes over the forget rows.")
    learning_rate: float = Field(1e-4, gt=0)
    max_loss: float | Literal["guess"] | None = Field(
        "guess", description="Loss of a forget batch at which to end; guess: ln K for K classes, none for other tasks; None: never."
    )


class NegGrad(NetMethod):
    """Climb the loss of the forget rows."""

    name: ClassVar[str] = "neg_grad"
    summary: ClassVar[str] = "gradient ascent on the forget rows"
    paper: ClassVar[Paper | None] = Paper("Eternal Sunshine of the Spotless Net", "1911.04933", "Golatkar, Achille, Soatto", 2019)
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})
    needs_labels: ClassVar[LabelNeed] = "forget"
    approach: ClassVar[str] = "gradient ascent"
    Config: ClassVar[type[MethodConfig]] = NegGradConfig
    config: NegGradConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Ascend on the loss of the forget rows."""
        step = Turn(lambda net, batch: -tools.loss(forward(net, batch[0]), batch[1]), make_optimizer(net.parameters(), self.config))
        tools.fit(
            net,
            tools.loader(data.forget, batch_size=self.config.batch_size),
            step,
            epochs=self.config.epochs,
            mode=self.mode,
            max_grad_norm=self.config.max_grad_norm,
            stop=self._stop(data, tools),
        )
        return net

    def _stop(self, data: NetData, tools: NetTools) -> Callable[[int, float], str | None] | None:
        limit = self.config.max_loss
        if limit == "guess":
            limit = math.log(data.num_classes) if data.task == "classification" and data.num_classes else None
            if limit is None:
                tools.note("Nothing ends the ascent before its last epoch: give max_loss, a loss at which to end.")
        if limit is None:
            return None

        def stop(batches: int, negative_loss: float) -> str | None:
            passed = -negative_loss > limit
            return f"the forget loss ({-negative_loss:.2f}) passed {limit:.2f} after {batches} batches" if passed else None

        return stop
