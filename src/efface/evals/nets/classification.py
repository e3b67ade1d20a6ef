"""Figures per item of a classifier, as pure functions of its logits or probabilities.

Sources: accuracy and losses as everywhere; entropy and modified entropy, Song and Mittal, arXiv 2003.10595, as used by the
membership attacks of SalUn (arXiv 2310.12508); margin, Rinberg et al., arXiv 2410.23232.

Shapes: ``logits`` and ``probabilities`` (n, K), ``labels`` (n,) of class indices; every function returns (n,) unless it says
otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp, softmax

__all__ = [
    "confusion",
    "cross_entropy",
    "entropy",
    "hits",
    "margin",
    "modified_entropy",
    "modified_entropy_reference",
    "probabilities_of",
    "true_probability",
]

Floats = NDArray[np.float64]
_TINY = 1e-30  # where a logarithm of zero ends, as in the reference code


def probabilities_of(logits: ArrayLike) -> Floats:
    """Return the softmax over classes, (n, K)."""
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64), axis=1))


def hits(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Return 1.0 where the most probable class is the label, else 0.0. Higher is better on what must stay."""
    found: Floats = (np.asarray(logits).argmax(axis=1) == np.asarray(labels)).astype(np.float64)
    return found


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Return -log p(label), in nats. Lower is better on what must stay."""
    return -_at(log_softmax(np.asarray(logits, dtype=np.float64), axis=1), labels)


def true_probability(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the probability of the label, in [0, 1]."""
    return _at(np.asarray(probabilities, dtype=np.float64), labels)


def margin(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Return logit_y - logsumexp of the other logits, which is log(p_y / (1 - p_y)); any real number."""
    values = np.asarray(logits, dtype=np.float64)
    others = values.copy()
    others[np.arange(len(values)), np.asarray(labels, dtype=np.int64)] = -np.inf
    rest: Floats = np.asarray(logsumexp(others, axis=1), dtype=np.float64)
    return _at(values, labels) - rest


def entropy(probabilities: ArrayLike) -> Floats:
    """Return -sum_k p_k log p_k, in nats, in [0, log K]."""
    p = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(-(p * _log(p)).sum(axis=1))


def modified_entropy(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Return -(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k): entropy that knows the label; 0 at a sure right answer."""
    p = np.asarray(probabilities, dtype=np.float64)
    terms = p * _log(1 - p)
    rows = np.arange(len(p)), np.asarray(labels, dtype=np.int64)
    terms[rows] = (1 - p[rows]) * _log(p[rows])
    return np.asarray(-terms.sum(axis=1))


def modified_entropy_reference(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Return what ``SVC_MIA.py`` of Unlearn-Saliency computes, for reproduction only.

    It takes log p where log(1 - p) is meant and replaces whole columns: every class that is the label of some row of the batch, so
    that the value of a row depends on its neighbours.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    columns = np.unique(np.asarray(labels, dtype=np.int64))
    weights = p.copy()
    weights[:, columns] = 1 - p[:, columns]
    return np.asarray(-(weights * _log(p)).sum(axis=1))


def confusion(predicted: ArrayLike, labels: ArrayLike, *, classes: int) -> NDArray[np.int64]:
    """Return counts (K, K): a row per true class, a column per predicted one."""
    flat = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def _at(values: NDArray[Any], labels: ArrayLike) -> Floats:
    return np.asarray(values[np.arange(len(values)), np.asarray(labels, dtype=np.int64)], dtype=np.float64)


def _log(p: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(p, _TINY)))
