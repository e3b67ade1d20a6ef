"""Figures of one model against the retrained one: distances on the same rows, and the average gap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from efface.evals.nets.attacks import HEADLINE, point_predictions, row_losses
from efface.evals.nets.classification import hits, margin
from efface.evals.nets.figures import OVER_ROWS, Column, figures_of, interval_of
from efface.evals.nets.gap import GapPart, gap_interval
from efface.evals.nets.regression import absolute_error, paired_difference, wasserstein, wasserstein_replicates
from efface.evals.nets.sets import NetMeasured, NetSets
from efface.evals.nets.similarity import activation_distance, zrf
from efface.evals.summary import not_available
from efface.results import Aim, Metric
from efface.stats import ks_interval, ks_test

__all__ = ["AGAINST_RETRAINED", "absent_comparison", "comparison_figures", "gap_figure", "zrf_figure"]

AGAINST_RETRAINED = {
    "classification": ("activation_distance", "agreement", "ks"),
    "regression": ("wasserstein", "ks", "paired_difference"),
    "forecasting": ("wasserstein", "ks", "paired_difference"),
}
"""What is compared with the retrained model, on the forget and on the test rows."""

_AIMS: dict[str, Aim] = {"agreement": "higher"}
_SETS = ("forget", "test")

Floats = NDArray[np.float64]


def comparison_figures(measured: NetMeasured, retrained: NetMeasured, sets: NetSets, *, seed: int) -> dict[str, Metric]:
    """Compare two models row by row and as distributions; 0 is equal, but for the share of rows on which they agree."""
    found: dict[str, Metric] = {}
    for name in (name for name in _SETS if name in sets.rows):
        ours, theirs = measured.outputs[name], retrained.outputs[name]
        if sets.task == "classification":
            columns = {
                f"{name}_activation_distance": Column(activation_distance(ours, theirs), "zero"),
                f"{name}_agreement": Column(hits(ours, theirs.argmax(axis=1)), "higher"),
            }
            labels = sets.labels[name]
            spread = None if labels is None else (margin(ours, labels), margin(theirs, labels))
        else:
            points = point_predictions(ours, sets), point_predictions(theirs, sets)
            columns = {f"{name}_paired_difference": Column(paired_difference(*points), "zero")}
            found[f"{name}_wasserstein"] = _wasserstein(f"{name}_wasserstein", *points, seed)
            spread = points
        found |= figures_of(columns, (), seed=seed)
        found[f"{name}_ks"] = _ks(f"{name}_ks", spread, seed)
    return found


def absent_comparison(sets: NetSets, reason: str) -> dict[str, Metric]:
    """Return every figure against the retrained model as not available."""
    names = [f"{name}_{family}" for name in _SETS if name in sets.rows for family in AGAINST_RETRAINED[sets.task]]
    return {name: not_available(name, _AIMS.get(name.partition("_")[2], "zero"), "strict", reason) for name in names}


def zrf_figure(measured: NetMeasured, untrained: NetMeasured, sets: NetSets, *, seed: int) -> dict[str, Metric]:
    """Return the zero-retrain forgetting score on the forget rows; the published code's form stands in its details."""
    ours, bad = measured.outputs["forget"], untrained.outputs["forget"]
    published = float(zrf(ours, bad, variant="reference").mean())
    return figures_of({"zrf": Column(zrf(ours, bad), "reference", details={"published_code": published})}, (), seed=seed)


def gap_figure(
    measured: NetMeasured, retrained: NetMeasured, sets: NetSets, attacks: tuple[Metric, Metric] | None, *, seed: int
) -> Metric:
    """Return the average gap to the retrained model in points, with the headline attack of both models where it is there."""
    parts = {name: _part(name, measured, retrained, sets) for name in sets.parts if sets.labels_in(name) is not None}
    if "test_retain" in parts:
        del parts["test"]
    details: dict[str, float | str | None] = {f"{name}_points": part.points for name, part in parts.items()}
    points = [part.points for part in parts.values()]
    interval = gap_interval(list(parts.values()), seed=seed)
    if attacks is not None and attacks[0].value is not None and attacks[1].value is not None:
        attack = 100 * abs(attacks[0].value - attacks[1].value)
        details[f"{HEADLINE}_points"] = attack
        points.append(attack)
        if interval is not None:  # the attack has no paired rows: it is held fixed
            share = len(parts) / len(points)
            low, high = (share * end + attack / len(points) for end in (interval.low, interval.high))
            interval = replace(interval, low=low, high=high, method=f"{OVER_ROWS}, the attack held fixed")
    if not points:
        return not_available("average_gap", "zero", "strict", "no set has labels")
    return Metric(
        "average_gap",
        float(np.mean(points)),
        "zero",
        interval=interval,
        n=sum(len(part.model) for part in parts.values()),
        details=details,
    )


def _part(name: str, measured: NetMeasured, retrained: NetMeasured, sets: NetSets) -> GapPart:
    labels = sets.labels_in(name)
    ours, theirs = measured.on(sets, name), retrained.on(sets, name)
    if labels is None:
        raise TypeError(f"The {name} rows have no labels.")
    if sets.task == "classification":
        return GapPart(hits(ours, labels), hits(theirs, labels), 100.0, name)
    unit = 100.0 / _spread(sets)
    if sets.quantiles:
        return GapPart(row_losses(ours, labels, sets), row_losses(theirs, labels, sets), unit, name)
    return GapPart(absolute_error(ours, labels), absolute_error(theirs, labels), unit, name)


def _spread(sets: NetSets) -> float:
    """Standard deviation of all training targets: the unit in which a regressor's gaps are points."""
    targets = [
        np.asarray(labels, dtype=np.float64).ravel()
        for name in ("forget", "retain")
        if (labels := sets.labels.get(name)) is not None
    ]
    return float(np.std(np.concatenate(targets))) or 1.0


def _wasserstein(name: str, ours: Floats, theirs: Floats, seed: int) -> Metric:
    replicates = wasserstein_replicates(ours, theirs, seed=seed)
    rows = len(ours)
    return Metric(name, wasserstein(ours, theirs), "zero", interval=interval_of(replicates, rows), n=rows)


def _ks(name: str, spread: tuple[Floats, Floats] | None, seed: int) -> Metric:
    if spread is None:
        return not_available(name, "zero", "strict", "the rows have no labels")
    ours, theirs = (side.ravel() for side in spread)
    test, size = ks_test(ours, theirs), len(spread[0])
    rows = np.repeat(np.arange(size), len(ours) // size)
    interval = ks_interval(ours, theirs, (rows, rows), paired=True, seed=seed)
    # The p-value takes values as independent, which those of one row are not.
    details = {"log10_p": test.log10_p, "log10_p_floor": test.log10_floor} if len(ours) == size else {}
    return Metric(
        name,
        test.statistic,
        "zero",
        interval=None if interval is None else replace(interval, method=OVER_ROWS),
        n=size,
        details=details,
    )
