"""Boundary expanding (Boundary Unlearning, Chen et al., CVPR 2023, arXiv 2303.11570): a class of their own for what must go.

The output layer gets a (K+1)-th row, the net is fine-tuned on the forget rows with label K+1, and the row is taken out again; a
published copy (Unlearn-Saliency) forgets the last step, and its net still has K+1 classes. No retain row and no label is read, and
retained classes suffer.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from efface.errors import InputError
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, LabelNeed, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.methods.nets.boundary_shrink import PAPER
from efface.methods.nets.gradients import placed
from efface.models.activations import forward

__all__ = ["BoundaryExpand", "BoundaryExpandConfig", "narrowed", "widened"]


def widened(head: nn.Linear, generator: torch.Generator) -> nn.Linear:
    """Return the output layer with one more row, drawn as ``nn.Linear`` draws its weights; the other rows are kept."""
    wide = nn.Linear(head.in_features, head.out_features + 1, bias=head.bias is not None).to(head.weight)
    bound = head.in_features**-0.5
    with torch.no_grad():
        row = (2 * torch.rand(head.in_features, generator=generator) - 1) * bound
        wide.weight.copy_(torch.cat([head.weight, row.to(head.weight)[None]]))
        if head.bias is not None:
            last = (2 * torch.rand(1, generator=generator) - 1) * bound
            wide.bias.copy_(torch.cat([head.bias, last.to(head.bias)]))
    return wide


def narrowed(wide: nn.Linear, head: nn.Linear) -> None:
    """Write all but the last row of ``wide`` into ``head``."""
    with torch.no_grad():
        head.weight.copy_(wide.weight[:-1])
        if head.bias is not None:
            head.bias.copy_(wide.bias[:-1])


class BoundaryExpandConfig(GradientConfig):
    """Hyper-parameters of boundary expanding."""

    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(1e-5, gt=0)


class BoundaryExpand(NetMethod):
    """Send the forget rows to a class that is removed afterwards."""

    name: ClassVar[str] = "boundary_expand"
    summary: ClassVar[str] = "teach the forget rows a new class, then take the class out"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})
    needs_labels: ClassVar[LabelNeed] = "none"
    approach: ClassVar[str] = "decision boundary"
    paper: ClassVar[Paper | None] = PAPER
    Config: ClassVar[type[MethodConfig]] = BoundaryExpandConfig
    config: BoundaryExpandConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Widen the head, fine-tune on the forget rows, narrow it again."""
        batches = tools.loader(data.forget, batch_size=self.config.batch_size)
        first = next(placed(batches, net))[0]
        name = tools.split(net).head_name(first)
        parent, _, child = name.rpartition(".")
        owner = net.get_submodule(parent)
        head = getattr(owner, child)
        if not isinstance(head, nn.Linear):
            raise InputError(
                f"The head {name!r} is a {type(head).__name__}. Boundary expanding adds an output to a linear layer. Name the last "
                "nn.Linear as the head, or choose another method."
            )
        classes = head.out_features
        wide = widened(head, tools.generator)
        setattr(owner, child, wide)
        try:

            def loss(net: nn.Module, batch: Any) -> Tensor:
                outputs = forward(net, batch[0])
                return tools.loss(outputs, torch.full((len(outputs),), classes, device=outputs.device))

            turn = Turn(loss, make_optimizer(net.parameters(), self.config))
            tools.fit(net, batches, turn, epochs=self.config.epochs, mode=self.mode, max_grad_norm=self.config.max_grad_norm)
        finally:
            setattr(owner, child, head)
        narrowed(wide, head)
        return net
