"""How alike two classifiers answer: activation distance, Jensen-Shannon divergence, zero-retrain forgetting.

Sources: activation distance, Golatkar et al., arXiv 1911.04933, in the form of Chundawat et al.; ZRF, Chundawat et al., Can Bad
Teaching Induce Forgetting?, AAAI 2023, arXiv 2205.08096.

Deviation: the reference ``JSDiv`` of vikram2000b/bad-teaching-unlearning reverses the arguments of both KL terms and averages over
batch times classes: it is not the divergence of the paper, and its ZRF is pressed towards 1. ``variant="reference"`` repeats it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from efface.evals.nets.classification import probabilities_of

__all__ = ["activation_distance", "js_divergence", "zrf"]

Floats = NDArray[np.float64]
Form = Literal["strict", "reference"]


def activation_distance(logits: ArrayLike, other: ArrayLike) -> Floats:
    """Return || softmax(a) - softmax(b) ||_2 of each item, (n,), in [0, sqrt 2]; 0 is equal."""
    return np.asarray(np.linalg.norm(probabilities_of(logits) - probabilities_of(other), axis=1))


def js_divergence(logits: ArrayLike, other: ArrayLike, *, variant: Form = "strict") -> Floats:
    """Return JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2, per item (n,), in nats, in [0, log 2].

    Args:
        logits: (n, K).
        other: (n, K).
        variant: "reference" takes KL(m || p) and KL(m || q) and divides by the number of classes.
    """
    p, q = probabilities_of(logits), probabilities_of(other)
    middle = (p + q) / 2
    if variant == "reference":
        return np.asarray((rel_entr(middle, p) + rel_entr(middle, q)).mean(axis=1) / 2)
    return np.asarray((rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / 2)


def zrf(logits: ArrayLike, untrained: ArrayLike, *, variant: Form = "strict") -> Floats:
    """Return 1 - JS(model, untrained model) of each item, (n,); the mean over the forget set is the zero-retrain forgetting score.

    1 says the model answers like one that was never trained; the aim is the retrained model's own score.
    """
    return 1 - js_divergence(logits, untrained, variant=variant)
