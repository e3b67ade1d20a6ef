"""What a method for ordinary nets is handed: loaders, the loop, fresh nets, and a place to tell what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from efface.data.net_batches import RowBatches
from efface.data.problem import NetTraining
from efface.errors import MissingNeed
from efface.methods.nets.base import Fitted, Turn
from efface.models.activations import Activations, SplitNet
from efface.models.net_losses import NetLoss
from efface.results import PathPoint
from efface.train.net import accelerator, fit
from efface.train.net_recipe import train_recipe

__all__ = ["Diary", "Tools"]

_FRESH_STRIDE = 7919  # apart from the seeds of the original and the retrained, which are small numbers


@dataclass
class Diary:
    """What happened during a method: the path, notes, steps, and what loaders draw their seeds from.

    Attributes:
        path: Points of the path drawn in the report.
        notes: What a reader must know.
        steps: Optimiser steps so far.
        loaders: Loaders handed out so far; each has a seed of its own.
        stopped: Why the last training ended.
    """

    path: list[PathPoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: int = 0
    loaders: int = 0
    stopped: str = "completed"


@dataclass(frozen=True)
class Tools:
    """The engine's side of :class:`efface.methods.nets.base.NetTools`.

    Attributes:
        seed: Unlearning seed.
        generator: Where a method draws from, on the CPU.
        batch_size: Rows per batch unless a loader is asked for another number.
        loss: The loss of the problem.
        make_model: Seed -> freshly initialised net; None where it is not known how to make one.
        recipe: How the original was trained; None where it is not known.
        validation: Rows for the recipe's early stopping.
        head: Name of the head.
        activation_names: Names of the modules whose activations are compared.
        score: Score of a net, lower is better, for methods that choose among several.
        masks: Weights that must stay where they are.
        diary: What happened.
        progress: Told of (stage, done, in all).
    """

    seed: int
    generator: torch.Generator
    batch_size: int
    loss: NetLoss
    make_model: Callable[[int], nn.Module] | None = None
    recipe: NetTraining | None = None
    validation: Any = None
    head: str | None = None
    activation_names: tuple[str, ...] | None = None
    score: Callable[[nn.Module], float] | None = None
    masks: Mapping[Tensor, Tensor] | None = None
    diary: Diary = field(default_factory=Diary)
    progress: Callable[[str, int, int], None] | None = None

    @property
    def device(self) -> torch.device:
        """Where nets are trained."""
        device: torch.device = accelerator().device
        return device

    def loader(self, dataset: Any, *, shuffle: bool = True, batch_size: int | None = None, drop_last: bool = False) -> RowBatches:
        """Return batches of ``(x, y)``; see :class:`~efface.methods.nets.base.NetTools`."""
        self.diary.loaders += 1
        seed = self.seed * 1_000_003 + self.diary.loaders if shuffle else None
        return RowBatches(dataset, batch_size=batch_size or self.batch_size, seed=seed, drop_last=drop_last)

    def fit(
        self,
        net: nn.Module,
        batches: Iterable[Any],
        turns: Turn | Sequence[Turn],
        *,
        epochs: int = 1,
        max_steps: int | None = None,
        mode: Literal["train", "eval"] = "train",
        max_grad_norm: float = 0.0,
        schedule: Callable[[float], float] | None = None,
        after_backward: Callable[[nn.Module], None] | None = None,
        stop: Callable[[int, float], str | None] | None = None,
        after_epoch: Callable[[int], str | None] | None = None,
        label: str = "unlearning",
    ) -> Fitted:
        """Train ``net`` in place by the one loop; see :class:`~efface.methods.nets.base.NetTools`."""
        fitted = fit(
            net,
            batches,
            turns,
            epochs=epochs,
            max_steps=max_steps,
            mode=mode,
            max_grad_norm=max_grad_norm,
            schedule=schedule,
            after_backward=after_backward,
            stop=stop,
            after_epoch=after_epoch,
            masks=self.masks,
            progress=self._progress(label),
        )
        self._note_losses(fitted, label)
        return fitted

    def _note_losses(self, fitted: Fitted, label: str) -> None:
        """Add a point per epoch to the path; the name of a stage beside the unlearning itself stands before its loss."""
        before, epochs = self.diary.steps, len(fitted.losses[0]) if fitted.losses else 0
        self.diary.steps += fitted.steps
        self.diary.stopped = fitted.stopped if label == "unlearning" else self.diary.stopped
        prefix = "" if label == "unlearning" else f"{label.replace(' ', '_')}_"
        for epoch in range(epochs):
            step = before + round(fitted.steps * (epoch + 1) / epochs)
            turns = [column[epoch] for column in fitted.losses]
            names = ["loss"] if len(turns) == 1 else [f"loss_{number}" for number in range(1, len(turns) + 1)]
            values = {f"{prefix}{name}": value for name, value in zip(names, turns, strict=True)}
            self.diary.path.append(PathPoint(step, float(epoch + 1), values))

    def masked(self, masks: Mapping[Tensor, Tensor]) -> Self:
        """Return tools whose ``fit`` leaves masked weights alone."""
        already = self.masks or {}
        return replace(self, masks={**already, **{key: mask * already.get(key, 1) for key, mask in masks.items()}})

    def fresh(self, offset: int = 0) -> nn.Module:
        """Return a freshly initialised net of the same architecture, on :attr:`device`."""
        if self.make_model is None:
            raise MissingNeed(
                "A fresh net is needed and nothing says how to make one. Methods such as blindspot train a second net of the same "
                "architecture. Pass make_model=, a function of a seed."
            )
        return self.make_model((self.seed + 1) * _FRESH_STRIDE + offset).to(self.device)

    def fit_recipe(self, net: nn.Module, dataset: Any, *, label: str = "unlearning") -> Fitted:
        """Train a fresh net by the recipe of the original."""
        if self.recipe is None:
            raise MissingNeed(
                "The recipe of the original is needed and not known. Retraining repeats it on the rows that stay. Give the "
                "problem a training recipe, or pass training=NetTraining(...)."
            )
        self.diary.loaders += 1
        seed = self.seed * 1_000_003 + self.diary.loaders
        fitted = train_recipe(
            net.to(self.device),
            dataset,
            self.recipe,
            self.loss,
            seed=seed,
            validation=self.validation,
            progress=self._progress(label),
        )
        self._note_losses(fitted, label)
        return fitted

    def split(self, net: nn.Module) -> SplitNet:
        """Return the net as representation and head."""
        return SplitNet(net, head=self.head)

    def activations(self, net: nn.Module) -> Activations:
        """Return the net's hidden activations."""
        return Activations(net, self.activation_names)

    def note(self, text: str) -> None:
        """Tell the reader of the report something, once."""
        if text not in self.diary.notes:
            self.diary.notes.append(text)

    def record(self, values: Mapping[str, float], *, label: str = "unlearning") -> None:
        """Add a point to the path."""
        prefix = "" if label == "unlearning" else f"{label.replace(' ', '_')}_"
        point = PathPoint(self.diary.steps, 0.0, {f"{prefix}{name}": value for name, value in values.items()})
        self.diary.path.append(point)

    def _progress(self, label: str) -> Callable[[int, int], None] | None:
        report = self.progress
        return None if report is None else lambda done, total: report(label, done, total)
