"""Batches of a net's rows whose order is a function of a seed, and a fast path for rows that lie in tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from efface.data.net_sets import ArrayRows, FetchedRows, Part, collate, labels_of
from efface.data.net_survey import Survey, broken_rows, digests_of, one_pass, pair_of, tensors_in

__all__ = [
    "InDtype",
    "PairedBatches",
    "Relabelled",
    "RowBatches",
    "input_digests",
    "label_tensor",
    "labelled_rows",
    "reader_of",
    "rows_not_finite",
    "with_labels",
]

_CHUNK = 64


class Relabelled(Dataset[tuple[Any, Any]]):
    """Rows of a data set under other labels.

    Args:
        rows: The rows.
        labels: Their labels, (n, ...), or a tuple of such columns.
    """

    def __init__(self, rows: Any, labels: Any) -> None:
        self.rows, self.labels = rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return pair_of(self.rows[index])[0], _take(self.labels, index)


class InDtype(Dataset[tuple[Any, Any]]):
    """Rows whose floating-point inputs are brought to one type, that of the net's weights.

    Args:
        rows: The rows.
        dtype: The type.
    """

    def __init__(self, rows: Any, dtype: torch.dtype) -> None:
        self.rows, self.dtype = rows, dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.cast(pair_of(self.rows[index]))

    def cast(self, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return ``(x, y)`` with x in the type."""
        return _cast(batch[0], self.dtype), batch[1]


def _cast(tree: Any, dtype: torch.dtype) -> Any:
    if isinstance(tree, Mapping):
        return {key: _cast(value, dtype) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(_cast(value, dtype) for value in tree)
    return tree.to(dtype) if isinstance(tree, Tensor) and tree.is_floating_point() else tree


def _take(tree: Any, rows: Any) -> Any:
    """Index every tensor of a nested column."""
    if isinstance(tree, Mapping):
        return {key: _take(value, rows) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(_take(value, rows) for value in tree)
    return None if tree is None else tree[rows]


def _joined(trees: Sequence[Any]) -> Any:
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: _joined([tree[key] for tree in trees]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_joined(columns) for columns in zip(*trees, strict=True))
    return None if any(tree is None for tree in trees) else torch.cat(list(trees))


def reader_of(dataset: Any) -> Callable[[Tensor], tuple[Any, Any]] | None:
    """Return a function from row numbers to the batch ``(x, y)`` of a data set whose rows all lie in tensors.

    Parts and unions are indexed when they are read, never copied, so that a set costs no memory of its own. None where rows must be
    fetched singly.
    """
    if isinstance(dataset, ArrayRows):
        return dataset.take
    if isinstance(dataset, Subset | Part):
        inner = reader_of(dataset.dataset if isinstance(dataset, Subset) else dataset.rows)
        indices = _indices(dataset)
        return None if inner is None else lambda rows: inner(indices[rows])
    if isinstance(dataset, ConcatDataset):
        return _union([reader_of(part) for part in dataset.datasets], dataset.cumulative_sizes)
    if isinstance(dataset, Relabelled):
        source, labels = reader_of(dataset.rows), dataset.labels
        return None if source is None else lambda rows: (source(rows)[0], _take(labels, rows))
    if isinstance(dataset, InDtype):
        uncast = reader_of(dataset.rows)
        return None if uncast is None else lambda rows: dataset.cast(uncast(rows))
    if type(dataset) is TensorDataset and len(dataset.tensors) <= 2:
        columns = (dataset.tensors[0], dataset.tensors[1] if len(dataset.tensors) == 2 else None)
        return lambda rows: (_take(columns[0], rows), _take(columns[1], rows))
    return None


def _indices(dataset: Any) -> Tensor:
    return torch.as_tensor(list(dataset.indices), dtype=torch.long)


def _union(
    readers: Sequence[Callable[[Tensor], tuple[Any, Any]] | None], ends: Sequence[int]
) -> Callable[[Tensor], tuple[Any, Any]] | None:
    found = [reader for reader in readers if reader is not None]
    if len(found) < len(readers):
        return None
    starts, bounds = [0, *ends[:-1]], torch.as_tensor(list(ends))

    def read(rows: Tensor) -> tuple[Any, Any]:
        part = torch.bucketize(rows, bounds, right=True)
        places = [(part == number).nonzero().ravel() for number in range(len(found))]
        taken = [reader(rows[place] - start) for reader, place, start in zip(found, places, starts, strict=True) if len(place)]
        back = torch.cat(places).argsort()
        return _take(_joined([x for x, _ in taken]), back), _take(_joined([y for _, y in taken]), back)

    return read


def rows_not_finite(dataset: Any) -> list[int]:
    """Return the numbers of the rows that hold NaN or an infinite value."""
    if reader_of(dataset) is None:
        return list(_survey(dataset).broken)
    found: set[int] = set()
    for number, batch in enumerate(RowBatches(dataset, batch_size=_CHUNK)):
        found |= {number * _CHUNK + row for tensor in tensors_in(batch) for row in broken_rows(tensor)}
    return sorted(found)


def input_digests(dataset: Any) -> NDArray[np.int64]:
    """Return a number per row that is equal for rows with equal inputs, (n,)."""
    if reader_of(dataset) is None:
        return _survey(dataset).digests
    batches = RowBatches(dataset, batch_size=_CHUNK)
    return np.concatenate([np.zeros(0, dtype=np.int64), *(digests_of(x) for x, _ in batches)])


def labelled_rows(dataset: Any) -> NDArray[np.int64]:
    """Return the numbers of the rows that have a label, ascending."""
    if reader_of(dataset) is not None:
        return np.arange(0 if _label_column(dataset) is None else len(dataset))
    return np.flatnonzero([label is not None for label in _survey(dataset).labels])


def with_labels(dataset: Any, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the row numbers whose row has a label; all of them where none has."""
    known = numbers[np.isin(numbers, labelled_rows(dataset))]
    return known if len(known) else numbers


def _survey(dataset: Any) -> Survey:
    """Return what one pass over rows that are fetched singly tells; a caller's set is passed over once, whatever part is asked."""
    if isinstance(dataset, FetchedRows):
        return dataset.survey
    if isinstance(dataset, InDtype):
        return _survey(dataset.rows)
    if isinstance(dataset, Relabelled):
        known = _survey(dataset.rows)
        labels = [None if dataset.labels is None else _take(dataset.labels, row) for row in range(len(dataset))]
        return Survey(tuple(labels), known.broken, known.digests)
    if isinstance(dataset, Part):
        known, broken = _survey(dataset.rows), set(_survey(dataset.rows).broken)
        rows = dataset.indices.tolist()
        here = tuple(place for place, row in enumerate(rows) if row in broken)
        return Survey(tuple(known.labels[row] for row in rows), here, known.digests[dataset.indices])
    return one_pass(FetchedRows(dataset))


def label_tensor(dataset: Any) -> Tensor | None:
    """Return the labels of all rows, (n, ...), or None where one is missing."""
    if reader_of(dataset) is not None:
        labels = _label_column(dataset)
        return labels if isinstance(labels, Tensor) else None
    singly = labels_of(dataset)
    return None if singly is None else torch.as_tensor(singly)


def _label_column(dataset: Any) -> Any:
    """Return the labels of rows that lie in tensors; the inputs are not touched."""
    if isinstance(dataset, ArrayRows):
        return dataset.y
    if isinstance(dataset, Subset | Part):
        return _take(_label_column(dataset.dataset if isinstance(dataset, Subset) else dataset.rows), _indices(dataset))
    if isinstance(dataset, ConcatDataset):
        return _joined([_label_column(part) for part in dataset.datasets])
    if isinstance(dataset, Relabelled):
        return dataset.labels
    if isinstance(dataset, InDtype):
        return _label_column(dataset.rows)
    return dataset.tensors[1] if len(dataset.tensors) == 2 else None


class RowBatches:
    """Batches of ``(x, y)``, gone through once per epoch.

    A last row that would be a batch of its own joins the batch before it where the order is drawn, since BatchNorm cannot train on
    one row.

    Args:
        dataset: Map-style rows: ``(x, y)``, or ``x`` alone.
        batch_size: Rows per batch.
        seed: Every epoch's order is a function of it and of how many epochs there were; None keeps the rows' order.
        drop_last: Leave out a last batch that is not full, unless it is the only one.
        hide_labels: Give None in place of the labels.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int,
        seed: int | None = None,
        drop_last: bool = False,
        hide_labels: bool = False,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.hide_labels = hide_labels
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._reader = reader_of(dataset)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._sizes())

    def _sizes(self) -> list[int]:
        full, rest = divmod(len(self.dataset), self.batch_size)
        sizes = [self.batch_size] * full
        if rest and not (self.drop_last and full):
            if rest == 1 and full and self._generator is not None:
                sizes[-1] += 1
            else:
                sizes.append(rest)
        return sizes

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of the next epoch."""
        size = len(self.dataset)
        order = torch.arange(size) if self._generator is None else torch.randperm(size, generator=self._generator)
        sizes = self._sizes()
        chunks = order[: sum(sizes)].split(sizes)
        for x, y in self._gather(chunks):
            yield x, None if self.hide_labels else y

    def _gather(self, chunks: Sequence[Tensor]) -> Iterator[tuple[Any, Any]]:
        if self._reader is None:
            yield from DataLoader(self.dataset, batch_sampler=[chunk.tolist() for chunk in chunks], collate_fn=collate)
            return
        for chunk in chunks:
            yield self._reader(chunk)


class PairedBatches:
    """Batches of two sources side by side: ``(batch of the first, batch of the second)``.

    Args:
        first: Batches.
        second: Batches.
        cycle_second: Go through the second again until the first ends; else the shorter one ends the epoch.
    """

    def __init__(self, first: Any, second: Any, *, cycle_second: bool = False) -> None:
        self.first = first
        self.second = second
        self.cycle_second = cycle_second

    def __len__(self) -> int:
        """Return the number of pairs of an epoch."""
        return len(self.first) if self.cycle_second else min(len(self.first), len(self.second))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield the pairs of the next epoch."""
        second = self._endless() if self.cycle_second else iter(self.second)
        yield from zip(self.first, second, strict=False)

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from self.second
