"""Losses of ordinary nets, per row or averaged, by the task or by name.

The quantile loss is that of Deep Regression Unlearning (arXiv 2210.08196, ``utils.py`` of its code): the mean over rows of the SUM
over quantiles. Targets are brought to the outputs' shape before they are compared: a target (B,) against outputs (B, 1) would
otherwise be broadcast to (B, B) without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from efface.errors import InputError
from efface.registry import closest

__all__ = ["NetLoss", "distance_loss", "quantile_loss"]

Reduction = Literal["mean", "sum", "none"]
_NAMES = ("cross_entropy", "l1", "mse", "quantile")
_DEFAULTS = {"classification": "cross_entropy", "regression": "l1", "forecasting": "quantile"}


def quantile_loss(outputs: Tensor, target: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Return sum over q of max((q - 1) e, q e) per row, with e = target - output of quantile q.

    Args:
        outputs: Predicted quantiles, (B, ..., Q); further dimensions (time steps) are averaged.
        target: What came, (B, ...).
        quantiles: The Q quantiles, each in (0, 1).

    Returns:
        Loss per row, (B,), in the target's unit.
    """
    if outputs.shape[-1] != len(quantiles):
        raise InputError(
            f"The outputs end in a dimension of {outputs.shape[-1]} and there are {len(quantiles)} quantiles. "
            "The last dimension holds one output per quantile. Change the net's output or the quantiles."
        )
    error = like_outputs(target, outputs[..., 0]).unsqueeze(-1) - outputs
    return pinball(error, quantiles).sum(-1).reshape(len(outputs), -1).mean(1)


def pinball(error: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Return max((q - 1) e, q e) per value, for errors (..., Q) of the Q quantiles."""
    levels = torch.tensor(list(quantiles), dtype=error.dtype, device=error.device)
    return torch.maximum((levels - 1) * error, levels * error)


def like_outputs(target: Tensor, outputs: Tensor) -> Tensor:
    """Return the target in the outputs' shape and dtype, where only dimensions of one differ.

    Raises:
        InputError: When they do not hold the same number of values per row.
    """
    if target.shape != outputs.shape:
        if target.numel() != outputs.numel() or target.shape[0] != outputs.shape[0]:
            raise InputError(
                f"The labels have the shape {tuple(target.shape)} and the outputs {tuple(outputs.shape)}. There must be one label "
                "value per output value. Change the net's output or the labels."
            )
        target = target.reshape(outputs.shape)
    return target.to(outputs.dtype)


def distance_loss(outputs: Tensor, target: Tensor, name: Literal["l1", "mse"]) -> Tensor:
    """Return |output - target| or its square per row, averaged over the values of a row, (B,)."""
    error = outputs - like_outputs(target, outputs)
    return (error.abs() if name == "l1" else error.square()).reshape(len(outputs), -1).mean(1)


class NetLoss:
    """The loss a net is trained and judged by: ``loss(outputs, y)`` is the mean over rows.

    Args:
        loss: "cross_entropy", "l1", "mse", "quantile", a function ``(outputs, y) -> loss per row or their mean``, or None for the
            task's.
        task: What the net does.
        quantiles: Which quantiles the outputs are.
    """

    def __init__(
        self, loss: str | Callable[[Any, Any], Any] | None, *, task: str, quantiles: Sequence[float] = (0.1, 0.5, 0.9)
    ) -> None:
        if not (loss is None or callable(loss) or loss in _NAMES):
            near = closest(loss, list(_NAMES)) if isinstance(loss, str) else []
            guess = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise InputError(
                f"There is no loss named {loss!r}.{guess} A loss is {', '.join(_NAMES)}, or a function (outputs, y) -> loss per "
                "row. Pass one of these, or None for the task's."
            )
        self.function = loss if callable(loss) else None
        self.name = getattr(loss, "__name__", "custom") if callable(loss) else (loss or _DEFAULTS[task])
        self.task = task
        self.quantiles = tuple(quantiles)

    def __call__(self, outputs: Tensor, y: Any, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss.

        Args:
            outputs: What the net says, (B, ...).
            y: Labels or targets, (B,) or (B, ...).
            reduction: "mean" or "sum" over the rows, or "none" for one value per row.

        Raises:
            InputError: When labels are missing or do not fit, or a loss per row is asked of a function that gives the mean.
        """
        if y is None:
            raise InputError(
                "A loss is asked of rows without labels. The loss compares outputs with labels. Give rows as (x, y), or use a "
                "method that needs no labels."
            )
        rows = self._rows(outputs, y)
        if rows.dim() == 0:
            if reduction == "mean":
                return rows
            if reduction == "sum":
                return rows * len(outputs)
            raise InputError(
                f"The loss function {self.name} returns one number for a batch. A loss per row is needed here. "
                "Return one value per row, without a reduction."
            )
        return rows.mean() if reduction == "mean" else rows.sum() if reduction == "sum" else rows

    def imitation(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Return the mean loss of outputs held against those of another net, (B, ...) both; quantiles each against their own."""
        if self.name != "quantile" or self.function is not None:
            return self(outputs, others)
        return pinball(others - outputs, self.quantiles).sum(-1).mean()

    def _rows(self, outputs: Tensor, y: Any) -> Tensor:
        if self.function is not None:
            loss: Tensor = self.function(outputs, y)
            return loss
        if self.name == "cross_entropy":
            return _cross_entropy(outputs, y)
        if self.name == "quantile":
            return quantile_loss(outputs, y, self.quantiles)
        return distance_loss(outputs, y, "l1" if self.name == "l1" else "mse")


def _cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    labels = y.reshape(-1).long() if y.dim() == 2 and y.shape[1] == 1 else y
    if outputs.dim() != 2 or labels.dim() != 1 or len(labels) != len(outputs):
        raise InputError(
            f"The outputs have the shape {tuple(outputs.shape)} and the labels {tuple(y.shape)}. A classifier gives one row of "
            "logits per item, and a label is one class number. Change the net's output or the labels."
        )
    return functional.cross_entropy(outputs, labels.long(), reduction="none")
