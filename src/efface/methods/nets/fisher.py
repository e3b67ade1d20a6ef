"""Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks, Golatkar, Achille and Soatto 2020, arXiv 1911.04933.

theta <- theta_0 + N(0, alpha / (F + 1e-8)),  F_p = mean_x sum_y p(y | x) (d CE(x, y) / d p)^2  over the retain rows.

Noise goes where the retain rows do not notice it. The variance is kept in bounds as published code does (OPTML-Group,
``Classification/unlearn/fisher.py``): 1/F at most 1e3 and 1e2 in the output layer, weight tensors by their mean over dimension 1,
ten times as much in the output layer and in one-dimensional tensors; with a whole class forgotten, its row of the output layer
becomes noise around 0. That code squares the gradient of the mean of 32 rows, which is some 32 times too small
(``batch_fisher=True``); the default squares one gradient per row.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import LabelNeed, NetConfig, NetData, NetMethod, NetTools
from efface.methods.nets.gradients import (
    Batches,
    Gradients,
    batch_gradients,
    chunks,
    per_sample_gradients,
    placed,
    size,
    trained,
)
from efface.methods.nets.random_label import require_classes
from efface.models.activations import forward

__all__ = ["Fisher", "FisherConfig", "batch_fisher_diagonal", "fisher_diagonal", "noise_variance"]

LARGEST_INVERSE = 1e3
LARGEST_INVERSE_OUTPUT = 1e2
FLOOR = 1e-8
CLASS_ROW_VARIANCE = 1e-4
HEAD_FACTOR = 10.0
CHUNK = 64
"""Rows whose gradients are held at once."""


def fisher_diagonal(net: nn.Module, batches: Batches, num_classes: int) -> Gradients:
    """Return mean_x sum_y p(y | x) (d CE(x, y) / d p)^2, one gradient per row and class; the labels are not read."""
    total = {name: torch.zeros_like(tensor) for name, tensor in trained(net).items()}
    rows = 0
    for x, _ in (part for inputs, _ in placed(batches, net) for part in chunks((inputs, torch.zeros(size(inputs))), CHUNK)):
        with torch.no_grad():
            probabilities = forward(net, x).softmax(-1)  # (B, K)
        rows += size(x)
        for label in range(num_classes):
            target = torch.full((size(x),), label, device=probabilities.device)
            for name, gradient in per_sample_gradients(net, x, target, F.cross_entropy).items():
                weight = probabilities[:, label].view(-1, *[1] * (gradient.dim() - 1))
                total[name] += (weight * gradient.pow(2)).sum(0)
    return {name: value / rows for name, value in total.items()}


def batch_fisher_diagonal(net: nn.Module, batches: Batches, num_classes: int) -> Gradients:
    """Return what published code computes: per batch the squared gradient of the batch mean times the mean probability."""
    total = {name: torch.zeros_like(tensor) for name, tensor in trained(net).items()}
    number = 0
    for x, _ in placed(batches, net):
        number += 1
        with torch.no_grad():
            probabilities = forward(net, x).softmax(-1)
        for label in range(num_classes):
            target = torch.full((size(x),), label, device=probabilities.device)
            _, gradients = next(batch_gradients(net, [(x, target)], F.cross_entropy))
            for name, gradient in gradients.items():
                total[name] += probabilities[:, label].mean() * gradient.pow(2)
    return {name: value / number for name, value in total.items()}


def noise_variance(fisher: Tensor, *, alpha: float, num_classes: int, forgotten: tuple[int, ...] = ()) -> Tensor:
    """Return the variance of the noise for one tensor, in the shape of ``fisher``.

    Args:
        fisher: F of the tensor's entries.
        alpha: Strength.
        num_classes: K; a tensor whose first dimension is K is taken for the output layer.
        forgotten: Classes forgotten as a whole, whose rows of the output layer are replaced by noise.
    """
    is_output = fisher.dim() > 0 and fisher.shape[0] == num_classes
    inverse = (1.0 / (fisher + FLOOR)).clamp(max=LARGEST_INVERSE)
    if is_output:
        inverse = inverse.clamp(max=LARGEST_INVERSE_OUTPUT)
    variance = alpha * inverse
    if variance.dim() > 1:
        variance = variance.mean(1, keepdim=True).expand_as(variance).clone()
    if is_output and forgotten:
        variance[list(forgotten)] = CLASS_ROW_VARIANCE
    return variance * HEAD_FACTOR if is_output or variance.dim() <= 1 else variance


class FisherConfig(NetConfig):
    """Hyper-parameters of Fisher forgetting."""

    alpha: float = Field(1e-6, gt=0, description="Strength of the noise; 1e-6 in the SSD repository, 3e-6 in Unlearn-Saliency's.")
    batch_fisher: bool = Field(False, description="Square the gradient of each batch's mean, as published code does with 32 rows.")
    reset_classes: bool = Field(True, description="Replace the output rows of classes that go as a whole; reads the labels.")


class Fisher(NetMethod):
    """Add noise where the retain rows do not notice it; no training."""

    name: ClassVar[str] = "fisher"
    summary: ClassVar[str] = "noise on the weights that the retain rows do not need"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    batch_norm: ClassVar[Literal["train", "eval"]] = "eval"
    approach: ClassVar[str] = "noise"
    paper: ClassVar[Paper | None] = Paper(
        "Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks",
        "1911.04933",
        "Golatkar, Achille and Soatto",
        2020,
    )
    Config: ClassVar[type[MethodConfig]] = FisherConfig
    config: FisherConfig

    @property
    def labels_read(self) -> LabelNeed:
        """The labels only to see whether whole classes go."""
        return "both" if self.config.reset_classes else "none"

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Measure the Fisher matrix on the retain rows and draw the noise."""
        classes = require_classes(data, self.name)
        net.train(self.mode == "train")
        batches: Any = tools.loader(data.kept, shuffle=False, batch_size=self.config.batch_size)
        measure = batch_fisher_diagonal if self.config.batch_fisher else fisher_diagonal
        fisher = measure(net, batches, classes)
        forgotten = whole_classes(data)
        with torch.no_grad():
            for name, weight in trained(net).items():
                variance = noise_variance(fisher[name], alpha=self.config.alpha, num_classes=classes, forgotten=forgotten)
                if weight.dim() > 0 and weight.shape[0] == classes and forgotten:
                    weight[list(forgotten)] = 0
                noise = torch.randn(weight.shape, generator=tools.generator, dtype=weight.dtype)
                weight.add_(variance.sqrt() * noise.to(weight.device))
        return net


def whole_classes(data: NetData) -> tuple[int, ...]:
    """Return the classes that stand among the forget rows and no longer among the retain rows; none where labels are missing."""
    if data.forget_labels is None or data.retain_labels is None:
        return ()
    gone = set(data.forget_labels.reshape(-1).tolist()) - set(data.retain_labels.reshape(-1).tolist())
    return tuple(sorted(int(label) for label in gone))
