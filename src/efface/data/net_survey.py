"""What one pass over the rows of a set tells: labels, rows that are not finite, and which inputs are equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Survey", "broken_rows", "digests_of", "is_pair", "one_pass", "pair_of", "tensors_in"]

_CHUNK = 64


@dataclass(frozen=True)
class Survey:
    """What one pass over the rows of a set tells.

    Attributes:
        labels: The label of every row, None where it has none.
        broken: Numbers of the rows that hold NaN or an infinite value.
        digests: A number per row that is equal for rows with equal inputs, (n,).
    """

    labels: tuple[Any, ...]
    broken: tuple[int, ...]
    digests: NDArray[np.int64]


def is_pair(value: Any) -> bool:
    """Whether a value may be input and label of a row."""
    return isinstance(value, tuple | list) and len(value) == 2


def pair_of(item: Any) -> tuple[Any, Any]:
    """Return input and label of a row; the label is None where the row is an input alone."""
    return (item[0], item[1]) if is_pair(item) else (item, None)


def one_pass(rows: Any) -> Survey:
    """Read every row once and return what that tells."""
    labels, broken, digests = [], [], np.zeros(len(rows), dtype=np.int64)
    for index in range(len(rows)):
        x, y = pair_of(rows[index])
        labels.append(y)
        digests[index] = _digest(x)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors_in((x, y)) if tensor.is_floating_point()):
            broken.append(index)
    return Survey(tuple(labels), tuple(broken), digests)


def _digest(x: Any) -> int:
    """Return the digest of one row's inputs."""
    return int(digests_of([tensor[None] for tensor in tensors_in(x)]).sum())  # no tensor, no digest


def digests_of(x: Any) -> NDArray[np.int64]:
    """Return a 64-bit number per row of a batch that is equal for equal inputs, (n,); other numbers in another process."""
    columns = [_bytes_of(tensor.reshape(len(tensor), -1)) for tensor in tensors_in(x)]
    return np.array([hash(row.tobytes()) for row in (np.concatenate(columns, axis=1) if columns else ())], dtype=np.int64)


def _bytes_of(rows: Tensor) -> NDArray[np.uint8]:
    """Return the bytes of (n, k) values, (n, bytes)."""
    import torch

    array: NDArray[np.uint8] = rows.detach().cpu().contiguous().view(torch.uint8).numpy()
    return array


def tensors_in(tree: Any) -> list[Tensor]:
    """Return every tensor of a nested batch, in order."""
    if hasattr(tree, "is_floating_point"):
        return [tree]
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, tuple | list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def broken_rows(tensor: Tensor) -> list[int]:
    """Return the numbers of the rows that hold NaN or an infinite value.

    A few rows are looked at at a time: ``isfinite`` of a whole column takes nearly twice its bytes.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return []
    marks = [(~chunk.isfinite()).reshape(len(chunk), -1).any(1).nonzero().ravel() for chunk in tensor.split(_CHUNK)]
    return [_CHUNK * number + int(row) for number, rows in enumerate(marks) for row in rows]
