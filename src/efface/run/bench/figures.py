"""From measured models to the figures of a table: means over seeds with intervals, paired tests, distances to the retrained."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from efface.paired import PairedSeed, paired_difference
from efface.report.catalogue import describe
from efface.report.leaderboard import Figure, PairedTest
from efface.results import Metric, Results
from efface.run.bench.entrants import Line, Measured
from efface.stats import bootstrap_replicates, harmonic_mean, hierarchical_bootstrap, hierarchical_interval, holm_log10

__all__ = ["distance", "distance_names", "figure_of", "has_rows", "paired_tests"]

_TOLERANCE = 1e-6
"""How far the mean of a figure's values per row may be from it; one that is no mean (an AUC, a median) is farther off."""
_UNITLESS = ("share", "score")
Floats = NDArray[np.float64]


def figure_of(line: Line, name: str) -> Figure:
    """Return one figure of a line over its seeds, not available where a seed lacks it."""
    metrics = [measured.results.metrics.get(name) for measured in line.distinct]
    if not metrics:
        return Figure(None, reason="no run is done")
    values = []
    for metric in metrics:
        value = None if metric is None else _value(metric)
        if value is None or not math.isfinite(value):
            reason = f"not part of the suite ({name})" if metric is None else metric.reason or "not a finite number"
            return Figure(None, n_seeds=len(metrics), reason=reason)
        values.append(value)
    span = (min(values), max(values))
    found = line.distinct
    if all(_is_mean(measured.results.metrics[name]) for measured in found):
        columns = [_rows(measured, name) for measured in found]
        interval = hierarchical_bootstrap([list(v) for v, _ in columns], [_codes(labels) for _, labels in columns])
        return Figure(mean(values), interval, span, len(values))
    replicates = [_harmonic_replicates(measured, name) for measured in found]
    if all(each is not None for each in replicates):
        kept = [each for each in replicates if each is not None]
        interval = hierarchical_interval([draws for draws, _ in kept], n_entities=max(n for _, n in kept))
        return Figure(mean(values), interval, span, len(values))
    only = metrics[0] if len(metrics) == 1 else None
    shown = only.interval if only is not None and describe(name).scale != "test" else None
    return Figure(mean(values), shown, span, len(values))


def distance_names(lines: Sequence[Line], metrics: Sequence[str]) -> list[str]:
    """Return the figures between 0 and 1 of the comparison that every done line has: what the distance is a mean of."""
    done = [line for line in lines if line.seeds]
    names = [name for name in metrics if describe(name).is_main and describe(name).scale in _UNITLESS]
    return [name for name in names if all(_known(measured.results, name) for line in done for measured in line.seeds.values())]


def distance(line: Line, retrained: Line | None, names: Sequence[str]) -> Figure:
    """Return the mean absolute difference to the retrained model over ``names``, a mean over the seeds both have."""
    if retrained is None or not names:
        return Figure(None, reason="no retrained model")
    shared = [seed for seed in line.seeds if seed in retrained.seeds]
    if not shared:
        return Figure(None, reason="no run is done")
    gaps = []
    for seed in shared:
        ours, theirs = line.seeds[seed].results, retrained.seeds[seed].results
        gaps.append(mean(abs((ours.value(name) or 0.0) - (theirs.value(name) or 0.0)) for name in names))
    return Figure(mean(gaps), None, (min(gaps), max(gaps)), len(gaps))


def has_rows(lines: Sequence[Line], name: str) -> bool:
    """Whether a figure is a mean over rows in every model, so that models can be compared row by row."""
    found = [m.results.metrics.get(name) for line in lines for m in line.seeds.values()]
    return bool(found) and all(metric is not None and _is_mean(metric) for metric in found)


def paired_tests(pairs: Sequence[tuple[Line, Line]], name: str) -> list[PairedTest]:
    """Test every pair on one figure, over the seeds both have; p-values are Holm-corrected over the pairs."""
    found = [_pair(first, second, name) for first, second in pairs]
    logs = {index: test.log10_p for index, test in enumerate(found) if test.log10_p is not None}
    for index, corrected in zip(logs, holm_log10(list(logs.values())), strict=True):
        found[index] = replace(found[index], log10_p_holm=corrected)
    return found


def _pair(first: Line, second: Line, name: str) -> PairedTest:
    seeds: list[PairedSeed] = []
    for seed in (seed for seed in first.seeds if seed in second.seeds):
        one, other = first.seeds[seed], second.seeds[seed]
        rows = {row: value for row, value, _ in _labelled(one, name)}
        both = [(rows[row], value, label) for row, value, label in _labelled(other, name) if row in rows]
        if both:
            ours, theirs, labels = zip(*both, strict=True)
            seeds.append(PairedSeed(ours, theirs, labels))
    plain = PairedTest(name, first.model, first.label, second.label)
    if not seeds:
        missing = [line.label for line in (first, second) if not line.seeds]
        reason = f"{' and '.join(missing)}: no run is done" if missing else "no rows in common"
        return replace(plain, reason=reason)
    found = paired_difference(seeds)
    return replace(
        plain,
        difference=found.difference,
        interval=found.interval,
        log10_p=found.test.log10_p,
        log10_floor=found.test.log10_floor,
        n_rows=found.n_rows,
        n_entities=found.n_entities,
        n_seeds=found.n_seeds,
    )


def _value(metric: Metric) -> float | None:
    """A test is shown by its log10 p, which does not underflow."""
    log = metric.details.get("log10_p")
    if describe(metric.name).scale == "test" and isinstance(log, float | int):
        return float(log)
    return metric.value


def _known(results: Results, name: str) -> bool:
    value = results.value(name)
    return value is not None and math.isfinite(value)


def _is_mean(metric: Metric) -> bool:
    values = [value for value in metric.per_item if value is not None]
    return bool(values) and metric.value is not None and abs(float(np.mean(values)) - metric.value) < _TOLERANCE


def _labelled(measured: Measured, name: str) -> list[tuple[str, float, Hashable]]:
    """Return row id, value and entity of every row with a value; the entity is that of these very rows, whatever the seed."""
    metric = measured.results.metrics[name]
    key = _set_of(name, measured)
    return [
        (row, value, _entity(row, key, measured))
        for row, value in zip(metric.item_ids, metric.per_item, strict=True)
        if value is not None
    ]


def _entity(row: str, key: str, measured: Measured) -> Hashable:
    """Return the entity of a row: in the set the figure is named after, else in any set that holds the row, else the row itself."""
    for place in (key, *measured.entities):
        numbers = measured.entities.get(place, {})
        if row in numbers:
            return measured.rows.get(place, place), numbers[row]
    return measured.rows.get(key, key), row


def _rows(measured: Measured, name: str) -> tuple[list[float], list[Hashable]]:
    labelled = _labelled(measured, name)
    return [value for _, value, _ in labelled], [label for _, _, label in labelled]


def _codes(labels: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def _set_of(name: str, measured: Measured) -> str:
    """Return the longest set name that a figure's name starts with."""
    found = [key for key in measured.entities if name.startswith(f"{key}_")]
    return max(found, key=len, default=describe(name).set_name)


def _harmonic_replicates(measured: Measured, name: str) -> tuple[Floats, int] | None:
    """Entity replicates of a figure that is the harmonic mean of means over rows (a utility), or None where it is not one.

    Parts on one set see the same draw of its entities.
    """
    metric = measured.results.metrics[name]
    parts = [part for part in metric.details if part in measured.results.metrics]
    if len(parts) < 2 or metric.value is None or not all(_is_mean(measured.results.metrics[part]) for part in parts):
        return None
    values = [measured.results.metrics[part].value or 0.0 for part in parts]
    if abs(harmonic_mean(values) - metric.value) > _TOLERANCE:
        return None
    sets = sorted({_set_of(part, measured) for part in parts})
    inverse: Floats | None = None
    entities = []
    for part in parts:
        numbers, labels = _rows(measured, part)
        codes, array = _codes(labels), np.asarray(numbers, dtype=np.float64)
        entities.append(len(set(codes)))

        def means(weights: Floats, values: Floats = array) -> Floats:
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray((weights @ values) / weights.sum(axis=1))

        draws = bootstrap_replicates(means, codes, seed=1 + sets.index(_set_of(part, measured)))
        with np.errstate(divide="ignore"):
            inverse = (0.0 if inverse is None else inverse) + 1.0 / np.maximum(draws, 0.0)
    return None if inverse is None else (len(parts) / inverse, min(entities))
