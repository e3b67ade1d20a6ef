"""Random labels ("amnesiac" relabelling): the forget rows get labels drawn at random and the net is fine-tuned on all rows.

Amnesiac Machine Learning, Graves, Nagisetty and Ganesh 2021, arXiv 2010.10981, names the relabelling; the two ways it is coded:

- drawn once from the OTHER classes and mixed with the retain rows (bad-teaching and SSD repositories; the default);
- drawn anew for every batch with the true label not excluded, each epoch going through the forget rows first and then the retain
  rows (Unlearn-Saliency on CIFAR-10 and SVHN; ``variant="reference"``).

The labels of the forget rows are replaced; where they are unknown, ``exclude_true=False`` draws from all classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from efface.data.net_batches import Relabelled
from efface.errors import MissingNeed
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, LabelNeed, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.methods.nets.gradients import size
from efface.models.activations import forward

__all__ = ["RandomLabel", "RandomLabelConfig", "other_labels"]


def other_labels(labels: Tensor | None, rows: int, num_classes: int, generator: torch.Generator) -> Tensor:
    """Return a label per row, uniform over the classes but the row's own where ``labels`` gives it, (rows,) int64.

    Args:
        labels: True labels, (rows,), or None.
        rows: How many labels to draw.
        num_classes: K; the labels are 0 to K - 1.
        generator: Source of the draws.
    """
    if labels is None:
        return torch.randint(num_classes, (rows,), generator=generator)
    shift = torch.randint(1, num_classes, (rows,), generator=generator)
    return (labels.reshape(-1).long() + shift) % num_classes


class RandomLabelConfig(GradientConfig):
    """Hyper-parameters of random labels."""

    epochs: int = Field(3, ge=1)
    learning_rate: float = Field(1e-4, gt=0, description="Adam; 1e-4 in the bad-teaching and SSD repositories.")
    exclude_true: bool = Field(True, description="Never draw a row's own label; needs the labels of the forget rows.")
    variant: Literal["default", "reference"] = Field(
        "default", description="reference: new labels for every batch, forget rows first."
    )


class RandomLabel(NetMethod):
    """Teach the net wrong labels for what must go, and the right ones for the rest."""

    name: ClassVar[str] = "random_label"
    summary: ClassVar[str] = "fine-tuning with random labels on the forget rows"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    approach: ClassVar[str] = "relabelling"
    paper: ClassVar[Paper | None] = Paper("Amnesiac Machine Learning", "2010.10981", "Graves, Nagisetty and Ganesh", 2021)
    Config: ClassVar[type[MethodConfig]] = RandomLabelConfig
    config: RandomLabelConfig

    @property
    def labels_read(self) -> LabelNeed:
        """The forget rows' labels only where they are left out of the draw."""
        return "both" if self.config.exclude_true and self.config.variant == "default" else "retain"

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Fine-tune on the relabelled forget rows and the retain rows."""
        classes = require_classes(data, self.name)
        optimizer = make_optimizer(net.parameters(), self.config)
        step = Turn(lambda net, batch: tools.loss(forward(net, batch[0]), batch[1]), optimizer)
        batches: Any
        if self.config.variant == "reference":
            batches = _ForgetFirst(data, tools, classes, self.config.batch_size)
        else:
            known = data.forget_labels if self.config.exclude_true else None
            drawn = other_labels(known, len(data.forget), classes, tools.generator)
            labels = drawn.reshape(-1, *data.labels("retain").shape[1:])
            mixed: Any = ConcatDataset([Relabelled(data.forget, labels), data.kept])
            batches = tools.loader(mixed, batch_size=self.config.batch_size)
        tools.fit(net, batches, step, epochs=self.config.epochs, mode=self.mode, max_grad_norm=self.config.max_grad_norm)
        return net


class _ForgetFirst:
    """All forget batches under labels drawn for each of them, then all retain batches."""

    def __init__(self, data: NetData, tools: NetTools, classes: int, batch_size: int | None) -> None:
        self.generator, self.classes = tools.generator, classes
        self.forget = tools.loader(data.forget, batch_size=batch_size)
        self.retain = tools.loader(data.kept, batch_size=batch_size)

    def __len__(self) -> int:
        return len(self.forget) + len(self.retain)

    def __iter__(self) -> Iterator[Any]:
        for x, _ in self.forget:
            yield x, other_labels(None, size(x), self.classes, self.generator)
        yield from self.retain


def require_classes(data: NetData, method: str) -> int:
    """Return the number of classes.

    Raises:
        MissingNeed: When it is not known.
    """
    if data.num_classes is None:
        raise MissingNeed(
            f"The method {method} draws among the classes, and their number is not known. It is read from the labels or given. "
            "Give labels, or num_classes in the problem."
        )
    return data.num_classes
