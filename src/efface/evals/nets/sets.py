"""What a net is measured on, and what it said there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efface.data.net_batches import RowBatches, with_labels
from efface.data.net_sets import Part, labels_of
from efface.data.problem import Problem
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.models.predictor import Predictor

__all__ = ["SETS", "NetMeasured", "NetSets", "measure_net"]

SETS = ("forget", "retain", "test")
"""Sets that are put through the net; ``test_forget`` and ``test_retain`` are parts of ``test``."""

Values = NDArray[Any]


@dataclass(frozen=True)
class NetSets:
    """The sets of a problem as the suite measures them.

    Attributes:
        task: "classification", "regression" or "forecasting".
        rows: Map-style rows of ``(x, y)`` by set: "forget", and where there are any "retain" and "test".
        ids: Row numbers in the training or test rows, by set.
        test_forget: Which test rows are of the kind that must go; None where nothing says so.
        quantiles: Levels of a quantile forecast; empty where outputs are points.
        class_names: Name per class.
        target_name: What is predicted, with its unit.
        name: Name of the problem.
    """

    task: str
    rows: Mapping[str, Any]
    ids: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    test_forget: NDArray[np.int64] | None = None
    quantiles: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
    target_name: str = ""
    name: str = ""

    @classmethod
    def of(cls, problem: Problem) -> NetSets:
        """Return the sets of a problem; its training rows without augmentation, of a set with few labels those that have one."""
        train = problem.measured_train
        forget, retain = (with_labels(train, numbers) for numbers in (problem.forget_rows(), problem.retain_rows()))
        loss_is_quantile = problem.loss == "quantile" or (problem.loss is None and problem.task == "forecasting")
        return cls(
            task=problem.task,
            rows={"forget": Part(train, forget), "retain": Part(train, retain), "test": problem.test},
            ids={"forget": forget, "retain": retain, "test": np.arange(len(problem.test))},
            test_forget=problem.test_forget_rows(),
            quantiles=tuple(problem.quantiles) if loss_is_quantile else (),
            class_names=tuple(problem.class_names or ()),
            target_name=problem.target_name,
            name=problem.name,
        )

    def __post_init__(self) -> None:
        if "forget" not in self.rows or len(self.rows["forget"]) == 0:
            raise InputError("There is no forget set to measure on. An evaluation needs its rows. Give at least one.")
        unknown = sorted(set(self.rows) - set(SETS))
        if unknown:
            raise InputError(f"There are no sets named {', '.join(unknown)}. Known: {', '.join(SETS)}. Rename them.")

    @cached_property
    def labels(self) -> Mapping[str, Values | None]:
        """Labels or targets by set, None where a set has none."""
        return {name: _labels(labels_of(rows), self.task) for name, rows in self.rows.items()}

    @cached_property
    def parts(self) -> Mapping[str, tuple[str, NDArray[np.int64] | slice]]:
        """Every set that is reported -> the measured set it comes from and which of its rows it takes.

        Test rows are split where the problem says which are of the forgotten kind, or where whole classes were forgotten.
        """
        found: dict[str, tuple[str, NDArray[np.int64] | slice]] = {name: (name, slice(None)) for name in SETS if name in self.rows}
        forgotten = self._forgotten_test_rows()
        if "test" in self.rows and forgotten is not None:
            rest = np.setdiff1d(np.arange(len(self.rows["test"])), forgotten)
            if len(rest) and len(forgotten):
                found |= {"test_retain": ("test", rest), "test_forget": ("test", forgotten)}
        return found

    def labels_in(self, part: str) -> Values | None:
        """Return the labels of a reported set."""
        source, rows = self.parts[part]
        labels = self.labels[source]
        return None if labels is None else labels[rows]

    def ids_in(self, part: str) -> tuple[str, ...]:
        """Return the row ids of a reported set ("test-17")."""
        source, rows = self.parts[part]
        numbers = self.ids.get(source, np.arange(len(self.rows[source])))[rows]
        prefix = "test" if source == "test" else "train"
        return tuple(f"{prefix}-{number}" for number in numbers)

    def _forgotten_test_rows(self) -> NDArray[np.int64] | None:
        if self.test_forget is not None or self.task != "classification":
            return self.test_forget
        forget, retain, test = (self.labels.get(name) for name in SETS)
        if forget is None or retain is None or test is None:
            return None
        gone = np.setdiff1d(np.unique(forget), np.unique(retain))
        return np.flatnonzero(np.isin(test, gone)) if set(np.unique(forget)) <= set(gone) else None


@dataclass(frozen=True)
class NetMeasured:
    """What one model said on every set.

    Attributes:
        outputs: By measured set: logits (n, K), predictions (n, ...) or quantiles (n, ..., Q), float64.
        fingerprint: Fingerprint of the model.
        seconds: Wall-clock seconds of the pass.
    """

    outputs: Mapping[str, NDArray[np.float64]]
    fingerprint: str = ""
    seconds: float = 0.0

    def on(self, sets: NetSets, part: str) -> NDArray[np.float64]:
        """Return the outputs on a reported set."""
        source, rows = sets.parts[part]
        return self.outputs[source][rows]


def measure_net(
    predictor: Predictor, sets: NetSets, *, batch_size: int = 512, progress: Callable[[int, int], None] | None = None
) -> NetMeasured:
    """Put every set through a model once, in order, in batches.

    Raises:
        InputError: When a classifier does not give a row of logits per item, or a name is given for another number of classes.
    """
    started = time.perf_counter()
    total, done = sum(len(rows) for rows in sets.rows.values()), 0
    outputs: dict[str, NDArray[np.float64]] = {}
    for name, rows in sets.rows.items():
        said: list[NDArray[np.float64]] = []
        for x, _ in RowBatches(rows, batch_size=batch_size):
            said.append(np.asarray(predictor.predict(x).double().numpy()))
            done += len(said[-1])
            if progress is not None:
                progress(done, total)
        outputs[name] = _checked(said, name, sets)
    return NetMeasured(outputs, predictor.fingerprint, time.perf_counter() - started)


def _checked(said: Sequence[NDArray[np.float64]], name: str, sets: NetSets) -> NDArray[np.float64]:
    outputs = np.concatenate(said)
    if sets.task != "classification":
        return outputs
    if outputs.ndim != 2:
        raise InputError(
            f"The model gives outputs of shape {outputs.shape} on the {name} rows. A classifier gives one row of logits per item. "
            "Give it one output per class (two for a binary problem), or choose another task."
        )
    if sets.class_names and len(sets.class_names) != outputs.shape[1]:
        raise InputError(
            f"There are {len(sets.class_names)} class names, and the model has {outputs.shape[1]} outputs. "
            "Each output is one class. Give a name per output, or leave class_names out."
        )
    return outputs


def _labels(labels: Values | None, task: str) -> Values | None:
    if labels is None or task != "classification":
        return labels
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1:
        raise InputError(
            f"Labels of shape {labels.shape} were given. A classifier's label is one class number per row. Convert one-hot labels."
        )
    return flat[:, 0].astype(np.int64)
