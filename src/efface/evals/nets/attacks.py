"""The membership attacks of the suite, put together from outputs; the attacks are in :mod:`efface.evals.nets.membership`.

Every figure but the matched attack and LAF's success rate is a share of the forget rows: for SalUn's family the share called
NON-member ("efficacy"), for the others the share called member. None has a best value of its own: the aim is the retrained model's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.evals.nets.classification import (
    cross_entropy,
    entropy,
    hits,
    modified_entropy,
    probabilities_of,
    true_probability,
)
from efface.evals.nets.figures import OVER_ROWS, Column, figures_of
from efface.evals.nets.membership import (
    LIMIT,
    attack_success_rate,
    called_members,
    called_members_logistic,
    match_rows,
    matched_attack,
    strata_of_targets,
)
from efface.evals.nets.regression import absolute_error, pinball
from efface.evals.nets.sets import NetMeasured, NetSets
from efface.evals.summary import not_available
from efface.results import Metric
from efface.stats import auc, auc_interval, tpr_at_fpr

__all__ = ["CLASSIFIER_ATTACKS", "HEADLINE", "REGRESSOR_ATTACKS", "membership_figures", "point_predictions", "row_losses"]

HEADLINE = "mia_matched"
_EFFICACY_PREFIX = "mia_efficacy_"
_EFFICACY = ("confidence", "correctness", "entropy", "modified_entropy", "probabilities")
CLASSIFIER_ATTACKS = (
    HEADLINE,
    "mia_matched_auc",
    *(f"{_EFFICACY_PREFIX}{feature}" for feature in _EFFICACY),
    "mia_member_entropy",
    "mia_member_entropy_logistic",
    "mia_success_rate",
)
REGRESSOR_ATTACKS = (HEADLINE, "mia_matched_auc", "mia_member_error")
_LIGHT = {HEADLINE, "mia_matched_auc", "mia_efficacy_confidence", "mia_member_error"}

Floats = NDArray[np.float64]


def membership_figures(
    measured: NetMeasured, sets: NetSets, *, extent: Literal["all", "light"] = "all", seed: int
) -> dict[str, Metric]:
    """Run every attack that the task allows on one model; "light" runs the headline and the one SVM that papers report."""
    names = CLASSIFIER_ATTACKS if sets.task == "classification" else REGRESSOR_ATTACKS
    if extent == "light":
        names = tuple(name for name in names if name in _LIGHT)
    missing = _missing(sets)
    if missing:
        return {name: not_available(name, "reference", "strict", missing) for name in names}
    found = _matched(measured, sets, seed)
    for name, values in _shares(measured, sets, names, seed).items():
        column = {name: Column(values, "reference", details={"rows_fitted_at_most": float(LIMIT)})}
        metric = figures_of(column, (), seed=seed)[name]
        interval = metric.interval and replace(metric.interval, method=f"{OVER_ROWS} that are judged, the attack held fixed")
        found[name] = replace(metric, interval=interval)
    return {name: found[name] if name in found else not_available(name, "reference", "strict", _FEW) for name in names}


_FEW = "too few rows outside of the forget set to fit and to try the attack"


def row_losses(outputs: Floats, labels: NDArray[np.generic], sets: NetSets) -> Floats:
    """Return the loss of each row: cross entropy, the quantile loss or the absolute error by task."""
    if sets.task == "classification":
        return cross_entropy(outputs, labels)
    return pinball(outputs, labels, sets.quantiles) if sets.quantiles else absolute_error(outputs, labels)


def _missing(sets: NetSets) -> str:
    for name in ("retain", "test"):
        if name not in sets.rows or not len(sets.rows[name]):
            return f"no {name} rows"
    unlabelled = [name for name in ("forget", "retain", "test") if sets.labels[name] is None]
    return f"no labels of the {' and '.join(unlabelled)} rows" if unlabelled else ""


def _labelled(sets: NetSets, name: str) -> NDArray[np.generic]:
    labels = sets.labels[name]
    if labels is None:
        raise InputError(f"The {name} rows have no labels. This figure compares outputs with labels. Label them.")
    return labels


def _matched(measured: NetMeasured, sets: NetSets, seed: int) -> dict[str, Metric]:
    losses = {name: row_losses(measured.outputs[name], _labelled(sets, name), sets) for name in ("forget", "test")}
    labels = [_labelled(sets, name) for name in ("forget", "test")]
    strata = (labels[0], labels[1]) if sets.task == "classification" else strata_of_targets(labels[0], labels[1])
    try:
        attack = matched_attack(losses["forget"], losses["test"], strata=strata, seed=seed)
    except InputError as error:
        return {name: not_available(name, "reference", "strict", str(error)) for name in (HEADLINE, "mia_matched_auc")}
    details = {"chance": 0.5, "n_forget": float(len(attack.forget)), "n_unseen": float(len(attack.unseen))}
    found = figures_of({HEADLINE: Column(attack.right, "reference", details=details)}, (), seed=seed)
    ours, theirs = match_rows(*strata, seed=seed)
    seen, unseen = losses["forget"][ours], losses["test"][theirs]
    interval = auc_interval(seen, unseen, seed=seed)  # P(unseen loss > forget loss): members have the lower losses
    found["mia_matched_auc"] = Metric(
        "mia_matched_auc",
        auc(seen, unseen),
        "reference",
        interval=None if interval is None else replace(interval, method=OVER_ROWS),
        n=len(seen) + len(unseen),
        details={**details, "tpr_at_fpr_1_percent": tpr_at_fpr(-unseen, -seen)},
    )
    return found


def _shares(measured: NetMeasured, sets: NetSets, names: Collection[str], seed: int) -> dict[str, Floats]:
    if sets.task != "classification":
        errors = [
            absolute_error(point_predictions(measured.outputs[name], sets), _labelled(sets, name))[rows]
            for name, rows in _equal_sides(sets, seed).items()
        ]
        return {"mia_member_error": _as_floats(called_members(*errors, seed=seed)[0])}
    sides = _equal_sides(sets, seed)
    probabilities = {name: probabilities_of(measured.outputs[name])[rows] for name, rows in sides.items()}
    found: dict[str, Floats] = {}
    for name in (name for name in names if name.startswith(_EFFICACY_PREFIX)):
        feature = _FEATURES[name.removeprefix(_EFFICACY_PREFIX)]
        called = called_members(
            *(feature(values, _labelled(sets, key)[sides[key]]) for key, values in probabilities.items()), seed=seed
        )
        found[name] = 1 - _as_floats(called[0])
    entropies = [entropy(values) for values in probabilities.values()]
    if "mia_member_entropy" in names:
        found["mia_member_entropy"] = _as_floats(called_members(*entropies, seed=seed)[0])
    if "mia_member_entropy_logistic" in names:
        found["mia_member_entropy_logistic"] = _as_floats(called_members_logistic(*entropies, seed=seed)[0])
    everything = {name: probabilities_of(measured.outputs[name]) for name in sides}
    success = _success_rate(everything, seed) if "mia_success_rate" in names else None
    return found if success is None else found | {"mia_success_rate": success}


def _equal_sides(sets: NetSets, seed: int) -> dict[str, NDArray[np.int64]]:
    """Equally many retain and test rows: an attack fitted on unequal sides calls everything the larger one."""
    size = min(len(sets.rows["retain"]), len(sets.rows["test"]))
    rng = np.random.default_rng(seed)
    drawn = {name: np.sort(rng.permutation(len(sets.rows[name]))[:size]) for name in ("retain", "test")}
    return {**drawn, "forget": np.arange(len(sets.rows["forget"]))}


def _success_rate(probabilities: dict[str, Floats], seed: int) -> Floats | None:
    """Fit on one half of the test rows and try on the other, in equal numbers of both kinds."""
    order = np.random.default_rng(seed).permutation(len(probabilities["test"]))
    half = max(len(order) // 2, len(order) - len(probabilities["forget"]))
    fitted, tried = (probabilities["test"][rows] for rows in (order[:half], order[half:]))
    forget = probabilities["forget"][: len(tried)]
    if min(len(fitted), len(tried), len(forget)) < 10:
        return None
    members = probabilities["retain"]
    if len(members) > len(fitted):
        members = members[np.sort(np.random.default_rng(seed).choice(len(members), len(fitted), replace=False))]
    return attack_success_rate(members, fitted, forget, tried, seed=seed)


_FEATURES: dict[str, Callable[[Floats, NDArray[np.generic]], Floats]] = {
    "confidence": true_probability,
    "correctness": hits,
    "entropy": lambda probabilities, _: entropy(probabilities),
    "modified_entropy": modified_entropy,
    "probabilities": lambda probabilities, _: probabilities,
}


def point_predictions(outputs: Floats, sets: NetSets) -> Floats:
    """The point prediction: the middle quantile of a quantile forecast."""
    if not sets.quantiles:
        return outputs
    return np.asarray(outputs[..., int(np.argmin(np.abs(np.asarray(sets.quantiles) - 0.5)))])


def _as_floats(called: NDArray[np.bool_]) -> Floats:
    return called.astype(np.float64)
