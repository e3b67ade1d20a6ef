"""Problems for ordinary nets that need no file and no network: scikit-learn's bundled data, and nets that train in seconds.

The recipes of the digits train the original until it knows its training rows by heart, because only then has it something to
forget: on a net that generalises, forgetting random rows changes nothing that could be measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from efface.data.net_sets import ArrayRows, as_rows
from efface.data.problem import NetTraining, Problem
from efface.registry import unknown_name

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["PROBLEMS", "embedded_problem"]

_SPLIT_SEED = 20_261_128
_ANGLES = 60  # degrees to either side
_FORGET_ABOVE = 30  # degrees
_FORGET_BELOW = 75  # of the target's 25 to 346

Floats = NDArray[np.float32]


def digits() -> Problem:
    """Return ten handwritten digits, 8x8 pixels; the class 3 must go."""
    rows = _digit_rows()
    return _digit_problem("digits", rows, forget=lambda _, y: int(y) == 3)


def digits_random() -> Problem:
    """Return the same digits; a tenth of the training rows, drawn at random, must go."""
    rows = _digit_rows()
    chosen = np.random.default_rng(_SPLIT_SEED).permutation(len(rows[0]))[: len(rows[0]) // 10]
    return _digit_problem("digits_random", rows, forget=np.sort(chosen))


def rotated_digits() -> Problem:
    """Return digits turned by an angle that must be told, a vision regression; images turned by more than 30 degrees must go."""
    train, test = _rotated_rows()
    return Problem(
        task="regression",
        make_model=_seeded(lambda: _convolutional(outputs=1)),
        train=train,
        test=test,
        forget=lambda _, y: float(y) > _FORGET_ABOVE,
        training=NetTraining(epochs=40, learning_rate=2e-3, batch_size=64),
        target_name="angle (degrees)",
        name="rotated_digits",
    )


def diabetes() -> Problem:
    """Return the progression of diabetes after a year from ten measurements, 442 patients; mild cases (below 75) must go."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    train, test = _split(x / x.std(axis=0), y, train=332)
    return Problem(
        task="regression",
        make_model=_seeded(lambda: _dense(10, 128, outputs=1)),
        train=train,
        test=test,
        forget=lambda _, y: float(y) < _FORGET_BELOW,
        training=NetTraining(epochs=200, learning_rate=5e-3, batch_size=64),
        target_name="disease progression",
        name="diabetes",
    )


def breast_cancer() -> Problem:
    """Return benign and malignant tumours from thirty measurements and a linear model; forty random patients must go.

    Rows are scaled to length at most 1, as certified removal asks; its net is another one, which the recipe does not train.
    """
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    longest = np.linalg.norm(standard, axis=1).max()
    train, test = _split(standard / longest, y, train=400)
    return Problem(
        task="classification",
        make_model=_seeded(lambda: _linear(30, 2)),
        train=train,
        test=test,
        forget=np.arange(40),
        training=NetTraining(epochs=60, learning_rate=5e-2, batch_size=64),
        num_classes=2,
        class_names=("malignant", "benign"),
        name="breast_cancer",
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "digits": digits,
    "digits_random": digits_random,
    "rotated_digits": rotated_digits,
    "diabetes": diabetes,
    "breast_cancer": breast_cancer,
}
"""The problems behind ``embedded:NAME``."""


def embedded_problem(name: str) -> Problem:
    """Return a problem by name.

    Raises:
        InputError: When there is none of that name; names the nearest.
    """
    if name not in PROBLEMS:
        raise unknown_name("embedded problem", name, sorted(PROBLEMS))
    return PROBLEMS[name]()


def _digit_problem(name: str, rows: tuple[ArrayRows, ArrayRows], *, forget: object) -> Problem:
    train, test = rows
    return Problem(
        task="classification",
        make_model=_seeded(lambda: _convolutional(outputs=10)),
        train=train,
        test=test,
        forget=forget,  # type: ignore[arg-type]
        training=NetTraining(epochs=30, learning_rate=2e-3, batch_size=64),
        num_classes=10,
        class_names=tuple("0123456789"),
        name=name,
    )


@lru_cache(maxsize=1)
def _digit_rows() -> tuple[ArrayRows, ArrayRows]:
    """1,200 training and 597 test images, (1, 8, 8), pixels in [0, 1]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return _split(data.images[:, None] / 16, data.target, train=1200)


@lru_cache(maxsize=1)
def _rotated_rows() -> tuple[ArrayRows, ArrayRows]:
    """Every digit twice, turned by an angle drawn evenly from -60 to 60 degrees; both turns are on one side of the split."""
    from scipy.ndimage import rotate

    found = []
    for part, rows in enumerate(_digit_rows()):
        rng = np.random.default_rng([_SPLIT_SEED, part])
        images = np.repeat(np.asarray(rows.x)[:, 0], 2, axis=0)
        angles = rng.uniform(-_ANGLES, _ANGLES, len(images))
        turned = [rotate(image, angle, reshape=False, order=1) for image, angle in zip(images, angles, strict=True)]
        found.append(as_rows((np.stack(turned)[:, None].astype(np.float32), angles.astype(np.float32))))
    return found[0], found[1]


def _split(x: NDArray[np.floating], y: NDArray[np.generic], *, train: int) -> tuple[ArrayRows, ArrayRows]:
    """Shuffle once, by a seed that never changes, and cut."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(x))
    labels = y.astype(np.int64) if np.issubdtype(y.dtype, np.integer) else y.astype(np.float32)
    parts = (order[:train], order[train:])
    return tuple(as_rows((x[part].astype(np.float32), labels[part])) for part in parts)  # type: ignore[return-value]


def _seeded(build: Callable[[], Module]) -> Callable[[int], Module]:
    """Return seed -> net; the caller's random state is left as it was."""

    def make(seed: int) -> Module:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build()

    return make


def _convolutional(*, outputs: int) -> Module:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, outputs),
        *([nn.Flatten(0)] if outputs == 1 else []),
    )


def _dense(inputs: int, width: int, *, outputs: int) -> Module:
    from torch import nn

    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
        *([nn.Flatten(0)] if outputs == 1 else []),
    )


def _linear(inputs: int, outputs: int) -> Module:
    from torch import nn

    return nn.Linear(inputs, outputs)
