"""Frozen result objects that every part hands on.

Nothing here computes, loads or writes: a stage fills these in, the report and the command line read them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from efface.places import atomic_directory, require_replaceable

__all__ = [
    "Aim",
    "AxisPoint",
    "AxisResult",
    "Cost",
    "Example",
    "Intention",
    "Interval",
    "Metric",
    "PathPoint",
    "Report",
    "Results",
    "Unlearned",
]

Aim = Literal["higher", "lower", "reference", "zero"]


class Intention(StrEnum):
    """What a method sets out to do; never a finding."""

    EXACT = "exact"
    REMOVAL = "removal"
    SUPPRESSION = "suppression"


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval and how it was made.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Coverage asked for, in (0, 1).
        method: For example "bootstrap over entities".
        n_entities: Number of independent units resampled; below 10 the interval is not meaningful.
    """

    low: float
    high: float
    level: float = 0.95
    method: str = "bootstrap over entities"
    n_entities: int | None = None

    @property
    def is_meaningful(self) -> bool:
        """Whether at least ten entities stand behind the interval."""
        return self.n_entities is None or self.n_entities >= 10


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured figure.

    Attributes:
        name: Internal snake-case name ("forget_probability").
        value: The figure, or None when it is not available.
        aim: Which way is better; "reference" means as close as possible to the retrained model.
        variant: "openunlearning", "original" or "strict".
        interval: Interval of ``value``, where one makes sense.
        n: Items used.
        n_skipped: Items without a valid value.
        reason: Why the value is missing, or what a reader must know of it.
        details: Further figures by name (KS D, log10 p, chance level, ...).
        per_item: Value per item, in item order; empty when the metric has none.
        item_ids: Row ids that ``per_item`` belongs to.
    """

    name: str
    value: float | None
    aim: Aim
    variant: str = "strict"
    interval: Interval | None = None
    n: int = 0
    n_skipped: int = 0
    reason: str = ""
    details: Mapping[str, float | str | None] = field(default_factory=dict)
    per_item: tuple[float | None, ...] = ()
    item_ids: tuple[str, ...] = ()

    @property
    def is_available(self) -> bool:
        """Whether there is a value to show."""
        return self.value is not None

    def as_dict(self, *, per_item: bool = True) -> dict[str, Any]:
        """Return plain types for JSON; without ``per_item`` the per-item columns are left out."""
        data = asdict(self)
        data["details"] = dict(self.details)
        if not per_item:
            del data["per_item"], data["item_ids"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Metric:
        """Rebuild what :meth:`as_dict` wrote."""
        values = dict(data)
        interval = values.pop("interval", None)
        values["per_item"] = tuple(values.get("per_item", ()))
        values["item_ids"] = tuple(values.get("item_ids", ()))
        return cls(**values, interval=Interval(**interval) if interval else None)


@dataclass(frozen=True, slots=True)
class Example:
    """One question with what a model answered, kept for the report (masked there by default)."""

    row_id: str
    group: str
    question: str
    answer: str
    generated: str


@dataclass(frozen=True, slots=True)
class Results:
    """Every figure of one model on one suite.

    Attributes:
        role: "original", "unlearned", "retrained" or another label.
        suite: Name of the suite that was run.
        metrics: Figures by name.
        fingerprint: Fingerprint of the model that was measured (weights, tokenizer, template, dtype, kernel).
        examples: Generations kept for the report.
        cost: Seconds by stage and counts of the measuring pass.
        notes: What a reader must know (skipped parts, truncated rows, ...).
        tables: Tables of numbers by name that are drawn rather than read ("confusion_test": a row per true class).
        table_labels: Names of the rows and columns of the tables.
    """

    role: str
    suite: str
    metrics: Mapping[str, Metric]
    fingerprint: str = ""
    examples: tuple[Example, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tables: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    table_labels: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Metric:
        return self.metrics[name]

    def value(self, name: str) -> float | None:
        """Return the value of a metric, or None when it is absent or not available."""
        metric = self.metrics.get(name)
        return None if metric is None else metric.value

    def __str__(self) -> str:
        """Return a plain table: one line per figure, with its interval, or why it is not available."""
        width = max((len(name) for name in self.metrics), default=0)
        lines = [f"{self.role} model, suite {self.suite}"]
        for name, metric in self.metrics.items():
            interval = metric.interval
            if metric.value is None:
                shown = f"not available: {metric.reason}"
            elif interval is None or not interval.is_meaningful:
                shown = f"{metric.value:8.3f}"
            else:
                shown = f"{metric.value:8.3f}  [{interval.low:.3f}, {interval.high:.3f}]"
            lines.append(f"  {name:<{width}}  {shown}")
        return "\n".join(lines)

    def as_dict(self, *, per_item: bool = True) -> dict[str, Any]:
        """Return plain types for JSON. Examples hold plain text and are never part of it."""
        return {
            "role": self.role,
            "suite": self.suite,
            "fingerprint": self.fingerprint,
            "metrics": {name: metric.as_dict(per_item=per_item) for name, metric in self.metrics.items()},
            "cost": dict(self.cost),
            "notes": list(self.notes),
            **({"tables": {name: [list(row) for row in table] for name, table in self.tables.items()}} if self.tables else {}),
            **({"table_labels": list(self.table_labels)} if self.table_labels else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Results:
        """Rebuild what :meth:`as_dict` wrote (without examples)."""
        return cls(
            role=data["role"],
            suite=data["suite"],
            fingerprint=data["fingerprint"],
            metrics={name: Metric.from_dict(metric) for name, metric in data["metrics"].items()},
            cost=data.get("cost", {}),
            notes=tuple(data.get("notes", ())),
            tables={name: tuple(tuple(row) for row in table) for name, table in data.get("tables", {}).items()},
            table_labels=tuple(data.get("table_labels", ())),
        )


@dataclass(frozen=True, slots=True)
class AxisPoint:
    """One fold of a curve over forget sets.

    Attributes:
        fold: Number of the fold, from 1.
        rows: Rows that had to be forgotten in it.
        entities: Entities they are about.
        results: Figures by role, on what has been asked for so far.
        report: Where the report of this fold's run lies, relative to the curve's folder.
    """

    fold: int
    rows: int
    entities: int
    results: Mapping[str, Results]
    report: str = ""


@dataclass(frozen=True, slots=True)
class AxisResult:
    """How a method fares over growing forget sets, or over requests in a row.

    Attributes:
        axis: "scalability" or "sustainability".
        method: Name of the method.
        points: One per fold, in order.
        figures: Names of the figures whose curves are shown.
        slope: Change of the utility per fold relative to the first, with its interval; the worst step stands in its details.
        utility: Name of the figure it is made of.
    """

    axis: Literal["scalability", "sustainability"]
    method: str
    points: tuple[AxisPoint, ...]
    figures: tuple[str, ...]
    slope: Metric
    utility: str

    def curve(self, name: str, role: str = "unlearned") -> tuple[Metric, ...]:
        """Return a figure of a role at every fold."""
        return tuple(point.results[role].metrics[name] for point in self.points)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, without values per item."""
        return {
            "axis": self.axis,
            "method": self.method,
            "figures": list(self.figures),
            "utility": self.utility,
            "slope": self.slope.as_dict(per_item=False),
            "points": [
                {
                    "fold": point.fold,
                    "rows": point.rows,
                    "entities": point.entities,
                    "report": point.report,
                    "results": {role: result.as_dict(per_item=False) for role, result in point.results.items()},
                }
                for point in self.points
            ],
        }


@dataclass(frozen=True, slots=True)
class PathPoint:
    """One point of the forget/retain path drawn in the report.

    Attributes:
        step: Optimiser step, 0 before training.
        epoch: Fraction of passes over the forget set.
        values: Cheap figures at that step ("forget_nll", "retain_nll", "holdout_nll", "loss", ...).
    """

    step: int
    epoch: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage took.

    Attributes:
        seconds: Wall-clock seconds.
        peak_memory_bytes: Peak resident (CPU) or allocated (GPU) memory of the process.
        steps: Optimiser steps executed in this process (a resumed run executes fewer).
        trained_parameters: Number of parameters that were trained.
    """

    seconds: float
    peak_memory_bytes: int | None = None
    steps: int | None = None
    trained_parameters: int | None = None


@dataclass(frozen=True)
class Unlearned:
    """An unlearned model on disk and how it came about.

    Attributes:
        path: Directory that holds the model (or adapter) and ``efface.json``.
        method: Resolved configuration, the plugs spelt out.
        intention: What the method sets out to do.
        history: The forget/retain path.
        stopped: Why training ended ("completed", "forget NLL passed the holdout's at step 40", ...).
        cost: Seconds, memory, steps, trained parameters.
        weights_hash: SHA-256 of the saved weights.
        cast_survival: Share of changed weights that still differ from the original after the cast to its dtype, in [0, 1].
        notes: Warnings a reader must see.
        kept_step: Optimiser step whose weights were kept; None is the last one.
        lineage: The requests the model has been through, oldest first, this one last.
        load: Loader of the model, handed in by whoever made this.
    """

    path: Path
    method: Mapping[str, Any]
    intention: Intention
    history: tuple[PathPoint, ...] = ()
    stopped: str = "completed"
    cost: Cost = Cost(0.0)
    weights_hash: str = ""
    cast_survival: float | None = None
    notes: tuple[str, ...] = ()
    kept_step: int | None = None
    lineage: tuple[Mapping[str, Any], ...] = ()
    load: Callable[[Path], Any] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def model(self) -> Any:
        """The model loaded from ``path`` (what is measured is what is shipped); ``load`` is handed in by whoever made this."""
        if self.load is None:
            raise TypeError(f"This result holds no loader for {self.path}. Load it with efface.load(path).")
        return self.load(self.path)

    def save(self, directory: str | Path) -> Path:
        """Copy the model directory to ``directory`` and return it; a model that efface wrote there is replaced.

        Raises:
            InputError: When files lie there that are not a model of efface.
        """
        target = require_replaceable(directory)
        with atomic_directory(target) as temporary:
            shutil.copytree(self.path, temporary, dirs_exist_ok=True)
        return target


@dataclass(frozen=True)
class Report:
    """Everything a report says; :mod:`efface.report` turns it into ``report.json`` and ``report.html``.

    Attributes:
        request: The resolved request, plain types. Paths are shown by their last part only.
        unlearned: What was made and how; None when a model was only measured.
        results: Figures by role: "original", "unlearned", "retrained", "retrained_2".
        created: When the report was made, RFC 3339 in UTC.
        title: Shown at the top; by default made of the output folder's name.
        data: Per set ("forget", "retain", "holdout"): "rows", "entities", "source" and "sha256".
        costs: What each stage took, in the order it ran ("unlearning", "evaluation of the original model", ...).
        manifest: Versions, seeds, hashes, settings and hardware, as the run folder's manifest has them.
        notes: What a reader must know beside the notes of ``unlearned`` and ``results``.
        fictional: Whether the people in the data are invented; only then are examples shown in full.
        verdict: Finding of an audit; "not audited" before there is one.
        kept_step: Step whose weights were kept, when it is not the last of the path.
    """

    request: Mapping[str, Any]
    unlearned: Unlearned | None
    results: Mapping[str, Results]
    created: str
    title: str = ""
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fictional: bool = False
    verdict: str = "not audited"
    kept_step: int | None = None
