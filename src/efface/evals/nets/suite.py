"""The suite of ordinary nets: every figure of every model of a problem, side by side, each beside its noise floor.

The noise floor of a figure is how far two retrained models with different seeds lie apart: differences smaller than that say
nothing of a method. Intervals resample rows (2000 draws); rows are taken as independent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from efface.data.problem import Problem
from efface.errors import InputError
from efface.evals.nets.attacks import HEADLINE, membership_figures, point_predictions
from efface.evals.nets.classification import confusion, cross_entropy, hits, probabilities_of, true_probability
from efface.evals.nets.compare import absent_comparison, comparison_figures, gap_figure, zrf_figure
from efface.evals.nets.figures import Column, figures_of
from efface.evals.nets.regression import absolute_error, pinball, quantile_coverage, squared_error
from efface.evals.nets.relearned import Relearning, relearn_figures
from efface.evals.nets.sets import NetMeasured, NetSets, measure_net
from efface.evals.summary import not_available
from efface.models.predictor import Predictor
from efface.results import Aim, Metric, Results

__all__ = ["SUITE", "Known", "evaluate_nets", "untrained_of"]

SUITE = "nets"

_ORDER = ("retrained", "retrained_2")
_LARGEST_TABLE = 100  # classes up to which the confusion table is kept
_IN_ITS_UNIT = ("_mae", "_pinball", "_prediction", "_wasserstein", "_paired_difference")
_MEASURED_TWICE = "this model is the reference itself"
_NO_RETRAINED = "needs a retrained model"

Floats = NDArray[np.float64]
Extent = Literal["all", "light", "none"]


@dataclass(frozen=True)
class Known:
    """What is known of one model without looking at another.

    Attributes:
        measured: Its outputs.
        metrics: Its own figures.
    """

    measured: NetMeasured
    metrics: Mapping[str, Metric]


def evaluate_nets(
    models: Mapping[str, Predictor],
    data: Problem | NetSets,
    *,
    untrained: Predictor | None = None,
    attacks: Extent = "all",
    relearning: Relearning | None = None,
    seed: int = 0,
    batch_size: int = 512,
    cache: dict[str, Known] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Results]:
    """Measure all models of a problem and return every figure by role.

    Args:
        models: Role ("original", "unlearned", "retrained", "retrained_2" or a label of your own) -> model. Figures that are defined
            against a retrained model need the role "retrained", the noise floor needs "retrained_2" as well.
        data: The problem, or its sets.
        untrained: A net that was never trained, for the zero-retrain forgetting score; None: not available.
        attacks: Which membership attacks to run, the longest part: "all", "light" (the headline and the one that papers report) or
            "none".
        relearning: How to train the forgotten rows back into a copy, for relearn time and anamnesis index; None leaves them out.
        seed: Seed of bootstraps and attacks.
        batch_size: Rows per forward pass.
        cache: Filled with what is found, by fingerprint of the model; pass the same mapping again, with the same other arguments,
            and a model is measured only once.
        progress: Called with (role, rows done, rows in all).

    Returns:
        Results in the order of ``models``.

    Raises:
        InputError: When there is no model, a set is empty, or outputs do not fit the task.
    """
    if not models:
        raise InputError("There is no model to measure. At least one role is needed. Pass models={'original': predictor}.")
    sets = data if isinstance(data, NetSets) else NetSets.of(data)
    bad = None if untrained is None else measure_net(untrained, sets, batch_size=batch_size)
    reference: Known | None = None
    found: dict[str, Results] = {}
    for role in sorted(models, key=lambda role: _ORDER.index(role) if role in _ORDER else len(_ORDER)):
        started = time.perf_counter()
        known = None if cache is None else cache.get(models[role].fingerprint)
        if known is None:
            measured = measure_net(models[role], sets, batch_size=batch_size, progress=_of_role(progress, role))
            known = Known(measured, _own_figures(measured, sets, bad, attacks=attacks, seed=seed))
        if cache is not None:
            cache[known.measured.fingerprint] = known
        measured = known.measured
        metrics = dict(known.metrics) | _against(role, known, sets, reference, seed=seed)
        if role == "retrained":
            reference = known
        cost = {"seconds_measuring": measured.seconds, "seconds_in_all": time.perf_counter() - started}
        found[role] = Results(
            role=role,
            suite=SUITE,
            metrics=metrics,
            fingerprint=measured.fingerprint,
            cost=cost,
            notes=_notes(metrics, sets, models),
            tables=_tables(measured, sets),
            table_labels=sets.class_names,
        )
    if relearning is not None:
        for role, figures in relearn_figures(models, sets, relearning).items():
            found[role] = replace(found[role], metrics={**found[role].metrics, **figures})
    return {role: _with_target(_with_floor(found[role], found), sets.target_name) for role in models}


def untrained_of(problem: Problem, seed: int) -> Predictor:
    """Return a freshly initialised net of the problem as a model that was never trained.

    It is a function of ``seed`` even where ``make_model`` draws from the global generators, and these are left as they were.
    """
    from efface.models.predictor import NetPredictor
    from efface.models.seeding import seeded

    with seeded(seed):
        return NetPredictor(problem.make_model(seed), head=problem.head)


def _of_role(progress: Callable[[str, int, int], None] | None, role: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(role, done, total)


def _own_figures(measured: NetMeasured, sets: NetSets, bad: NetMeasured | None, *, attacks: Extent, seed: int) -> dict[str, Metric]:
    """Compute what needs no other trained model."""
    columns_of = _class_columns if sets.task == "classification" else _value_columns
    found: dict[str, Metric] = {}
    for part in sets.parts:
        found |= figures_of(columns_of(part, measured, sets), sets.ids_in(part), seed=seed)
        if sets.labels_in(part) is None:
            name = f"{part}_{'accuracy' if sets.task == 'classification' else 'mae'}"
            found[name] = not_available(name, _aim(part, "higher"), "strict", f"the {part} rows have no labels")
    if sets.quantiles:
        for part in sets.parts:
            found |= _calibration(part, measured, sets)
    if attacks != "none":
        found |= membership_figures(measured, sets, extent=attacks, seed=seed)
    if sets.task == "classification":
        none = not_available("zrf", "reference", "strict", "needs an untrained net of the same architecture")
        found |= {"zrf": none} if bad is None else zrf_figure(measured, bad, sets, seed=seed)
    return found


def _class_columns(part: str, measured: NetMeasured, sets: NetSets) -> dict[str, Column]:
    labels, logits = sets.labels_in(part), measured.on(sets, part)
    if labels is None:
        return {}
    return {
        f"{part}_accuracy": Column(hits(logits, labels), _aim(part, "higher"), details={"chance": 1 / logits.shape[1]}),
        f"{part}_confidence": Column(
            true_probability(probabilities_of(logits), labels), _aim(part, "higher"), keep=part == "forget"
        ),
        f"{part}_loss": Column(cross_entropy(logits, labels), _aim(part, "lower")),
    }


def _value_columns(part: str, measured: NetMeasured, sets: NetSets) -> dict[str, Column]:
    outputs, labels = measured.on(sets, part), sets.labels_in(part)
    points = point_predictions(outputs, sets)
    level = points.reshape(len(points), -1).mean(axis=1)
    columns = {f"{part}_prediction": Column(level, "reference", keep=part in ("forget", "test"))}
    if labels is None:
        return columns
    aim = _aim(part, "lower")
    columns |= {
        f"{part}_mae": Column(absolute_error(points, labels), aim),
        f"{part}_mse": Column(squared_error(points, labels), aim),
    }
    if sets.quantiles:
        columns[f"{part}_pinball"] = Column(pinball(outputs, labels, sets.quantiles), aim)
    return columns


def _calibration(part: str, measured: NetMeasured, sets: NetSets) -> dict[str, Metric]:
    """How far the share of targets below each predicted quantile lies from its level, on average over the quantiles."""
    name, labels = f"{part}_calibration_error", sets.labels_in(part)
    if labels is None:
        return {name: not_available(name, "zero", "strict", f"the {part} rows have no labels")}
    shares = quantile_coverage(measured.on(sets, part), labels, sets.quantiles).mean(axis=0)
    details: dict[str, float | str | None] = {
        f"below_{level:g}": float(share) for level, share in zip(sets.quantiles, shares, strict=True)
    }
    value = float(np.abs(shares - np.asarray(sets.quantiles)).mean())
    return {name: Metric(name, value, "reference" if part in _GONE else "zero", n=len(labels), details=details)}


_GONE = ("forget", "test_forget")


def _aim(part: str, elsewhere: Aim) -> Aim:
    return "reference" if part in _GONE else elsewhere


def _against(role: str, known: Known, sets: NetSets, reference: Known | None, *, seed: int) -> dict[str, Metric]:
    """Compute what is defined against the retrained model."""
    if role == "retrained" or reference is None:
        reason = _MEASURED_TWICE if role == "retrained" else _NO_RETRAINED
        return absent_comparison(sets, reason) | {"average_gap": not_available("average_gap", "zero", "strict", reason)}
    attacks = [known.metrics.get(HEADLINE), reference.metrics.get(HEADLINE)]
    pair = None if attacks[0] is None or attacks[1] is None else (attacks[0], attacks[1])
    return comparison_figures(known.measured, reference.measured, sets, seed=seed) | {
        "average_gap": gap_figure(known.measured, reference.measured, sets, pair, seed=seed)
    }


def _with_floor(results: Results, found: Mapping[str, Results]) -> Results:
    """Put the distance of two retrained models beside each figure."""
    first, second = found.get("retrained"), found.get("retrained_2")
    if first is None or second is None:
        return results
    metrics = dict(results.metrics)
    for name, metric in metrics.items():
        other, mine = second.value(name), first.value(name)
        if other is None:
            continue
        floor = abs(other - mine) if mine is not None else other  # a figure against the retrained model is a distance already
        metrics[name] = replace(metric, details={**metric.details, "noise_floor": floor})
    return replace(results, metrics=metrics)


def _with_target(results: Results, target: str) -> Results:
    """Say beside each figure in the unit of the target what the target is."""
    if not target:
        return results
    metrics = {
        name: replace(metric, details={**metric.details, "target_name": target}) if name.endswith(_IN_ITS_UNIT) else metric
        for name, metric in results.metrics.items()
    }
    return replace(results, metrics=metrics)


def _tables(measured: NetMeasured, sets: NetSets) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Confusion counts per set, a row per true class; none where there are very many classes."""
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    if sets.task != "classification":
        return found
    for name, outputs in measured.outputs.items():
        labels = sets.labels[name]
        if labels is None or outputs.shape[1] > _LARGEST_TABLE:
            continue
        counts = confusion(outputs.argmax(axis=1), labels, classes=outputs.shape[1])
        found[f"confusion_{name}"] = tuple(tuple(map(float, row)) for row in counts)
    return found


def _notes(metrics: Mapping[str, Metric], sets: NetSets, models: Mapping[str, Predictor]) -> tuple[str, ...]:
    notes = ["Intervals resample rows, which are taken as independent."]
    if "retrained_2" not in models:
        notes.append("No second retrained model: how far two retrained models lie apart is not known.")
    if "test_retain" not in sets.parts:
        notes.append("Nothing says which test rows are of the forgotten kind: figures on the test rows are over all of them.")
    by_reason: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        if metric.value is None and metric.reason not in (_MEASURED_TWICE, _NO_RETRAINED):
            by_reason.setdefault(metric.reason, []).append(name)
    return (*notes, *(f"Not available: {', '.join(names)} ({reason})." for reason, names in by_reason.items()))
