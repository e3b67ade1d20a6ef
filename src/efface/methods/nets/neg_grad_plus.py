"""NegGrad+: climb the loss of what must go while descending on what stays.

L = alpha * l_{D_r} - (1 - alpha) * l_{D_f}, over the retain batches of an epoch with the forget batches beside them, again and
again. Named and used as a baseline by Kurmanji et al., Towards Unbounded Machine Unlearning (SCRUB), arXiv 2302.09880; alpha lies
close to 1. Nothing bounds the climb: with a whole class to forget, 0.95 took most of the others with it on FashionMNIST
(docs/results/nets.md).
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from efface.data.net_batches import PairedBatches
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, LabelNeed, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.models.activations import forward

__all__ = ["NegGradPlus", "NegGradPlusConfig"]


class NegGradPlusConfig(GradientConfig):
    """Hyper-parameters of NegGrad+."""

    epochs: int = Field(5, ge=1, description="Passes over the retain rows.")
    learning_rate: float = Field(5e-4, gt=0)
    alpha: float = Field(0.999, gt=0, le=1, description="Weight of the retain loss; 0.95 to 0.9999 in use.")


class NegGradPlus(NetMethod):
    """Climb on the forget rows, descend on the retain rows."""

    name: ClassVar[str] = "neg_grad_plus"
    summary: ClassVar[str] = "gradient ascent on the forget rows with descent on the retain rows"
    paper: ClassVar[Paper | None] = Paper(
        "Towards Unbounded Machine Unlearning", "2302.09880", "Kurmanji, Triantafillou, Hayes, Triantafillou", 2023
    )
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    needs_labels: ClassVar[LabelNeed] = "both"
    approach: ClassVar[str] = "gradient difference"
    Config: ClassVar[type[MethodConfig]] = NegGradPlusConfig
    config: NegGradPlusConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Descend on the weighted difference of the two losses."""
        alpha = self.config.alpha

        def loss(net: nn.Module, batch: Any) -> Tensor:
            (retain_x, retain_y), (forget_x, forget_y) = batch
            kept = tools.loss(forward(net, retain_x), retain_y)
            return alpha * kept - (1 - alpha) * tools.loss(forward(net, forget_x), forget_y)

        retain, forget = (tools.loader(rows, batch_size=self.config.batch_size) for rows in (data.kept, data.forget))
        tools.fit(
            net,
            PairedBatches(retain, forget, cycle_second=True),
            Turn(loss, make_optimizer(net.parameters(), self.config)),
            epochs=self.config.epochs,
            mode=self.mode,
            max_grad_norm=self.config.max_grad_norm,
        )
        return net
