"""The global random states: what draws from them inside a block is a function of a seed, and they are left as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make every global random draw inside (dropout, augmentation) a function of ``seed``, and put the states back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the caller's augmentation may draw there)
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
