"""Batches of a net's rows whose order is a function of a seed, and a fast path for rows that lie in tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from efface.data.net_sets import ArrayRows, Part, collate, labels_of

__all__ = ["PairedBatches", "Relabelled", "RowBatches", "columns_of", "label_tensor", "tensors_in"]


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
        row = self.rows[index]
        return row[0] if isinstance(row, tuple | list) and len(row) == 2 else row, _take(self.labels, index)


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


def tensors_in(tree: Any) -> list[Tensor]:
    """Return every tensor of a nested batch, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, tuple | list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def columns_of(dataset: Any) -> tuple[Any, Any] | None:
    """Return the columns ``(x, y)`` behind a data set whose rows all lie in tensors, or None where they must be fetched singly."""
    if isinstance(dataset, ArrayRows):
        return dataset.x, dataset.y
    if isinstance(dataset, Subset | Part):
        inner = columns_of(dataset.dataset if isinstance(dataset, Subset) else dataset.rows)
        rows = torch.as_tensor(list(dataset.indices), dtype=torch.long)
        return None if inner is None else (_take(inner[0], rows), _take(inner[1], rows))
    if isinstance(dataset, ConcatDataset):
        parts = [columns_of(part) for part in dataset.datasets]
        found = [part for part in parts if part is not None]
        return (_joined([x for x, _ in found]), _joined([y for _, y in found])) if len(found) == len(parts) else None
    if isinstance(dataset, Relabelled):
        inner = columns_of(dataset.rows)
        return None if inner is None else (inner[0], dataset.labels)
    if type(dataset) is TensorDataset and len(dataset.tensors) <= 2:
        return dataset.tensors[0], dataset.tensors[1] if len(dataset.tensors) == 2 else None
    return None


def label_tensor(dataset: Any) -> Tensor | None:
    """Return the labels of all rows, (n, ...), or None where they have none."""
    columns = columns_of(dataset)
    if columns is not None:
        return columns[1] if columns[1] is None or isinstance(columns[1], Tensor) else None
    labels = labels_of(dataset)
    return None if labels is None else torch.as_tensor(labels)


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
        self._columns = columns_of(dataset)

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
        if self._columns is None:
            yield from DataLoader(self.dataset, batch_sampler=[chunk.tolist() for chunk in chunks], collate_fn=collate)
            return
        x, y = self._columns
        for chunk in chunks:
            yield _take(x, chunk), _take(y, chunk)


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
