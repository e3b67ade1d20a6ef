from __future__ import annotations

from itertools import pairwise

import pytest

from efface.data.folds import disjoint_folds, growing_folds
from efface.data.schema import RowSet
from efface.errors import InputError


def people(count: int) -> RowSet:
    return RowSet.build([{"question": f"{n} {p}?", "answer": "a", "entity": f"p{p}"} for p in range(count) for n in range(2)])


def entities(rows: RowSet) -> list[str]:
    return list(dict.fromkeys(row.entity for row in rows))


@pytest.mark.parametrize(("count", "sizes"), [(20, [2, 5, 10, 20]), (8, [1, 2, 4, 8]), (6, [1, 3, 6]), (2, [1, 2])])
def test_growing_folds_contain_each_other(count, sizes):
    folds = growing_folds(people(count))
    assert [len(entities(fold)) for fold in folds] == sizes
    for small, large in pairwise(folds):
        assert set(entities(small)) < set(entities(large))
    assert all(len(fold) == 2 * size for fold, size in zip(folds, sizes, strict=True))


@pytest.mark.parametrize(("count", "sizes"), [(20, [5, 5, 5, 5]), (6, [2, 1, 1, 2]), (2, [1, 1])])
def test_disjoint_folds_share_no_entity_and_leave_none_out(count, sizes):
    folds = disjoint_folds(people(count))
    assert sorted(len(entities(fold)) for fold in folds) == sorted(sizes)
    assert sum(len(fold) for fold in folds) == 2 * count


def test_the_order_decides_who_comes_first():
    folds = growing_folds(people(4), order=["p3", "p1", "p0", "p2"])
    assert entities(folds[0]) == ["p3"]
    assert set(entities(folds[1])) == {"p3", "p1"}


@pytest.mark.parametrize("cut", [growing_folds, disjoint_folds])
def test_one_entity_makes_no_curve(cut):
    with pytest.raises(InputError, match="two at least"):
        cut(people(1))
