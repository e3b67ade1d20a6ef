"""Batches whose order is a function of a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from efface.data.net_batches import (
    InDtype,
    PairedBatches,
    Relabelled,
    RowBatches,
    input_digests,
    label_tensor,
    labelled_rows,
    reader_of,
    rows_not_finite,
)
from efface.data.net_sets import ArrayRows, FetchedRows, Part


class Listed(Dataset[Any]):
    """Rows that must be fetched one by one."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def table(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count))


def order(batches: RowBatches) -> list[int]:
    return [int(y) for _, labels in batches for y in labels]


@settings(deadline=None)
@given(count=st.integers(1, 40), size=st.integers(1, 12), drop=st.booleans(), seed=st.one_of(st.none(), st.integers(0, 5)))
def test_every_row_once_per_epoch(count, size, drop, seed):
    batches = RowBatches(table(count), batch_size=size, seed=seed, drop_last=drop)
    sizes = [len(x) for x, _ in batches]
    assert len(sizes) == len(batches)
    if drop and count >= size:
        assert set(sizes) == {size}
        assert sum(sizes) == count - count % size
    else:
        assert sorted(order(batches)) == list(range(count))
    if seed is not None and size > 1 and count > 1:
        assert min(sizes) > 1


def test_order_is_a_function_of_seed_and_epoch():
    first, second = RowBatches(table(20), batch_size=4, seed=1), RowBatches(table(20), batch_size=4, seed=1)
    epochs = [order(first), order(first)]
    assert epochs == [order(second), order(second)]
    assert epochs[0] != epochs[1]
    assert order(RowBatches(table(20), batch_size=4)) == list(range(20))


def test_rows_fetched_singly_come_in_the_same_batches():
    rows = table(10)
    listed = Listed([rows[i] for i in range(10)])
    assert reader_of(listed) is None
    for (x, y), (x2, y2) in zip(RowBatches(rows, batch_size=4, seed=3), RowBatches(listed, batch_size=4, seed=3), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


@pytest.mark.parametrize("wrap", [lambda rows: Subset(rows, [7, 2, 5]), lambda rows: Part(rows, np.array([7, 2, 5]))])
def test_parts_keep_their_order(wrap):
    assert order(RowBatches(wrap(table(10)), batch_size=2)) == [7, 2, 5]


def test_nested_inputs_and_labels():
    rows = ArrayRows({"a": torch.arange(6.0), "b": torch.ones(6, 2)}, torch.arange(6))
    both = ConcatDataset(
        [Relabelled(Part(rows, np.arange(3)), (torch.zeros(3), torch.ones(3))), Relabelled(rows, (rows.y, torch.zeros(6)))]
    )
    x, (y, flags) = next(iter(RowBatches(both, batch_size=9)))
    assert x["a"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]
    assert flags.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert y.tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5]
    listed = Listed([(torch.ones(2), torch.tensor(i)) for i in range(3)])
    _, (values, marks) = next(iter(RowBatches(Relabelled(listed, (torch.arange(3.0), torch.ones(3))), batch_size=3)))
    assert values.tolist() == [0, 1, 2]
    assert marks.tolist() == [1, 1, 1]


def test_a_union_in_any_order_and_no_copy():
    rows = table(10)
    union = ConcatDataset([Subset(rows, [7, 2, 5]), rows, Part(rows, np.array([0]))])
    expected = [7, 2, 5, *range(10), 0]
    assert order(RowBatches(union, batch_size=4)) == expected
    assert sorted(order(RowBatches(union, batch_size=4, seed=2))) == sorted(expected)
    assert all(torch.equal(x[:, 0], y.float()) for x, y in RowBatches(union, batch_size=4, seed=2))
    batches = RowBatches(Subset(rows, range(10)), batch_size=10)
    rows.tensors[0][3] = 99.0
    assert float(next(iter(batches))[0][3]) == 99.0


def test_rows_that_are_not_finite():
    x = torch.zeros(3000, 2)
    x[[5, 2500], 1] = torch.tensor([float("nan"), float("-inf")])
    y = torch.zeros(3000)
    y[7] = float("inf")
    assert rows_not_finite(TensorDataset(x, y)) == [5, 7, 2500]
    assert rows_not_finite(Subset(TensorDataset(x, y), [0, 2500])) == [1]
    assert rows_not_finite(table(4)) == []
    singly = FetchedRows(Listed([(np.zeros(2), 0), (np.array([0, np.nan]), 0), (np.zeros(2), float("inf")), (np.zeros(2), None)]))
    assert rows_not_finite(singly) == [1, 2]
    assert (
        rows_not_finite(Part(singly, np.array([3, 2]))) == rows_not_finite(Relabelled(Part(singly, np.array([0, 1])), None)) == [1]
    )
    assert labelled_rows(singly).tolist() == [0, 1, 2]


def test_equal_inputs_have_equal_digests_however_they_are_held():
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0]])
    held = input_digests(TensorDataset(x, torch.arange(3)))
    assert held[0] == held[2] != held[1]
    assert (input_digests(FetchedRows(Listed([(row.numpy(), 7) for row in x]))) == held).all()
    assert len(input_digests(TensorDataset(x[:0]))) == 0


def test_inputs_of_another_type_and_labels_as_they_are():
    for rows in (table(5), FetchedRows(Listed([table(5)[i] for i in range(5)]))):
        x, y = next(iter(RowBatches(InDtype(rows, torch.float64), batch_size=5)))
        assert x.dtype == torch.float64
        assert y.tolist() == label_tensor(InDtype(rows, torch.float64)).tolist() == [0, 1, 2, 3, 4]


def test_rows_without_labels():
    for rows in (TensorDataset(torch.ones(3, 2)), Listed([torch.ones(2)] * 3), Relabelled(table(3), None)):
        assert label_tensor(rows) is None
        assert [y for _, y in RowBatches(rows, batch_size=2)] == [None, None]
    assert label_tensor(table(3)).tolist() == [0, 1, 2]


def test_pairs_end_with_the_shorter_or_go_round():
    long, short = RowBatches(table(7), batch_size=2), RowBatches(table(3), batch_size=2)
    assert len(PairedBatches(long, short)) == len(list(PairedBatches(long, short))) == 2
    around = list(PairedBatches(long, short, cycle_second=True))
    assert len(around) == 4
    assert [b[1].tolist() for _, b in around] == [[0, 1], [2], [0, 1], [2]]
