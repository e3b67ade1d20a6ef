"""The caller's data as rows of ``(x, y)``: tensors, NumPy arrays, data frames and data sets.

A set of rows is map-style: ``len(rows)`` and ``rows[i] -> (x, y)``, ``x`` a tensor, or a tuple or mapping of tensors, ``y`` a
tensor, or None where a row has no label. Nothing is scaled or shuffled here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efface.data.net_survey import Survey, broken_rows, is_pair, one_pass, pair_of
from efface.errors import InputError
from efface.registry import closest

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ArrayRows",
    "FetchedRows",
    "Part",
    "as_rows",
    "collate",
    "columns_of",
    "labels_of",
]

_SHOWN = 10
_NUMBERS = "biuf"
"""Kinds of NumPy types that are numbers: bool, whole, unsigned and floating."""


@dataclass(frozen=True)
class ArrayRows:
    """Rows held as tensors, one entry per row in each.

    Attributes:
        x: Inputs: a tensor, or a tuple or mapping of tensors of one length.
        y: Labels or targets, or None.
        columns: Names of the inputs, where they come from a data frame.
    """

    x: Any
    y: Tensor | None = None
    columns: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(_first(self.x))

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.take(index)

    def take(self, rows: Any) -> tuple[Any, Any]:
        """Return ``(x, y)`` of one row, or of several stacked."""
        return _mapped(self.x, lambda tensor: tensor[rows]), None if self.y is None else self.y[rows]


@dataclass(frozen=True)
class FetchedRows:
    """Rows of a caller's data set, fetched one by one and handed on as tensors, whatever the data set gives.

    Attributes:
        rows: The data set.
        name: How it is called in an error.
        columns: Names of the inputs, where they come from a data frame.
    """

    rows: Any
    name: str = "the data"
    columns: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index >= len(self):
            raise IndexError(index)  # some data sets count on round
        x, y = pair_of(self.rows[index])
        return _row_tensors(x, f"The input of row {index} of {self.name}"), None if y is None else _label(y, index, self.name)

    @cached_property
    def survey(self) -> Survey:
        """What one pass over the rows tells; made once, since a data set may read a file per row."""
        return one_pass(self)


@dataclass(frozen=True)
class Part:
    """Some rows of a set, in the given order.

    Attributes:
        rows: The whole set.
        indices: Which of its rows.
    """

    rows: Any
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.rows[int(self.indices[index])]


def as_rows(data: Any, labels: Any = None, *, target: str | None = None, name: str = "the data") -> Any:
    """Return what a caller has as map-style rows of ``(x, y)``.

    Args:
        data: Map-style rows, a ``DataLoader`` that keeps its order, a pair ``(x, y)``, a tensor, an array, a mapping of tensors or
            arrays, or a data frame. Rows that lie in tensors are returned as they are; of arrays, float64 becomes float32.
        labels: Labels or targets of the rows, where ``data`` has none; None in place of one that is not known.
        target: Column of a data frame that is the target; the others are the inputs.
        name: How the data are called in an error.

    Raises:
        InputError: When the kind is not known, lengths differ, a value is not a number, or the order is another one each time.
    """
    if data is None:
        raise InputError(f"There is nothing in {name}. Rows are tensors, arrays, a data frame or a data set. Pass them.")
    data, labels = _parted(data, labels)
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return _from_frame(data, labels, target, name)
    if hasattr(data, "batch_sampler") and hasattr(data, "dataset"):
        return as_rows(_from_loader(data, name), name=name)
    if labels is not None and isinstance(data, list):
        several = all(map(_is_array, data)) and np.shape(_plain(labels))[:1] != (len(data),)
        data = tuple(data) if several else _array(data, f"The inputs of {name}")  # several inputs, or one array by rows
    if isinstance(data, Mapping) or _is_array(data) or (isinstance(data, tuple) and data and all(map(_is_array, data))):
        return _from_arrays(data, labels, name)
    if labels is None and _is_map_style(data):
        return _from_set(data, name)
    raise InputError(
        f"{name} is a {type(data).__name__}. Rows are tensors, arrays, a mapping of them, a data frame, or a data set with a "
        f"length and items (x, y). {_hint_for(data)}"
    )


def _parted(data: Any, labels: Any) -> tuple[Any, Any]:
    """Return inputs and labels of a pair (x, y); a list of two rows, each a pair of its own, is none."""
    if labels is not None or not is_pair(data) or isinstance(data[0], int | float):
        return data, labels
    rows = all(map(is_pair, data)) and not all(isinstance(value, Number) for value in data[1])
    return (data, None) if rows else (data[0], data[1])


def _is_map_style(data: Any) -> bool:
    from torch.utils.data import IterableDataset

    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | bytes | IterableDataset)


def _hint_for(data: Any) -> str:
    if isinstance(data, str | bytes | os.PathLike):
        return "Read the file first, such as with pandas.read_csv or image_folder."
    return "Convert it; an iterable data set has no order to count rows in."


def _from_set(data: Any, name: str) -> Any:
    """Return a data set: as it is where its rows lie in tensors, else with rows that are made into tensors as they are fetched."""
    from efface.data.net_batches import InDtype, Relabelled, label_tensor, reader_of

    inner = data
    while isinstance(inner, Part | Relabelled | InDtype):
        inner = inner.rows
    if isinstance(inner, FetchedRows):
        return data
    if isinstance(data, list | tuple | range) and data and all(isinstance(value, Number) for value in data):
        raise InputError(
            f"{name} is a list of numbers, such as {data[0]}. Rows are wanted, not their numbers. Pass the rows themselves, such "
            "as torch.utils.data.Subset(data, numbers)."
        )
    if reader_of(data) is None:
        return FetchedRows(data, name)
    labels = label_tensor(data)
    return Relabelled(data, labels.long()) if labels is not None and _is_unsigned(labels) else data


def columns_of(rows: Any) -> tuple[Any, ...] | None:
    """Return the names of the inputs of rows that come from a data frame, or None."""
    if isinstance(rows, Part):
        return columns_of(rows.rows)
    return rows.columns if isinstance(rows, ArrayRows | FetchedRows) else None


def collate(items: Sequence[Any]) -> tuple[Any, Any]:
    """Stack rows to a batch ``(x, y)``; ``y`` is None where the rows have no labels.

    Raises:
        InputError: When rows differ in form.
    """
    from torch.utils.data import default_collate

    inputs, labels = zip(*map(pair_of, items), strict=True)
    missing = [label is None for label in labels]
    if any(missing) and not all(missing):
        raise InputError(
            f"{sum(missing)} of {len(missing)} rows have no label. All rows of a set have one, or none has. Label or drop them."
        )
    try:
        return default_collate(list(inputs)), None if missing[0] else default_collate(list(labels))
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"Rows of one set cannot be put into a batch ({type(error).__name__}). Rows have one form and shape. Check the data."
        ) from error


def labels_of(rows: Any) -> NDArray[Any] | None:
    """Return the labels of all rows as an array, or None where one is missing."""
    if isinstance(rows, ArrayRows):
        return None if rows.y is None else np.asarray(rows.y)
    if isinstance(rows, Part) and not isinstance(rows.rows, FetchedRows):
        labels = labels_of(rows.rows)
        return None if labels is None else labels[rows.indices]
    if isinstance(rows, Part):  # the rows of a part may have labels where others of the set have none
        found: Sequence[Any] = [rows.rows.survey.labels[row] for row in rows.indices]
    else:
        found = rows.survey.labels if isinstance(rows, FetchedRows) else [pair_of(rows[row])[1] for row in range(len(rows))]
    if not found or any(label is None for label in found):
        return None
    try:
        return np.stack([np.asarray(label) for label in found])
    except ValueError as error:
        raise InputError(
            "The labels of one set differ in shape. A label has as many values as every other. Check the data."
        ) from error


def _from_frame(frame: Any, labels: Any, target: str | None, name: str) -> Any:
    columns = list(frame.columns)
    twice = sorted({str(column) for column in columns if columns.count(column) > 1})
    if twice:
        raise InputError(f"{name} has several columns named {', '.join(twice)}. A name stands for one column. Rename or drop them.")
    if target is not None:
        if labels is not None:
            raise InputError(f"{name} has labels beside the frame and target={target!r}. Labels are one of the two. Leave one out.")
        if target not in columns:
            near = closest(str(target), list(map(str, columns)))
            guess = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise InputError(f"{name} has no column {target!r}.{guess} It has {_listed(columns)}. Name one of these as the target.")
        labels = frame[target]
        frame = frame.drop(columns=[target])
        columns.remove(target)
    kinds = [str(column) for column in columns if np.asarray(frame[column]).dtype.kind not in _NUMBERS]
    if kinds:
        raise InputError(
            f"{name} has columns that are not numbers: {_listed(kinds)}. A net takes numbers. Encode them first, such as one-hot."
        )
    return _from_arrays(frame.to_numpy(dtype=np.float32), labels, name, columns=tuple(columns))


def _listed(columns: Sequence[Any]) -> str:
    return ", ".join(map(str, columns[:_SHOWN])) + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")


def _from_loader(loader: Any, name: str) -> Any:
    from torch.utils.data import IterableDataset, SequentialSampler

    if isinstance(loader.dataset, IterableDataset):
        raise InputError(
            f"{name} is a loader over an iterable data set, which has no order to count rows in. Rows come from a data set with a "
            "length and items (x, y). Read the rows into one, such as list(data)."
        )
    if not isinstance(loader.sampler, SequentialSampler):
        raise InputError(
            f"{name} is a loader that shuffles, with another order each time. Rows are counted, so their order must stay. "
            "Pass its dataset, or a loader with shuffle=False; training shuffles by its own seed."
        )
    return loader.dataset


def _from_arrays(x: Any, y: Any, name: str, *, columns: tuple[Any, ...] | None = None) -> Any:
    inputs = _mapped(x, lambda values: _tensor(values, f"The inputs of {name}"))
    if any(tensor.dim() == 0 for tensor in _leaves(inputs)):
        raise InputError(f"The inputs of {name} are one value. Rows have one entry each. Give an array of rows.")
    lengths = {len(tensor) for tensor in _leaves(inputs)}
    if len(lengths) != 1:
        raise InputError(
            f"The inputs of {name} have {sorted(lengths)} rows. All inputs have one entry per row. Make them equally long."
        )
    targets, known = _labels(y, f"The labels of {name}")
    count = next(iter(lengths))
    if known is not None and len(known) != count:
        raise InputError(f"{name} has {count} inputs and {len(known)} labels. Each row has one label. Make them equally long.")
    _check_finite(inputs, f"the inputs of {name}", "Fill these values or drop the rows.")
    _check_finite(targets, f"the labels of {name}", "Fill them, drop the rows, or give None where a label is not known.")
    if known is None or all(known) or targets is None:
        return ArrayRows(inputs, targets, columns)
    alone, given = ArrayRows(inputs), iter(targets)
    return FetchedRows([(alone[row][0], next(given) if has else None) for row, has in enumerate(known)], name, columns)


def _labels(y: Any, name: str) -> tuple[Tensor | None, list[bool] | None]:
    """Return the labels that are known, and which rows have one; None and None where there are no labels at all."""
    values = _plain(y)
    if values is None:
        return None, None
    if isinstance(values, list | tuple | np.ndarray) and (not isinstance(values, np.ndarray) or values.dtype == object):
        known = [value is not None and type(value).__name__ != "NAType" for value in values]  # pandas.NA
        if not any(known):
            return None, None if not known else [True] * len(known)
        values = [value for value, has in zip(values, known, strict=True) if has]
        return _tensor(values, name), known
    tensor = _tensor(values, name)
    if tensor.dim() == 0:
        raise InputError(f"{name} are one value, {tensor.item()}. Each row has a label of its own. Give one per row.")
    return tensor, [True] * len(tensor)


def _check_finite(values: Any, name: str, fix: str) -> None:
    for tensor in _leaves(values) if values is not None else ():
        broken = broken_rows(tensor)
        if broken:
            raise InputError(
                f"{len(broken)} rows in {name} hold NaN or infinite values, such as row {broken[0]}. A net needs finite "
                f"numbers. {fix}"
            )


def _row_tensors(value: Any, name: str) -> Any:
    """Return what one row holds with tensors in place of arrays and numbers."""
    if hasattr(value, "is_floating_point"):
        return value
    if isinstance(value, Mapping):
        return {key: _row_tensors(each, name) for key, each in value.items()}
    if isinstance(value, tuple | list) and not all(isinstance(each, Number) for each in value):
        return tuple(_row_tensors(each, name) for each in value)
    return _as_tensor(_array(value, name), name)


def _label(value: Any, index: int, name: str) -> Tensor:
    """Return a row's label; whole numbers of any width are one type, so that rows of different sets fit into a batch."""
    tensor = _row_tensors(value, f"The label of row {index} of {name}")
    return _widened(tensor) if hasattr(tensor, "is_floating_point") else tensor


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "to_numpy") or _is_tensor(value)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "is_floating_point") and hasattr(value, "shape")


def _plain(values: Any) -> Any:
    """Return a column of a data frame as an array; other values as they are."""
    return values.to_numpy() if hasattr(values, "to_numpy") else values


def _tensor(values: Any, name: str) -> Tensor:
    """Return values as a tensor: float64 as float32, whole numbers as int64."""
    import torch

    tensor = values if _is_tensor(values) else _as_tensor(_array(_plain(values), name), name)
    return tensor.float() if tensor.dtype == torch.float64 else _widened(tensor)


def _widened(tensor: Tensor) -> Tensor:
    import torch

    narrow = (torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64)
    return tensor.long() if tensor.dtype in narrow else tensor


def _is_unsigned(tensor: Tensor) -> bool:
    """Say whether torch can hardly compute with the values."""
    import torch

    return tensor.dtype in (torch.uint16, torch.uint32, torch.uint64)


def _array(values: Any, name: str) -> NDArray[Any]:
    """Return values as an array of numbers that can be written to.

    Raises:
        InputError: When they are ragged, or no numbers.
    """
    try:
        array = np.asarray(values)
        if array.dtype == object:  # numbers that a frame or a list holds one by one
            array = np.asarray(array.tolist())
    except ValueError:
        raise InputError(f"{name}: the values differ in shape from row to row. Rows have one shape. Pad or cut them.") from None
    if array.dtype.kind not in _NUMBERS:
        held = array.reshape(-1)[:1].tolist()
        raise InputError(
            f"{name}: {', '.join(map(repr, held)) or array.dtype} is no number. A net takes numbers. Encode the values first: "
            "classes from zero, such as with numpy.unique(labels, return_inverse=True), images as tensors."
        )
    return np.require(array, requirements="W")  # a read-only array (of a data frame, say) is copied


def _as_tensor(array: NDArray[Any], name: str) -> Tensor:
    import torch

    try:
        return torch.as_tensor(array)
    except TypeError:
        raise InputError(
            f"{name}: torch does not know the type {array.dtype}. Numbers are float32, int64 or the like. Convert them."
        ) from None


def _mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(tree, Mapping):
        return {key: function(value) for key, value in tree.items()}
    return tuple(function(value) for value in tree) if isinstance(tree, tuple) else function(tree)


def _leaves(tree: Any) -> list[Any]:
    return list(tree.values()) if isinstance(tree, Mapping) else list(tree) if isinstance(tree, tuple) else [tree]


def _first(tree: Any) -> Any:
    return _leaves(tree)[0]
