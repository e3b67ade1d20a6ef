"""Fine-tuning: go on training on the rows that stay, and let the rest fade.

min over theta of mean_{D_r} l(f(x), y). The field's first baseline, and a strong one on small nets: two passes can erase a class.
Defaults: Adam 0.001 for 5 epochs, as in the code of Deep Regression Unlearning (arXiv 2210.08196); Unlearn-Saliency's are SGD 0.01,
momentum 0.9, weight decay 5e-4, 10 epochs, batch 256.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn

from efface.methods.base import MethodConfig, Need
from efface.methods.nets.base import GradientConfig, LabelNeed, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.models.activations import forward

__all__ = ["FineTune", "FineTuneConfig"]


class FineTuneConfig(GradientConfig):
    """Hyper-parameters of fine-tuning."""

    epochs: int = Field(5, ge=1, description="Passes over the retain rows.")


class FineTune(NetMethod):
    """Go on training on the retain rows."""

    name: ClassVar[str] = "fine_tune"
    summary: ClassVar[str] = "further training on the retain rows"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    needs_labels: ClassVar[LabelNeed] = "retain"
    approach: ClassVar[str] = "catastrophic forgetting"
    Config: ClassVar[type[MethodConfig]] = FineTuneConfig
    config: FineTuneConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Descend on the loss of the retain rows."""
        step = Turn(lambda net, batch: tools.loss(forward(net, batch[0]), batch[1]), make_optimizer(net.parameters(), self.config))
        tools.fit(
            net,
            tools.loader(data.kept, batch_size=self.config.batch_size),
            step,
            epochs=self.config.epochs,
            mode=self.mode,
            max_grad_norm=self.config.max_grad_norm,
        )
        return net
