"""From an OpenUnlearning log to :class:`~efface.results.Results` that serve as a reference for other models.

Values are taken as they stand. What the file itself shows to be wrong is said in the notes: entries that lie under the indices of
other rows (mended), and aggregates that do not follow from their own entries (a stale part of an earlier evaluation).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.evals.metrics.base import Variant
from efface.evals.metrics.truth_ratio import MODEL_UTILITY_PARTS, closeness, model_utility, preference
from efface.evals.openunlearning.columns import ATTACKED_SETS, LOG_SCORE, TAG, Column, columns_of
from efface.evals.suites.data import SetView, SuiteData
from efface.evals.summary import entity_interval
from efface.results import Interval, Metric, Results
from efface.text import normalise

__all__ = ["is_openunlearning_log", "read_openunlearning"]

Floats = list[float | None]
Entries = Mapping[str, Any]

_FILES = ("TOFU_EVAL.json", "MUSE_EVAL.json", "TOFU_SUMMARY.json", "MUSE_SUMMARY.json")
_ACCEPTED = (
    "A log is TOFU_EVAL.json or MUSE_EVAL.json as OpenUnlearning's evaluators write it, their _SUMMARY.json, or the folder of one."
)
_MUSE_ONLY = {"forget_verbmem_ROUGE", "forget_knowmem_ROUGE", "retain_knowmem_ROUGE"}
_MATCHING = 0.9  # share of rows whose logged text must contain the row's answer: decoding mangles a few
_LOG_FLOOR = -745.0  # log of the smallest double, as in efface.evals.metrics.truth_ratio
_CLOSE = 1e-4  # float32 means of bfloat16 values


def is_openunlearning_log(tree: Any) -> bool:
    """Whether parsed JSON looks like such a log: names with a number each, or with ``agg_value``."""
    if not isinstance(tree, Mapping) or not tree or "metrics" in tree:
        return False
    known = {column.key for stem in ("TOFU", "MUSE") for column in columns_of(stem)}
    return bool(known & tree.keys()) and all(
        isinstance(value, int | float) or value is None or (isinstance(value, Mapping) and (key == TAG or "agg_value" in value))
        for key, value in tree.items()
    )


def read_openunlearning(path: str | Path, *, data: SuiteData | None = None, role: str = "retrained", seed: int = 0) -> Results:
    """Read a log as results.

    Args:
        path: The file, or a folder that holds one (itself or in ``evals``).
        data: The sets it was made on, in the order of the files; with them the values get row ids and intervals, and the
            results can stand in for a retrained model. Without them rows are named by their index.
        role: What the model is called.
        seed: Seed of the bootstraps.

    Raises:
        InputError: When the file is missing or not such a log, or its values do not belong to the forget or holdout rows.
    """
    file = _find(Path(path).expanduser())
    tree = _parse(file)
    stem = "MUSE" if file.name.startswith("MUSE") or tree.keys() & _MUSE_ONLY else "TOFU"
    log = {key: value if isinstance(value, Mapping) else {"agg_value": value} for key, value in tree.items()}
    tag = log.pop(TAG, {})
    reading = _Reading(log, data, _variant(tag), seed)
    metrics: dict[str, Metric] = {}
    for column in columns_of(stem):
        if column.key in log:
            metrics |= reading.read(column)
    unread = sorted(log.keys() - {column.key for column in columns_of(stem)})
    notes = [f"Read from OpenUnlearning's {file.name}; values as they stand there.", *reading.notes, *_stale(log, metrics)]
    if unread:
        notes.append(f"Not read, since efface has no figure of that name: {', '.join(unread)}.")
    return Results(role, stem.lower(), metrics, fingerprint=str(tag.get("fingerprint", "")), notes=tuple(notes))


def _find(path: Path) -> Path:
    if path.is_dir():
        found = [folder / name for folder in (path, path / "evals") for name in _FILES if (folder / name).is_file()]
        if not found:
            raise InputError(f"{path} holds no log of OpenUnlearning. {_ACCEPTED} Name the file.")
        return found[0]
    if not path.is_file():
        raise InputError(f"There is no file {path}. {_ACCEPTED} Check the path.")
    return path


def _parse(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{file} is not JSON ({error}). {_ACCEPTED} Copy the file again.") from None
    if not is_openunlearning_log(tree):
        raise InputError(f"{file} is JSON, but no log of OpenUnlearning. {_ACCEPTED} Name such a file.")
    return dict(tree)


def _variant(tag: Mapping[str, Any]) -> Variant:
    said = tag.get("variant", "openunlearning")
    return said if said in ("strict", "original") else "openunlearning"


class _Reading:
    """One log while it is read: what has been noticed, and the rows it belongs to."""

    def __init__(self, log: Mapping[str, Entries], data: SuiteData | None, variant: Variant, seed: int) -> None:
        self.log = log
        self.sets = {} if data is None else data.sets
        self.variant = variant
        self.seed = seed
        self.notes: list[str] = []
        self._unmatched: set[str] = set()
        self._check_texts()

    def read(self, column: Column) -> dict[str, Metric]:
        """Return the figures one key gives: itself, and the losses and ratios behind it."""
        entry = self.log[column.key]
        if column.kind == "attack":
            return self._attack(column, entry)
        if column.kind == "total" or "value_by_index" not in entry:
            return {column.name: self._metric(column, entry.get("agg_value"), [])}
        entries = self._aligned(column, entry["value_by_index"])
        values = [_VALUES[column.kind](each) for each in entries]
        found = {column.name: self._metric(column, entry.get("agg_value"), values)}
        if column.name == f"{column.set_name}_probability":
            found |= self._derived(column, "nll", [_number(each, "avg_loss") for each in entries])
        if column.kind in ("closeness", "preference"):
            found |= self._derived(column, "log_truth_ratio", [_log_ratio(each) for each in entries])
        return found

    def _aligned(self, column: Column, by_index: Entries) -> list[Any]:
        """Return the entries in row order.

        Where a row has no loss, OpenUnlearning drops its ratio and pairs the remaining ones with the first indices; the rows that
        were dropped are known from the losses, if they stand in the same file.
        """
        entries = _in_order(by_index)
        parents = [_in_order(self.log.get(key, {}).get("value_by_index", {})) for key in column.parents]
        rows = max((len(parent) for parent in parents), default=0)
        gone = {index for parent in parents for index, each in enumerate(parent) if _is_empty(each)}
        if not gone or None in entries or len(entries) != rows - len(gone):
            return entries + [None] * (rows - len(entries))
        kept = iter(entries)
        self.notes.append(f"{column.key}: {len(gone)} rows have no loss, and the entries after them stood one row early; mended.")
        return [None if index in gone else next(kept) for index in range(rows)]

    def _attack(self, column: Column, entry: Entries) -> dict[str, Metric]:
        sides = {key: entry.get(key, {}) for key in ATTACKED_SETS}
        scores = {
            key: [_number(each, "score") for each in _in_order(side.get("value_by_index", {}))] for key, side in sides.items()
        }
        details: dict[str, float | str | None] = {}
        for key, side in sides.items():
            if side:
                details |= {f"mean_{key}": _finite(side.get("agg_value")), f"n_{key}": float(len(scores[key]))}
        value = entry.get("auc", entry.get("agg_value"))
        found = {column.name: self._metric(column, value, scores["forget"], set_name=column.sides[0], details=details)}
        if column.name == "mia_loss":  # its scores are the losses, which the reference attack takes
            for key in ATTACKED_SETS:
                found |= self._derived(Column("", column.key, "score", key, "reference"), "nll", scores[key])
        return found

    def _derived(self, column: Column, figure: str, values: Floats) -> dict[str, Metric]:
        name = f"{column.set_name}_{figure}"
        valid = [value for value in values if value is not None]
        if not valid:
            return {}
        mean = float(np.median(valid) if figure == "log_truth_ratio" else np.mean(valid))
        details = self._items(column.set_name) if figure == "log_truth_ratio" else {}
        kept = Column(name, column.key, "score", column.set_name, column.aim)
        return {name: self._metric(kept, mean, values, details=details)}

    def _metric(
        self,
        column: Column,
        value: Any,
        values: Floats,
        *,
        set_name: str | None = None,
        details: Mapping[str, float | str | None] | None = None,
    ) -> Metric:
        key = column.set_name if set_name is None else set_name
        rows = self._rows(key, len(values)) if values else None
        number = _finite(value)
        used = [each for each in values if each is not None]
        is_mean = set_name is None and not column.name.endswith("log_truth_ratio")
        return Metric(
            column.name,
            number,
            column.aim,
            self.variant,
            interval=self._interval(values, rows) if is_mean and number is not None else None,
            n=len(used),
            n_skipped=len(values) - len(used),
            reason="" if number is not None else f"the log holds no number for {column.key}",
            details=dict(details or {}),
            per_item=tuple(values),
            item_ids=tuple(str(index) for index in range(len(values))) if rows is None else tuple(row.id for row in rows),
        )

    def _interval(self, values: Floats, rows: Sequence[Row] | None) -> Interval | None:
        pairs = [(value, row) for value, row in zip(values, rows or (), strict=False) if value is not None]
        return entity_interval([v for v, _ in pairs], [row for _, row in pairs], seed=self.seed) if pairs else None

    def _rows(self, key: str, count: int) -> Sequence[Row] | None:
        """Return the rows of a set, where the log's values are theirs."""
        rows = self.sets.get(key)
        if rows is None or key in self._unmatched:
            return None
        if len(rows) == count:
            return rows.rows
        if key in ATTACKED_SETS:
            raise InputError(
                f"The log holds {count} values for the {key} set, which has {len(rows)} rows. Values are matched to rows by their "
                f"position in the file. Give the {key} split the log was made on, in its own order."
            )
        self._unmatched.add(key)
        self.notes.append(
            f"The log holds {count} values for the {key} set, which has {len(rows)} rows: they are left without row ids."
        )
        return None

    def _items(self, key: str) -> dict[str, float | str | None]:
        """Return the hash of what a ratio compares, so that two models are only compared on the same answers."""
        rows = self.sets.get(key)
        return {} if rows is None else {"items_sha256": _items_hash(key, rows)}

    def _check_texts(self) -> None:
        """Refuse rows in another order, where the log holds the texts of its generations."""
        rows = self.sets.get("forget")
        entries = _in_order(self.log.get("forget_Q_A_ROUGE", {}).get("value_by_index", {}))
        said = [each["ground_truth"] for each in entries if isinstance(each, Mapping) and "ground_truth" in each]
        if rows is None or len(said) != len(rows):
            return
        found = sum(normalise(row.answer or "") in normalise(text) for row, text in zip(rows, said, strict=True))
        if found < _MATCHING * len(rows):
            raise InputError(
                f"The log's answers are those of the forget rows in {found} of {len(rows)} places. Values are matched to rows by "
                "their position in the file. Give the forget split the log was made on, in its own order."
            )


def _items_hash(key: str, rows: RowSet) -> str:
    """Hash the answers a truth ratio compares, as the suites do when they measure one."""
    view = SetView(key, rows, max_new_tokens=1)
    used: list[str] = []
    for answer, paraphrase, wrong in zip(view.answers, view.paraphrased, view.perturbed, strict=True):
        if wrong:
            used += [(paraphrase or answer).hash, *(item.hash for item in wrong)]
    return hashlib.sha256("\n".join(used).encode()).hexdigest()


def _in_order(by_index: Entries) -> list[Any]:
    """Return the entries by their index (numbers as text: ``"10"`` stands after ``"9"``); an index that is left out gives None."""
    try:
        entries = {int(key): entry for key, entry in by_index.items()}
    except ValueError:
        raise InputError(
            f"value_by_index has keys that are no row numbers ({next(iter(by_index))!r}). {_ACCEPTED} Mend the file."
        ) from None
    return [entries.get(index) for index in range(max(entries, default=-1) + 1)]


def _is_empty(entry: Any) -> bool:
    return entry is None or (isinstance(entry, Mapping) and all(value is None for value in entry.values()))


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _number(entry: Any, field: str) -> float | None:
    return _finite(entry.get(field)) if isinstance(entry, Mapping) else None


def _mean(entry: Any, field: str) -> float | None:
    values = [] if not isinstance(entry, Mapping) else [_finite(value) for value in entry.get(field) or ()]
    valid = [value for value in values if value is not None]
    return float(np.mean(valid)) if valid else None


def _log_ratio(entry: Any) -> float | None:
    ratio, exact = _number(entry, "score"), _number(entry, LOG_SCORE)
    if ratio is None or exact is not None:
        return exact
    return max(math.log(ratio), _LOG_FLOOR) if ratio > 0 else _LOG_FLOOR


def _of_ratio(rule: Callable[[float], Any]) -> Callable[[Any], float | None]:
    def value(entry: Any) -> float | None:
        log_ratio = _log_ratio(entry)
        return None if log_ratio is None else float(rule(log_ratio))

    return value


def _field(name: str) -> Callable[[Any], float | None]:
    return lambda entry: _number(entry, name)


_VALUES: Mapping[str, Callable[[Any], float | None]] = {
    "probability": _field("prob"),
    "options": _field("prob"),
    "wrong": lambda entry: _mean(entry, "prob"),
    "rouge_recall": _field("rougeL_recall"),
    "rouge_f1": _field("rougeL_f1"),
    "closeness": _of_ratio(lambda log_ratio: closeness(log_ratio, variant="openunlearning")),
    "preference": _of_ratio(preference),
    "score": _field("score"),
}


def _stale(log: Mapping[str, Entries], metrics: Mapping[str, Metric]) -> list[str]:
    """Name aggregates that do not follow from what stands beside them: the evaluator keeps whatever an old file holds."""
    notes = []
    for name, metric in metrics.items():
        values = [value for value in metric.per_item if value is not None]
        if metric.value is None or not values or name.startswith("mia_") or name.endswith(("log_truth_ratio", "_nll")):
            continue
        if not math.isclose(metric.value, float(np.mean(values)), rel_tol=_CLOSE, abs_tol=_CLOSE):
            notes.append(f"{name} is {metric.value:.4g} in the log, but its own entries give {np.mean(values):.4g}.")
    parts = [metrics[name].value for name in MODEL_UTILITY_PARTS if name in metrics]
    whole = _finite(log.get("model_utility", {}).get("agg_value"))
    if whole is not None and len(parts) == len(MODEL_UTILITY_PARTS) and None not in parts:
        expected = model_utility([float(part) for part in parts if part is not None], variant="openunlearning")
        if not math.isclose(whole, expected, rel_tol=_CLOSE, abs_tol=_CLOSE):
            notes.append(f"model_utility is {whole:.4g} in the log, but its nine parts there give {expected:.4g}.")
    return [f"{note} Part of the file is from another evaluation (OpenUnlearning skips what an old file holds)." for note in notes]
