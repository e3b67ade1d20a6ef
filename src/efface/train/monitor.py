"""Cheap figures along the way: the forget/retain path, the stop rule, and the choice of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from efface.data.collate import collate
from efface.data.encoding import Encoded
from efface.models.scoring import answer_scores
from efface.results import PathPoint

__all__ = ["Monitor", "mean_nll"]


@torch.no_grad()
def mean_nll(model: Any, sequences: Sequence[Encoded], *, pad_id: int, batch_size: int = 32) -> float:
    """Return the NLL per answer token over ``sequences``, in nats; the model's mode is put back afterwards."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    ordered = sorted(sequences, key=lambda item: len(item.input_ids))
    for start in range(0, len(ordered), batch_size):
        scores = answer_scores(model, collate(ordered[start : start + batch_size], pad_id=pad_id).to(device))
        total -= float(scores.logp.sum(dtype=torch.float64))
        tokens += scores.logp.numel()
    model.train(was_training)
    return total / max(tokens, 1)


@dataclass
class Monitor:
    """Measures the path, says when to stop, and scores checkpoints.

    Attributes:
        sets: Set name ("forget", "retain", "holdout") -> sequences to take the NLL of.
        pad_id: Filler id.
        ceiling: Forget NLL at which the stop rule fires where there is no holdout set: ln V.
        stops_on_forget_nll: Whether the stop rule is on.
        score: Replaces the built-in selection score: ``(model, values) -> float``, lower is better.
    """

    sets: Mapping[str, Sequence[Encoded]]
    pad_id: int
    ceiling: float
    stops_on_forget_nll: bool = True
    score: Callable[[Any, Mapping[str, float]], float] | None = None
    history: list[PathPoint] = field(default_factory=list)

    def measure(self, model: Any, *, step: int, epoch: float, extra: Mapping[str, float]) -> PathPoint:
        """Append and return the point of this step; a step that is already there is measured only once."""
        if self.history and self.history[-1].step == step:
            return self.history[-1]
        values = {f"{name}_nll": mean_nll(model, rows, pad_id=self.pad_id) for name, rows in self.sets.items() if rows}
        values |= extra
        values["selection_score"] = self.selection_score(model, values)
        point = PathPoint(step, epoch, values)
        self.history.append(point)
        return point

    def selection_score(self, model: Any, values: Mapping[str, float]) -> float:
        """Distance from what a retrained model is expected to show; lower is better.

        ``|forget NLL - target| + |retain NLL - retain NLL at step 0|``, in nats per token; the target is the holdout's NLL at step
        0, ln V without a holdout set.
        """
        if self.score is not None:
            return self.score(model, values)
        first = self.history[0].values if self.history else values
        distance = abs(values.get("forget_nll", math.nan) - self.target)
        if "retain_nll" in values:
            distance += abs(values["retain_nll"] - first["retain_nll"])
        return distance

    @property
    def target(self) -> float:
        """The forget NLL to reach: the holdout's at step 0, ln V without a holdout set."""
        if self.history and "holdout_nll" in self.history[0].values:
            return self.history[0].values["holdout_nll"]
        return self.ceiling

    def stop_reason(self, point: PathPoint) -> str | None:
        """Say why training should end after ``point``, or None."""
        if not self.stops_on_forget_nll or point.step == 0 or "forget_nll" not in point.values:
            return None
        name = "the holdout's" if self.sets.get("holdout") else "ln V"
        if point.values["forget_nll"] > self.target:
            return f"the forget set's NLL ({point.values['forget_nll']:.2f}) passed {name} ({self.target:.2f}) at step {point.step}"
        return None
