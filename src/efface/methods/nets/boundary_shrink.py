"""Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the Decision Boundary, Chen et al., CVPR 2023.

arXiv 2303.11570. Boundary shrink: each forget row is taught the nearest WRONG class,

x' = clamp(x + eps sign(grad_x CE(theta_0; x, y)), 0, 1) rounded to 1/255;   label' = argmax theta_0(x')

No retain row is read, and retained classes suffer. Inputs must be plain images in [0, 1], normalised inside the net; other inputs
are refused. Where one step does not leave the true class, the paper's code trains on the true label (``drop_failed=False``);
by default the step is repeated up to ``attempts`` times and what still fails is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from efface.errors import InputError
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, LabelNeed, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.methods.nets.gradients import placed
from efface.models.activations import forward

__all__ = ["BoundaryShrink", "BoundaryShrinkConfig", "fgsm"]

PAPER = Paper(
    "Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the Decision Boundary",
    "2303.11570",
    "Chen, Gao, Liu, Peng and Wang",
    2023,
)


def fgsm(net: nn.Module, x: Tensor, y: Tensor, *, bound: float, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return one fast-gradient-sign step on images in [0, 1], clamped and rounded to 1/255, (B, ...)."""
    moved = x.detach().clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(forward(net, moved), y), moved)
    return ((x + bound * gradient.sign()).clamp(0, 1) * 255).round() / 255


class BoundaryShrinkConfig(GradientConfig):
    """Hyper-parameters of boundary shrinking."""

    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(1e-5, gt=0)
    bound: float = Field(0.1, gt=0, le=1, description="eps: step per pixel; 0.1 in the paper's code.")
    attempts: int = Field(5, ge=1, description="Steps until the true class is left.")
    drop_failed: bool = Field(
        True, description="Drop rows that keep their class; false trains on the true label, as published code does."
    )


class BoundaryShrink(NetMethod):
    """Move each forget row to the nearest other class."""

    name: ClassVar[str] = "boundary_shrink"
    summary: ClassVar[str] = "teach each forget row the nearest wrong class"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})
    needs_labels: ClassVar[LabelNeed] = "forget"
    approach: ClassVar[str] = "decision boundary"
    paper: ClassVar[Paper | None] = PAPER
    Config: ClassVar[type[MethodConfig]] = BoundaryShrinkConfig
    config: BoundaryShrinkConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Find the nearest wrong classes of the original net, then fine-tune on them."""
        config = self.config
        net.eval()
        inputs, labels, failed = [], [], 0
        for x, y in placed(tools.loader(data.forget, shuffle=False, batch_size=config.batch_size), net):
            require_images(x)
            found = self._nearest(net, x, y.reshape(-1).long(), tools)
            kept = found != y.reshape(-1) if config.drop_failed else torch.ones_like(found, dtype=torch.bool)
            failed += int((~kept).sum())
            inputs.append(x[kept].cpu())
            labels.append(found[kept].cpu())
        rows = TensorDataset(torch.cat(inputs), torch.cat(labels))
        if failed:
            tools.note(f"Boundary shrink found no other class near {failed} forget rows and left them out.")
        if not len(rows):
            raise InputError(
                f"None of the {failed} forget rows leaves its class within {config.attempts} steps of {config.bound:g}. Boundary "
                "shrink needs a class nearby. Raise bound or attempts."
            )
        step = Turn(lambda net, batch: tools.loss(forward(net, batch[0]), batch[1]), make_optimizer(net.parameters(), config))
        batches = tools.loader(rows, batch_size=config.batch_size)
        tools.fit(net, batches, step, epochs=config.epochs, mode=self.mode, max_grad_norm=config.max_grad_norm)
        return net

    def _nearest(self, net: nn.Module, x: Tensor, y: Tensor, tools: NetTools) -> Tensor:
        moved, found = x, y
        for _ in range(self.config.attempts if self.config.drop_failed else 1):
            moved = fgsm(net, moved, y, bound=self.config.bound, loss=tools.loss)
            with torch.no_grad():
                found = torch.where(found == y, forward(net, moved).argmax(-1), found)
            if bool((found != y).all()):
                break
        return found


def require_images(x: Any) -> None:
    """Refuse inputs that are no tensor in [0, 1].

    Raises:
        InputError: When they are not.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or bool((x < 0).any()) or bool((x > 1).any()):
        raise InputError(
            "The inputs are not images in [0, 1]. Boundary shrink moves pixels and rounds them to 1/255. Normalise inside the net "
            "and give plain images, or choose another method."
        )
