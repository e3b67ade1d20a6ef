"""KLOM: how far the outputs of an unlearning procedure differ, example by example, from those of retraining.

Rinberg et al., Data-Unlearn-Bench, arXiv 2410.23232. For each example the margins of many unlearned models and of many retrained
("oracle") models are put into histograms over their joint range, and KL(unlearned || oracle) is taken. It needs some hundred models
of each kind for its full power; with ten it is a coarse figure.

Deviation: the reference's last bin is half open, so that the largest margin is dropped. ``variant="reference"`` repeats it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from efface.errors import InputError

__all__ = ["FULL_POWER", "binned_kl", "klom"]

FULL_POWER = 100
"""Models of each kind from which on the figure is what the paper reports."""


def binned_kl(
    unlearned: ArrayLike,
    oracle: ArrayLike,
    *,
    bins: int = 20,
    clip: tuple[float, float] = (-100.0, 100.0),
    epsilon: float = 1e-5,
    variant: Literal["strict", "reference"] = "strict",
) -> float:
    """Return KL(histogram of ``unlearned`` || histogram of ``oracle``) over their joint range, in nats; 0 is equal.

    Args:
        unlearned: Margins of one example over unlearned models, (m,).
        oracle: Margins of the same example over retrained models, (k,).
        bins: Equal bins over the joint range.
        clip: Lowest and highest margin; what lies beyond is set to them first.
        epsilon: Least share of the oracle in a bin where the unlearned models have any, so that the value stays finite.
        variant: "reference" drops the largest margin.

    Raises:
        InputError: When a side is empty, or ``clip`` is no interval.
    """
    if not clip[0] < clip[1]:
        raise InputError(f"clip is {clip[0]:g} to {clip[1]:g}. It is an interval of margins. Give the lower end first.")
    u, o = (np.clip(np.asarray(side, dtype=np.float64), *clip) for side in (unlearned, oracle))
    if not len(u) or not len(o):
        raise InputError("KLOM was asked of no models. It compares margins of unlearned and of retrained models. Give both.")
    low, high = min(u.min(), o.min()), max(u.max(), o.max())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    p, q = (_shares(side, edges, variant) for side in (u, o))
    floored = np.where(p > 0, np.maximum(q, epsilon), q)
    return float(rel_entr(p, floored / floored.sum()).sum())


def klom(
    unlearned: ArrayLike,
    oracle: ArrayLike,
    *,
    bins: int = 20,
    variant: Literal["strict", "reference"] = "strict",
) -> NDArray[np.float64]:
    """Return :func:`binned_kl` of each example, (n,).

    Args:
        unlearned: Margins (models, n).
        oracle: Margins (models, n).
        bins: Equal bins over each example's joint range.
        variant: As in :func:`binned_kl`.
    """
    u, o = np.asarray(unlearned, dtype=np.float64), np.asarray(oracle, dtype=np.float64)
    if u.ndim != 2 or o.ndim != 2 or u.shape[1] != o.shape[1]:
        raise InputError(
            f"Margins of shapes {u.shape} and {o.shape} are not of the same examples. Both are (models, examples). Check them."
        )
    return np.array([binned_kl(u[:, i], o[:, i], bins=bins, variant=variant) for i in range(u.shape[1])])


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64], variant: str) -> NDArray[np.float64]:
    places = np.digitize(values, edges) - 1
    last = len(edges) - 2
    places = np.minimum(places, last) if variant == "strict" else places[places <= last]
    return np.bincount(places, minlength=last + 1) / max(1, len(places))
