"""The report as plain data: everything ``report.html`` shows, and nothing that must not leave the run folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

from efface.errors import InputError
from efface.report.catalogue import AIMS, QUESTIONS, ROLES, Description, describe, sorted_names
from efface.report.findings import INTENTIONS, headline, limits, usability
from efface.report.masking import select_examples
from efface.report.net_families import gap_text, is_mixed
from efface.results import Cost, Interval, Metric, Report, Results, Unlearned

__all__ = ["SCHEMA", "build_report", "check_report", "plain_types", "read_report"]

SCHEMA = "efface-report/1"
DISTRIBUTIONS = (
    ("forget", "log_truth_ratio"),
    ("forget", "probability"),
    ("retain", "probability"),
    ("forget", "confidence"),
    ("forget", "prediction"),
    ("test", "prediction"),
)
_REQUIRED = {
    "schema": str,
    "created": str,
    "title": str,
    "verdict": str,
    "headline": list,
    "usability": dict,
    "request": dict,
    "comparison": list,
    "results": dict,
    "path": list,
    "examples": list,
    "costs": list,
    "limits": list,
    "notes": list,
    "manifest": dict,
}
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FILE = re.compile(r"[^\s:]+[\\/][^\s:]+\.(?:jsonl?|csv|parquet|ya?ml|toml|txt|html|pt|bin|safetensors)")
_ABSOLUTE = re.compile(r"(?<![\w:/<.])~?/(?:[\w.@+-]+/)*[\w.@+-]+/?")


def build_report(report: Report) -> dict[str, Any]:
    """Return the content of ``report.json``: plain types, no NaN, paths by their last part, no text of the forget rows.

    Examples hold their words only where the data are fictional; else their length and match marks.
    """
    made = report.unlearned
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "created": report.created,
        "title": report.title or _title(report),
        "verdict": report.verdict,
        "intention": str(made.intention) if made is not None else None,
        "intention_text": INTENTIONS[made.intention] if made is not None else "",
        "fictional": report.fictional,
        "headline": headline(report),
        "usability": usability(report.results),
        "request": report.request,
        "data": report.data,
        "method": made.method if made is not None else {},
        "unlearned": _unlearned(made, report.kept_step),
        "lineage": [dict(entry) for entry in made.lineage] if made is not None else [],
        "roles": [role for role in ROLES if role in report.results] + [r for r in report.results if r not in ROLES],
        "comparison": _comparison(report.results),
        "results": {role: _result(result) for role, result in report.results.items()},
        "path": [asdict(point) for point in made.history] if made is not None else [],
        "examples": select_examples(report.results, plain=report.fictional),
        "costs": _costs(report),
        "limits": limits(report),
        "notes": _notes(report),
        "manifest": report.manifest,
    }
    cleaned: dict[str, Any] = plain_types(data)
    return cleaned


def check_report(data: Any, *, where: str = "report.json") -> dict[str, Any]:
    """Return ``data`` when it is a report of this schema.

    Raises:
        InputError: When it is not, naming what is missing.
    """
    schema = data.get("schema") if isinstance(data, Mapping) else None
    if schema != SCHEMA:
        raise InputError(
            f"{where} has the schema {schema!r}. This version of efface reads {SCHEMA!r}. Open it with the version that wrote it."
        )
    wrong = [key for key, kind in _REQUIRED.items() if not isinstance(data.get(key), kind)]
    if wrong:
        raise InputError(
            f"{where} lacks {', '.join(wrong)}, or holds it in another form. A report of {SCHEMA!r} has them all. Write it again."
        )
    return dict(data)


def read_report(path: str | Path) -> dict[str, Any]:
    """Read and check a ``report.json``."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no report at {path.name}. A run writes report.json into its folder. Check the path.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name} is not JSON (line {error.lineno}). A report is one JSON object. Write it again.") from None
    return check_report(data, where=path.name)


def _title(report: Report) -> str:
    output = report.request.get("output")
    return f"Forget request {PurePath(str(output)).name}" if output else "Forget request"


def _unlearned(made: Unlearned | None, kept_step: int | None) -> dict[str, Any] | None:
    if made is None:
        return None
    stop = re.search(r"\bstep (\d+)", made.stopped)
    return {
        "model": Path(made.path).name,
        "stopped": made.stopped,
        "stopped_step": int(stop.group(1)) if stop and made.stopped != "completed" else None,
        "kept_step": kept_step,
        "weights_hash": made.weights_hash,
        "cast_survival": made.cast_survival,
        "trained_parameters": made.cost.trained_parameters,
        "steps": made.cost.steps,
    }


def _comparison(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    rows: dict[str, list[dict[str, Any]]] = {question.key: [] for question in QUESTIONS}
    names = sorted_names(results)
    for name in names:
        description = describe(name)
        metrics = {role: result.metrics[name] for role, result in results.items() if name in result.metrics}
        first = metrics.get("unlearned") or next(iter(metrics.values()))
        cells = {role: _cell(metrics.get(role), description.scale, results[role]) for role in results}
        rows[description.question].append(
            {
                "name": name,
                "label": description.label,
                "explanation": _explanation(description, first, names),
                "scale": description.scale,
                "aim": first.aim,
                "aim_text": AIMS[first.aim] if description.scale != "test" else "best at D near 0, that is p near 1",
                "is_main": description.is_main and not is_mixed(description.set_name, description.family, names),
                "variant": first.variant,
                "is_available": any(cell["value"] is not None for cell in cells.values()),
                "models": cells,
            }
        )
    return [
        {
            "key": question.key,
            "title": question.title,
            "text": question.text,
            "rows": rows[question.key],
            "missing": _missing(rows[question.key]),
        }
        for question in QUESTIONS
        if rows[question.key]
    ]


def _explanation(description: Description, metric: Metric, names: list[str]) -> str:
    """Word a figure for the task at hand and name what is predicted, with its unit."""
    text = (gap_text(names) if description.family == "average_gap" else "") or description.explanation
    target = metric.details.get("target_name")
    return text.replace("the unit of the target", f"the unit of the target, {target}") if target else text


def _missing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gather the figures that no model has by their reason, so that one missing set is one line."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["is_main"] and not row["is_available"]:
            reasons = dict.fromkeys(cell["reason"] for cell in row["models"].values())
            found.setdefault("; ".join(reasons), []).append(row["label"])
    return [{"reason": reason, "labels": labels} for reason, labels in found.items()]


def _cell(metric: Metric | None, scale: str, result: Results) -> dict[str, Any]:
    if metric is None:
        return {
            "value": None,
            "interval": None,
            "n": 0,
            "n_skipped": 0,
            "reason": f"not part of the {result.suite} suite",
            "details": {},
        }
    value = metric.value if metric.value is not None and math.isfinite(metric.value) else None
    reason = metric.reason
    if value is None and metric.value is not None:
        reason = reason or "the value is not a finite number"
    cell: dict[str, Any] = {
        "value": value,
        "interval": None,
        "n": metric.n,
        "n_skipped": metric.n_skipped,
        "reason": reason or ("no reason was given" if value is None else ""),
        "details": dict(metric.details),
    }
    interval = metric.interval
    if scale == "test":
        cell["test"] = _test(metric)
        interval = interval or _interval_of_distance(metric, result)
    if interval is not None and value is not None:
        cell["interval"] = asdict(interval) | {"is_meaningful": interval.is_meaningful}
    return cell


def _interval_of_distance(metric: Metric, result: Results) -> Interval | None:
    """A p-value has no interval; the one shown is that of the distance D."""
    low, high = metric.details.get("ks_d_low"), metric.details.get("ks_d_high")
    if not isinstance(low, float | int) or not isinstance(high, float | int):
        return None
    neighbours = (m.interval for name, m in result.metrics.items() if name.startswith("forget_") and m.interval is not None)
    entities = next((interval.n_entities for interval in neighbours), None)
    return Interval(low, high, method="bootstrap over entities, of D", n_entities=entities)


def _test(metric: Metric) -> dict[str, float | str | None]:
    """Collect what a Kolmogorov-Smirnov test is read by."""
    names = {"d": "ks_d", "log10_p": "log10_p", "log10_floor": "log10_p_floor", "direction": "direction"}
    return {key: metric.details.get(name) for key, name in names.items()}


def _result(result: Results) -> dict[str, Any]:
    """Everything but row ids and texts; values per item only where a plot shows them."""
    data = result.as_dict(per_item=False)
    drawn = {name for name in result.metrics for where, family in DISTRIBUTIONS if _is_drawn(name, where, family)}
    for name in drawn:
        data["metrics"][name]["per_item"] = list(result.metrics[name].per_item)
    return data


def _is_drawn(name: str, set_name: str, family: str) -> bool:
    description = describe(name)
    return description.set_name == set_name and description.family == family


def _costs(report: Report) -> list[dict[str, Any]]:
    stages = dict(report.costs)
    if report.unlearned is not None and "unlearning" not in stages and report.unlearned.cost != Cost(0.0):
        stages = {"unlearning": report.unlearned.cost, **stages}
    return [{"stage": stage, **asdict(cost)} for stage, cost in stages.items()]


def _notes(report: Report) -> list[str]:
    """Gather all notes; one that several models share is said once, with the models it holds for."""
    notes = [*report.notes, *(report.unlearned.notes if report.unlearned is not None else ())]
    shared: dict[str, list[str]] = {}
    for role, result in report.results.items():
        for note in result.notes:
            shared.setdefault(note, []).append(role)
    for note, roles in shared.items():
        notes.append(note if len(roles) == len(report.results) else f"{' and '.join(roles).capitalize()}: {note}")
    return list(dict.fromkeys(notes))


def plain_types(value: Any) -> Any:
    """Turn everything into plain JSON types: floats to six significant digits, NaN to null, paths to their last part."""
    if isinstance(value, Mapping):
        return {str(k): plain_types(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_types(v) for v in value]
    if isinstance(value, PurePath):
        return value.name
    if isinstance(value, str):
        return _name_only(str(value))
    if value is None or isinstance(value, bool | int):
        return value
    if hasattr(value, "item"):  # NumPy scalars
        return plain_types(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return _name_only(str(value))


def _name_only(text: str) -> str:
    """Cut local paths to their last part; hub ids ("owner/name") and ordinary prose stay."""
    if "\n" not in text and (_DRIVE.match(text) or text.startswith(("./", "../", "\\\\")) or _FILE.fullmatch(text)):
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return _ABSOLUTE.sub(lambda match: match.group().rstrip("/").rpartition("/")[2], text)
