"""Random draws as pure functions of (seed, epoch, row id).

Gradient accumulation, the number of processes and a resumed run therefore cannot change which retain row or which refusal a
forget row meets (DESIGN §10).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_index", "generator", "permutation"]


def _digest(*parts: object) -> int:
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def generator(*parts: object) -> np.random.Generator:
    """Return a NumPy generator seeded by the hash of ``parts``."""
    return np.random.default_rng(_digest(*parts))


def draw_index(n: int, *, seed: int, epoch: int, row_id: str, purpose: str) -> int:
    """Return an index in [0, n), uniform over (seed, epoch, row id, purpose)."""
    if n <= 0:
        raise ValueError(f"Cannot draw from {n} items. At least one is needed. Give a set that is not empty.")
    return _digest(purpose, seed, epoch, row_id) % n


def permutation(n: int, *, seed: int, epoch: int, purpose: str) -> NDArray[np.int64]:
    """Return the order of ``n`` items in one epoch."""
    return generator(purpose, seed, epoch).permutation(n)
