"""From :class:`~efface.results.Results` to OpenUnlearning's log and summary.

Texts are never written. A ratio above 1 on sets that must not change is written as 1: of these only max(0, 1 - R) is known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.evals.openunlearning.columns import ATTACKED_SETS, LOG_SCORE, TAG, Column, columns_of, stem_of
from efface.results import Metric, Results

__all__ = ["as_openunlearning", "as_openunlearning_summary", "write_openunlearning"]


def as_openunlearning(results: Results) -> dict[str, Any]:
    """Return the nested log: key -> ``{"agg_value", "value_by_index"}``, sorted as OpenUnlearning writes it."""
    log = {
        column.key: _entry(column, results.metrics[column.name], results)
        for column in columns_of(stem_of(results.suite))
        if column.name in results.metrics and (results.metrics[column.name].is_available or results.metrics[column.name].per_item)
    }
    variants = sorted({metric.variant for metric in results.metrics.values()})
    log[TAG] = {
        "agg_value": None,
        "variant": variants[0] if len(variants) == 1 else ", ".join(variants),
        "suite": results.suite,
        "role": results.role,
        "fingerprint": results.fingerprint,
    }
    return dict(sorted(log.items()))


def as_openunlearning_summary(results: Results) -> dict[str, float]:
    """Return the flat summary: key -> figure, without those that are not available."""
    log = as_openunlearning(results)
    return {key: entry["agg_value"] for key, entry in log.items() if entry["agg_value"] is not None}


def write_openunlearning(results: Results, directory: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``TOFU_EVAL.json`` and ``TOFU_SUMMARY.json`` (or ``MUSE_...``) and return their paths.

    Raises:
        InputError: When there is nothing to write, or a file is there and ``overwrite`` is not set.
    """
    summary = as_openunlearning_summary(results)
    if not summary:
        raise InputError(
            f"The results of suite {results.suite} hold no figure that OpenUnlearning has a key for. Its logs are those of TOFU "
            "and MUSE. Evaluate with --suite tofu or muse."
        )
    folder = Path(directory).expanduser()
    stem = stem_of(results.suite)
    written = {folder / f"{stem}_EVAL.json": as_openunlearning(results), folder / f"{stem}_SUMMARY.json": summary}
    there = [path for path in written if path.exists()]
    if there and not overwrite:
        raise InputError(
            f"{there[0]} is already there. OpenUnlearning keeps what an old file holds, so mixing two evaluations would mislead. "
            "Name another folder, or remove the file."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path, tree in written.items():
        path.write_text(json.dumps(tree, indent=4, allow_nan=False) + "\n", encoding="utf-8")
    return list(written)


def _entry(column: Column, metric: Metric, results: Results) -> dict[str, Any]:
    value = metric.value
    if column.kind == "attack":
        return {**_sides(column, metric, results), "auc": value, "agg_value": value}
    if column.kind == "total" or not metric.per_item:
        return {"agg_value": value}
    entries = [_entry_of(column, index, each, results) for index, each in enumerate(metric.per_item)]
    if column.kind in _RATIOS:  # OpenUnlearning leaves these rows out, and computes with every entry it finds
        return {
            "agg_value": value,
            "value_by_index": {i: each for i, each in _indexed(entries).items() if each["score"] is not None},
        }
    return {"agg_value": value, "value_by_index": _indexed(entries)}


def _sides(column: Column, metric: Metric, results: Results) -> dict[str, Any]:
    """Return both sides of an attack: the forget rows' scores, the holdout rows' where they are losses, else their mean."""
    found: dict[str, Any] = {}
    for key in ATTACKED_SETS:
        mean = metric.details.get(f"mean_{key}")
        losses = results.metrics.get(f"{key}_nll")
        scores = metric.per_item if key == "forget" else ()
        if column.name == "mia_loss" and key == "holdout" and losses is not None:
            scores = losses.per_item
        if mean is not None or scores:
            found[key] = {"agg_value": mean, "value_by_index": _indexed([{"score": _plain(each)} for each in scores])}
    return found


def _entry_of(column: Column, index: int, value: float | None, results: Results) -> dict[str, Any]:
    if column.kind == "probability":
        losses = _column(results, column.name.replace("probability", "nll"))
        loss = losses[index] if index < len(losses) else (-math.log(value) if value else None)
        return {"prob": _plain(value), "avg_loss": _plain(loss)}
    if column.kind == "wrong":
        return {"prob": None if value is None else [value]}
    if column.kind in _RATIOS:
        ratios = _column(results, f"{column.set_name}_log_truth_ratio")
        if index < len(ratios):
            log_ratio = ratios[index]
            return {"score": None} if log_ratio is None else {"score": math.exp(log_ratio), LOG_SCORE: log_ratio}
        return {"score": None if value is None else 1 - value}
    return {_FIELD[column.kind]: _plain(value)}


_RATIOS = ("closeness", "preference")
_FIELD: Mapping[str, str] = {"options": "prob", "rouge_recall": "rougeL_recall", "rouge_f1": "rougeL_f1", "score": "score"}


def _column(results: Results, name: str) -> tuple[float | None, ...]:
    metric = results.metrics.get(name)
    return () if metric is None else metric.per_item


def _indexed(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {str(index): entry for index, entry in enumerate(entries)}


def _plain(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
