"""Relearn steps and anamnesis index of the suite: every model learns the forget rows again, on a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from efface.data.net_batches import RowBatches
from efface.data.net_sets import Part
from efface.errors import InputError
from efface.evals.nets.attacks import point_predictions
from efface.evals.nets.classification import hits
from efface.evals.nets.regression import absolute_error
from efface.evals.nets.relearn import ALPHA, RelearnTime, Train, anamnesis_of, known_again, relearn_time
from efface.evals.nets.sets import NetSets
from efface.evals.summary import not_available
from efface.models.predictor import NetPredictor, Predictor
from efface.results import Metric

__all__ = ["Relearning", "relearn_figures"]

_LOOKED_AT = 500


@dataclass(frozen=True)
class Relearning:
    """How relearning is tried.

    Attributes:
        train: Trains a net in place on all training rows and calls back after each step; see :mod:`efface.evals.nets.relearn`.
        cap: Steps that are tried at most.
        alpha: By how much the error may exceed the original's.
    """

    train: Train
    cap: int = 500
    alpha: float = ALPHA


def relearn_figures(models: Mapping[str, Predictor], sets: NetSets, how: Relearning) -> dict[str, dict[str, Metric]]:
    """Return ``relearn_steps`` and ``anamnesis_index`` by role.

    The error is looked at on the test rows of the kind that must go, where these are known, else on the forget rows (at most 500).

    Args:
        models: Role -> model; those that are no local nets get the reason instead.
        sets: The sets.
        how: Training and cap.
    """
    original = models.get("original")
    missing = "needs the original model" if original is None else "" if sets.labels["forget"] is not None else "no labels"
    times: dict[str, RelearnTime] = {}
    if not missing and isinstance(original, NetPredictor):
        is_rate = sets.task == "classification"
        target = known_again(_error(original.net, sets), is_rate=is_rate, alpha=how.alpha)
        for role, model in models.items():
            if isinstance(model, NetPredictor):
                times[role] = relearn_time(model.net, how.train, lambda net: _error(net, sets), target=target, cap=how.cap)
    return {role: _figures(role, times, missing or "only a local net can be trained") for role in models}


def _figures(role: str, times: Mapping[str, RelearnTime], missing: str) -> dict[str, Metric]:
    mine, gold = times.get(role), times.get("retrained")
    if mine is None:
        return {name: not_available(name, "reference", "strict", missing) for name in ("relearn_steps", "anamnesis_index")}
    details: dict[str, float | str | None] = {"cap": float(mine.cap), "target": mine.target, "error_before": mine.start}
    steps = Metric("relearn_steps", None if mine.steps is None else float(mine.steps), "reference", details=details, n=1)
    if mine.steps is None:
        steps = not_available("relearn_steps", "reference", "strict", str(mine))
    if gold is None:
        index = not_available("anamnesis_index", "reference", "strict", "needs a retrained model")
    else:
        found = anamnesis_of(mine, gold)
        index = Metric("anamnesis_index", found.value, "reference", reason=found.reason, n=1)
    return {"relearn_steps": steps, "anamnesis_index": index}


def _error(net: Any, sets: NetSets) -> float:
    part = "test_forget" if "test_forget" in sets.parts else "forget"
    source, rows = sets.parts[part]
    numbers = np.arange(len(sets.rows[source]))[rows][:_LOOKED_AT]
    labels = sets.labels[source]
    if labels is None:
        raise InputError(f"The {part} rows have no labels. A relearn time compares predictions with them. Label them.")
    predictor = NetPredictor(net)
    said = np.concatenate(
        [predictor.predict(x).double().numpy() for x, _ in RowBatches(Part(sets.rows[source], numbers), batch_size=512)]
    )
    if sets.task == "classification":
        return float(1 - hits(said, labels[numbers]).mean())
    return float(absolute_error(point_predictions(said, sets), labels[numbers]).mean())
