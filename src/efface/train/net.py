"""The loop for ordinary nets, on accelerate: the originals, the retrained, and whatever a method trains run through it.

A step is one batch and, in turn, for each loss: forward, backward, an optimiser step. One loss is plain training; two are LAF's
alternation. What a turn's loss does with the net is its own affair, so that no method needs a loop of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from efface.errors import InputError, TrainingStopped
from efface.methods.nets.base import Fitted, Turn
from efface.models.activations import on_device

__all__ = ["accelerator", "fit"]


@cache
def accelerator() -> Accelerator:
    """Return the process's accelerator.

    Raises:
        InputError: When several processes were launched.
    """
    found = Accelerator()
    if found.num_processes > 1:
        raise InputError(
            f"{found.num_processes} processes were launched for an ordinary net. Nets are trained in one process. Start without "
            "accelerate launch or torchrun."
        )
    if found.mixed_precision == "fp16":
        raise InputError(
            "float16 mixed precision was asked for an ordinary net. Nets are trained in their own dtype, or in bfloat16 autocast. "
            "Set mixed_precision to no or bf16 in accelerate's configuration."
        )
    return found


def fit(
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
    masks: Mapping[Tensor, Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Train ``net`` in place; see :meth:`efface.methods.nets.base.NetTools.fit` for what the arguments mean.

    Args:
        net: The net.
        batches: Of one epoch; gone through again in the next.
        turns: Losses and their optimisers.
        epochs: Passes over the batches.
        max_steps: Batches after which to end.
        mode: How the net runs.
        max_grad_norm: Gradient norm to clip at; 0 does not clip.
        schedule: Share of all batches done -> factor of the learning rates.
        after_backward: Changes the gradients.
        stop: (batches done, last turn's loss) -> reason to end.
        after_epoch: Epochs done -> reason to end, or None.
        masks: Parameter -> 1 where it may change, 0 where it stays.
        progress: Told of (batches done, batches in all).

    Raises:
        TrainingStopped: When a loss is not a finite number; the net holds the weights from before that step.
    """
    loop = _Loop(net, [turns] if isinstance(turns, Turn) else list(turns), max_grad_norm, after_backward, masks)
    total = _total(batches, epochs, max_steps)
    losses: list[list[float]] = [[] for _ in loop.turns]
    done, stopped = 0, None
    with loop.running(mode):
        for epoch in range(epochs):
            sums, count = [0.0] * len(loop.turns), 0
            for batch in batches:
                loop.set_rates(1.0 if schedule is None else schedule(done / max(total, 1)))
                values = loop.step(batch, done)
                sums = [a + b for a, b in zip(sums, values, strict=True)]
                done, count = done + 1, count + 1
                if progress is not None:
                    progress(done, total)
                stopped = stop(done, values[-1]) if stop is not None else None
                if stopped is not None or done == max_steps:
                    break
            for column, value in zip(losses, sums, strict=True):
                column.append(value / count if count else math.nan)
            reason = after_epoch(epoch + 1) if after_epoch is not None else None
            stopped = stopped or reason
            if stopped is not None or done == max_steps:
                break
    return Fitted(done * len(loop.turns), tuple(tuple(column) for column in losses), stopped or "completed")


class _Loop:
    """The state of one call of :func:`fit`."""

    def __init__(
        self,
        net: nn.Module,
        turns: list[Turn],
        max_grad_norm: float,
        after_backward: Callable[[nn.Module], None] | None,
        masks: Mapping[Tensor, Tensor] | None,
    ) -> None:
        self.engine = accelerator()
        self.net = net.to(self.engine.device)
        self.turns = turns
        self.optimizers = [turn.optimizer for turn in turns]
        self.parameters = [[p for group in o.param_groups for p in group["params"]] for o in self.optimizers]
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.max_grad_norm = max_grad_norm
        self.after_backward = after_backward
        self.masks = [{p: masks[p] for p in own if masks is not None and p in masks} for own in self.parameters]

    @contextmanager
    def running(self, mode: str) -> Iterator[None]:
        """Run the net in ``mode``; put every module's mode and the learning rates back afterwards, and drop the gradients."""
        modes = {module: module.training for module in self.net.modules()}
        self.net.train(mode == "train")
        try:
            yield
        finally:
            for module, was_training in modes.items():
                module.training = was_training
            self.set_rates(1.0)
            self.net.zero_grad(set_to_none=True)  # a turn's optimiser may hold a part of what the loss reached
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)

    def set_rates(self, factor: float) -> None:
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def step(self, batch: Any, number: int) -> list[float]:
        """Take every turn on one batch and return the losses."""
        batch = on_device(batch, self.engine.device)
        values = []
        for index, turn in enumerate(self.turns):
            turn.optimizer.zero_grad(set_to_none=True)
            try:
                with self.engine.autocast():
                    loss = turn.loss(self.net, batch)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise InputError(
                    "A batch of one row reached BatchNorm in training mode, which needs two to take a variance. Give more rows, "
                    "raise batch_size, or set batch_norm: eval."
                ) from None
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingStopped(
                    f"The loss became {value} at batch {number + 1}. Training goes on only with finite numbers. Lower the learning "
                    "rate, clip the gradients (max_grad_norm), or look for values in the data that are not numbers."
                )
            values.append(value)
            if loss.requires_grad:
                self.engine.backward(loss)
                self._update(index)
        return values

    def _update(self, index: int) -> None:
        masks = self.masks[index]
        if self.after_backward is not None:
            self.after_backward(self.net)
        for parameter, mask in masks.items():
            if parameter.grad is not None:
                parameter.grad.mul_(mask)
        if self.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters[index], self.max_grad_norm)
        kept = {parameter: parameter.detach().clone() for parameter in masks}
        self.optimizers[index].step()
        with torch.no_grad():  # weight decay and momentum would move what is masked
            for parameter, mask in masks.items():
                parameter.copy_(torch.where(mask.to(torch.bool), parameter, kept[parameter]))


def _total(batches: Iterable[Any], epochs: int, max_steps: int | None) -> int:
    steps = epochs * len(batches) if isinstance(batches, Sized) else 0
    return min(steps, max_steps) if max_steps is not None else steps
