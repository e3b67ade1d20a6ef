"""The problems of the results page on ordinary nets, read from files that the caller has.

``--data DIR`` holds one folder per data set: ``fashion_mnist_20k`` and ``mnist10k`` (gzip'ed IDX), ``abalone_age/abalone.csv``,
``bike_hourly/hour.csv.gz``, ``exchange_rate/exchange_rate.txt.gz``, ``stsb_captions/{train,test}.tsv``. Splits and what must go are
drawn from a seed that never changes; the seed of a run decides initial weights and order only, so that seeds can be compared.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from efface.data.net_sets import ArrayRows, as_rows
from efface.data.problem import NetTraining, Problem
from efface.errors import InputError

__all__ = ["ARCHITECTURES", "IAU_DATA", "IAU_PENALTIES", "IAU_PROBLEMS", "PROBLEMS", "arguments_of", "load_problem"]

SPLIT_SEED = 0
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IAU_DATA = ("digits", "fashion", "mnist")
ARCHITECTURES = ("mlp", "cnn", "resnet")
IAU_PENALTIES = {"": 0.0, "/gr": 0.005, "/gr0.05": 0.05}
"""End of an ``iau/...`` problem's name -> weight of the gradient penalty; 0.005 is the published one."""
IAU_PROBLEMS = tuple(f"iau/{data}/{net}{end}" for data in IAU_DATA for net in ARCHITECTURES for end in IAU_PENALTIES)

Floats = NDArray[np.float32]


def arguments_of(description: str | None) -> argparse.Namespace:
    """Return the arguments of a program that takes up what ``benchmarks.nets`` has trained."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets; see benchmarks/net_problems.py")
    parser.add_argument("--work", type=Path, default=Path("runs/nets"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    return parser.parse_args()


def load_problem(name: str, data: Path, *, quick: bool = False) -> Problem:
    """Return a problem by name; ``iau/DATA/ARCHITECTURE`` and the same with ``/gr`` or ``/gr0.05`` are those of the IAU comparison.

    Args:
        name: One of ``PROBLEMS`` or an ``iau/...`` name.
        data: Folder of the data sets.
        quick: A sixth of the rows and two epochs: whether it runs, not how well.

    Raises:
        InputError: When there is none of that name, or a file is missing.
    """
    if name in IAU_PROBLEMS:
        problem = _iau(name, data)
    elif name in PROBLEMS:
        problem = PROBLEMS[name](data)
    else:
        raise InputError(
            f"There is no benchmark problem {name!r}. Known: {', '.join((*PROBLEMS, *IAU_PROBLEMS))}. Choose one of these."
        )
    return _smaller(problem) if quick else problem


def _smaller(problem: Problem) -> Problem:
    count = min(len(problem.train), max(600, len(problem.train) // 6))
    rows = problem.forget_rows()
    share = max(30, round(len(rows) * count / len(problem.train)))
    kept = np.sort(np.concatenate([rows[:share], problem.retain_rows()[: count - share]]))
    forget = problem.forget if callable(problem.forget) else np.flatnonzero(np.isin(kept, rows))
    training = (problem.training or NetTraining()).model_copy(update={"epochs": 2})
    test = ArrayRows(*problem.test.take(np.arange(min(400, len(problem.test)))))
    return replace(
        problem, train=ArrayRows(*problem.train.take(kept)), test=test, forget=forget, test_forget=None, training=training
    )


def fashion_class(data: Path) -> Problem:
    """All T-shirts must go."""
    return _fashion(data, "fashion_class", forget=lambda _, y: int(y) == 0)


def fashion_random(data: Path) -> Problem:
    """As in LAF's random task: 40 % of each of the classes 5 to 9 must go."""
    labels = _images(data / "fashion_mnist_20k", "train20k", 5000)[1]
    rng = np.random.default_rng(SPLIT_SEED)
    chosen = [rng.permutation(np.flatnonzero(labels == k))[: int(0.4 * (labels == k).sum())] for k in range(5, 10)]
    return _fashion(data, "fashion_random", forget=np.sort(np.concatenate(chosen)))


def fashion_noise(data: Path) -> Problem:
    """As in LAF's noisy-label task: 60 % of the classes 0 to 4 carry a wrong label, and these rows must go.

    Wrong labels are drawn from all other classes; LAF's code draws from 0 to 8 only.
    """
    images, labels = _images(data / "fashion_mnist_20k", "train20k", 5000)
    rng = np.random.default_rng(SPLIT_SEED)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == k))[: int(0.6 * (labels == k).sum())] for k in range(5)])
    wrong = labels.copy()
    wrong[chosen] = (labels[chosen] + rng.integers(1, 10, len(chosen))) % 10
    problem = _fashion(data, "fashion_noise", forget=np.sort(chosen))
    return replace(problem, train=as_rows((images, wrong)))


def _fashion(data: Path, name: str, *, forget: Any) -> Problem:
    return Problem(
        task="classification",
        make_model=seeded(lenet),
        train=as_rows(_images(data / "fashion_mnist_20k", "train20k", 5000)),
        test=as_rows(_images(data / "fashion_mnist_20k", "t10k", 2000)),
        forget=forget,
        training=NetTraining(epochs=25, learning_rate=2e-3, batch_size=64),
        num_classes=10,
        class_names=CLOTHES,
        name=name,
    )


def mnist(data: Path) -> Problem:
    """All zeros must go; rows are shuffled once because the first half of the file is cleaner than the second."""
    images, labels = _images(data / "mnist10k", "t10k", 10_000)
    order = np.random.default_rng(SPLIT_SEED).permutation(10_000)
    train, test = order[:4000], order[8000:]
    return Problem(
        task="classification",
        make_model=seeded(lenet),
        train=as_rows((images[train], labels[train])),
        test=as_rows((images[test], labels[test])),
        forget=lambda _, y: int(y) == 0,
        training=NetTraining(epochs=15, learning_rate=2e-3, batch_size=64),
        num_classes=10,
        name="mnist",
    )


def abalone(data: Path) -> Problem:
    """Rings of an abalone from its measures; the young (at most 7 rings) must go."""
    with (data / "abalone_age" / "abalone.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sexes = np.array([[row["sex"] == sex for sex in "MFI"] for row in rows], dtype=np.float32)
    measures = np.array([[float(value) for key, value in row.items() if key not in ("sex", "rings")] for row in rows])
    rings = np.array([float(row["rings"]) for row in rows])
    train, test = _split(np.concatenate([sexes, measures], axis=1), rings, train=3200)
    return Problem(
        task="regression",
        make_model=seeded(partial(mlp, 10, 64, 1)),
        train=train,
        test=test,
        forget=lambda _, y: float(y) <= 7,
        training=NetTraining(epochs=60, learning_rate=1e-2, batch_size=128),
        target_name="rings",
        name="abalone",
    )


def bike(data: Path) -> Problem:
    """Hundreds of rides in an hour from calendar and weather; the busiest hours (at least 400 rides) must go."""
    with gzip.open(data / "bike_hourly" / "hour.csv.gz", "rt", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    plain = ("yr", "holiday", "workingday", "temp", "atemp", "hum", "windspeed")
    turning = {"hr": 24, "mnth": 12, "weekday": 7}
    columns = [[float(row[name]) for name in plain] for row in rows]
    angles = [[2 * np.pi * float(row[name]) / turn for name, turn in turning.items()] for row in rows]
    kinds = [[float(row["weathersit"] == str(kind)) for kind in (1, 2, 3)] for row in rows]
    x = np.concatenate([columns, np.sin(angles), np.cos(angles), kinds], axis=1)
    train, test = _split(x, np.array([float(row["cnt"]) for row in rows]) / 100, train=6000, test=2000)
    return Problem(
        task="regression",
        make_model=seeded(partial(mlp, x.shape[1], 96, 1)),
        train=train,
        test=test,
        forget=lambda _, y: float(y) >= 4,
        training=NetTraining(epochs=40, learning_rate=3e-3, batch_size=128),
        target_name="hundreds of rides per hour",
        name="bike",
    )


def rotated(data: Path) -> Problem:
    """The angle by which a garment is turned, -60 to 60 degrees; those turned by more than 30 must go.

    Targets are in units of ten degrees, so that one learning rate suits all regression problems.
    """
    from scipy.ndimage import rotate

    sets = []
    for part, (source, count) in enumerate((("train20k", 3000), ("t10k", 1500))):
        images, _ = _images(data / "fashion_mnist_20k", source, count)
        angles = np.random.default_rng([SPLIT_SEED, part]).uniform(-60, 60, count)
        turned = [rotate(image[0], angle, reshape=False, order=1) for image, angle in zip(images, angles, strict=True)]
        sets.append(as_rows((np.stack(turned)[:, None].astype(np.float32), (angles / 10).astype(np.float32))))
    return Problem(
        task="regression",
        make_model=seeded(partial(lenet, outputs=1)),
        train=sets[0],
        test=sets[1],
        forget=lambda _, y: float(y) > 3,
        training=NetTraining(epochs=25, learning_rate=2e-3, batch_size=64),
        target_name="angle (10 degrees)",
        name="rotated",
    )


def exchange(data: Path) -> Problem:
    """Quantiles of the next five days of an exchange rate, in per cent of today's, from thirty days; one currency must go."""
    table = np.loadtxt(data / "exchange_rate" / "exchange_rate.txt.gz", delimiter=",")
    history, horizon, gone = 30, 5, 5  # the sixth series
    cut = int(0.6 * len(table))
    sets, currencies = [], []
    for start, stop in ((0, cut), (cut, int(0.8 * len(table)))):
        x, y, which = [], [], []
        for day, series in itertools.product(range(start + history, stop - horizon, 10), range(table.shape[1])):
            window = table[day - history : day + horizon, series] / table[day - 1, series] - 1
            x.append(100 * window[:history])
            y.append(100 * window[history:])
            which.append(series)
        sets.append(as_rows((np.array(x, dtype=np.float32), np.array(y, dtype=np.float32))))
        currencies.append(np.array(which))
    return Problem(
        task="forecasting",
        make_model=seeded(partial(forecaster, history, horizon, 3)),
        train=sets[0],
        test=sets[1],
        forget=np.flatnonzero(currencies[0] == gone),
        test_forget=np.flatnonzero(currencies[1] == gone),
        training=NetTraining(epochs=60, learning_rate=2e-3, batch_size=64),
        quantiles=(0.1, 0.5, 0.9),
        target_name="per cent of today's rate",
        name="exchange",
    )


def stsb(data: Path) -> Problem:
    """How alike two captions are, 0 to 5, from TF-IDF codes of both; pairs below 2 must go.

    The codes are fitted on the training sentences of all rows, as a tokenizer would be.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts = {}
    for name in ("train", "test"):
        with (data / "stsb_captions" / f"{name}.tsv").open(newline="", encoding="utf-8") as file:
            parts[name] = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    sentences = [row[key] for row in parts["train"] for key in ("sentence1", "sentence2")]
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(sentences)
    codes = TruncatedSVD(64, random_state=SPLIT_SEED).fit(vectorizer.transform(sentences))
    sets = []
    for rows in parts.values():
        u, v = (codes.transform(vectorizer.transform([row[key] for row in rows])) for key in ("sentence1", "sentence2"))
        words = [len(set(row["sentence1"].lower().split()) & set(row["sentence2"].lower().split())) / 10 for row in rows]
        x = np.concatenate([np.abs(u - v), u * v, np.array(words)[:, None]], axis=1)
        sets.append(as_rows((x.astype(np.float32), np.array([float(row["score"]) for row in rows], dtype=np.float32))))
    return Problem(
        task="regression",
        make_model=seeded(partial(mlp, 129, 64, 1)),
        train=sets[0],
        test=sets[1],
        forget=lambda _, y: float(y) < 2,
        loss="mse",
        training=NetTraining(epochs=60, learning_rate=3e-3, batch_size=64),
        target_name="similarity score",
        name="stsb",
    )


PROBLEMS: dict[str, Callable[[Path], Problem]] = {
    "fashion_class": fashion_class,
    "fashion_random": fashion_random,
    "fashion_noise": fashion_noise,
    "mnist": mnist,
    "abalone": abalone,
    "bike": bike,
    "rotated": rotated,
    "exchange": exchange,
    "stsb": stsb,
}


def _iau(name: str, data: Path) -> Problem:
    """Five per cent of the rows, at random, must go; with ``/gr...`` at the end the training has the gradient penalty.

    Thirty epochs: after ten an original hardly tells forget rows from unseen ones, and nothing is there to be removed.
    """
    _, source, architecture, *penalty = name.split("/", 3)
    weight = IAU_PENALTIES["/" + penalty[0] if penalty else ""]
    x, y, train = _iau_rows(source, data)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    parts = [as_rows((x[part], y[part])) for part in (order[:train], order[train : train + 1000])]
    build = {"mlp": flat_mlp, "cnn": lenet, "resnet": small_resnet}[architecture]
    return Problem(
        task="classification",
        make_model=seeded(partial(build, side=x.shape[-1])),
        train=parts[0],
        test=parts[1],
        forget=np.arange(train // 20),
        training=NetTraining(epochs=30, learning_rate=2e-3, batch_size=64, gradient_penalty=weight),
        num_classes=10,
        name=name,
    )


def _iau_rows(source: str, data: Path) -> tuple[Floats, NDArray[np.int64], int]:
    if source == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        return (found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64), 1200
    folder, prefix = ("fashion_mnist_20k", "train20k") if source == "fashion" else ("mnist10k", "t10k")
    return *_images(data / folder, prefix, 3000), 2000


def lenet(*, outputs: int = 10, side: int = 28) -> nn.Module:
    """LeNet-5's shape with rectifiers; on 8x8 images without the second pooling."""
    spatial = 5 if side == 28 else 4
    second = [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)] if side == 28 else [nn.Conv2d(6, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *second,
        nn.Flatten(),
        nn.Linear(16 * spatial**2, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, outputs),
        *([nn.Flatten(0)] if outputs == 1 else []),
    )


def mlp(inputs: int, width: int, outputs: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(*_layers(inputs, width, outputs), *([nn.Flatten(0)] if outputs == 1 else []))


def _layers(inputs: int, width: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)]


def flat_mlp(*, side: int) -> nn.Module:
    """Return an MLP on flattened images."""
    return nn.Sequential(nn.Flatten(), *_layers(side * side, 128, 10))


def forecaster(history: int, horizon: int, quantiles: int) -> nn.Module:
    """Return an MLP from ``history`` values to (horizon, quantiles)."""
    return nn.Sequential(*_layers(history, 64, horizon * quantiles), nn.Unflatten(1, (horizon, quantiles)))


class Residual(nn.Module):
    """Two convolutions and a way past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.past = nn.Identity() if stride == 1 and inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both ways, rectified."""
        return torch.relu(self.body(x) + self.past(x))


def small_resnet(*, side: int) -> nn.Module:
    """Return a ResNet of three blocks, 8 to 32 channels."""
    first = 2 if side == 28 else 1
    blocks = [Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 32, 2)]
    stem = [nn.Conv2d(1, 8, 3, first, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def seeded(build: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    """Return seed -> net; the process's random state is left as it was."""

    def make(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build()

    return make


def _images(folder: Path, prefix: str, count: int) -> tuple[Floats, NDArray[np.int64]]:
    """The first images (n, 1, 28, 28) in [0, 1] and their labels."""
    found = []
    for kind, offset in (("images-idx3-ubyte.gz", 16), ("labels-idx1-ubyte.gz", 8)):
        path = folder / f"{prefix}-{kind}"
        if not path.is_file():
            raise InputError(
                f"There is no {path.name} in {folder.name}. The benchmark reads it from the folder of --data. Put it there."
            )
        found.append(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset))
    images = found[0].reshape(-1, 1, 28, 28)[:count].astype(np.float32) / np.float32(255)
    return images, found[1][:count].astype(np.int64)


def _split(x: Sequence[Any] | NDArray[Any], y: NDArray[Any], *, train: int, test: int | None = None) -> tuple[ArrayRows, ArrayRows]:
    """Shuffle, cut, and standardise the inputs by the training rows."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(y))
    parts = (order[:train], order[train : None if test is None else train + test])
    values = np.asarray(x, dtype=np.float64)
    mean, spread = values[parts[0]].mean(axis=0), values[parts[0]].std(axis=0)
    scaled = (values - mean) / np.where(spread > 0, spread, 1)
    first, second = (as_rows((scaled[part].astype(np.float32), y[part].astype(np.float32))) for part in parts)
    return first, second
