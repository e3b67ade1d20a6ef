"""IAU's first-order step against the exact influence step, where that is known: logistic regression on scikit-learn's digits.

The loss is the mean cross entropy with lambda / 2 ||theta||^2, strictly convex, so that the original and the retrained weights are
found to the last digits (L-BFGS, float64, both timed as nothing here). Exact influence is Newton's step from the original towards
the optimum of the retain rows, H formed and factorised (``solver: exact``, the damping being lambda). Every other row of the table
is an approximation of it, run as a method of efface.

Time ratio: exact / approximation, taken in turns. Error, for a step s and the exact step s*: the cosine of the two; ||s - s*|| /
||s*||; the same at the length that would suit s best, sqrt(1 - cos^2), which is what is left to the direction alone; and cosine
and distance of s to the way from the original to the retrained weights, which the exact step itself does not meet altogether.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.plain_net import Rows
from benchmarks.tables import Table
from benchmarks.timing import Ratio
from efface.models.net_losses import NetLoss
from efface.registry import NETS
from efface.train.unlearn_net import NetJob, run_net_job

__all__ = ["STEPS", "Step", "StepError", "compare_influence", "influence_table", "logistic"]

PENALTY = 1e-2
BATCH = 512
EXACT: Mapping[str, Any] = {"solver": "exact", "damping": PENALTY, "last_layer": False}
CLASSES = 10


@dataclass(frozen=True)
class Step:
    """One way to take the step.

    Attributes:
        title: Row of the table.
        method: Name of the method.
        settings: Its settings.
    """

    title: str
    method: str
    settings: Mapping[str, Any]


STEPS = (
    Step("IAU as published (Adam's sign, 1e-3)", "iau", {"learning_rate": 1e-3}),
    Step("IAU, rate searched (the default)", "iau", {}),
    Step("IAU, plain gradient, searched", "iau", {"step": "sgd"}),
    Step("IAU, diagonal Fisher, searched", "iau", {"step": "diag_fisher", "damping": PENALTY}),
    Step("influence, conjugate gradients", "influence", {**EXACT, "solver": "cg"}),
    Step("influence, LiSSA", "influence", {**EXACT, "solver": "lissa"}),
    Step("influence, WoodFisher", "influence", {**EXACT, "solver": "woodfisher"}),
)


@dataclass(frozen=True)
class StepError:
    """How a step lies to another.

    Attributes:
        cosine: Of the two.
        distance: Length of their difference over the other's.
    """

    cosine: float
    distance: float

    @classmethod
    def of(cls, step: Tensor, truth: Tensor) -> StepError:
        """Compare two vectors, (P,)."""
        cosine = float(F.cosine_similarity(step, truth, dim=0))
        return cls(cosine, float((step - truth).norm() / truth.norm()))

    @property
    def at_best_length(self) -> float:
        """Distance with the step made as long as suits it best; 1 where it points away."""
        return math.sqrt(max(0.0, 1 - max(self.cosine, 0.0) ** 2))


def digit_rows() -> Rows:
    """Return scikit-learn's digits, (1797, 64) in [0, 1], shuffled once, and their class numbers."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(data.data / 16.0)[order], torch.tensor(data.target)[order]


def logistic(x: Tensor, y: Tensor) -> nn.Linear:
    """Return the minimiser of the penalised mean cross entropy, in float64."""
    net = nn.Linear(x.shape[1], CLASSES, dtype=torch.float64)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    optimizer = torch.optim.LBFGS(
        net.parameters(), max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty: Tensor = PENALTY / 2 * torch.stack([parameter.square().sum() for parameter in net.parameters()]).sum()
        loss = F.cross_entropy(net(x), y) + penalty
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return net


def weights(net: nn.Module) -> Tensor:
    """Return all weights as one vector, (P,)."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()])


@dataclass(frozen=True)
class InfluenceComparison:
    """One way against the exact step.

    Attributes:
        step: The way.
        seconds: Median seconds.
        faster: Ratio exact / this.
        newton: How it lies to the exact step.
        retrained: How it lies to the way to the retrained weights.
    """

    step: Step
    seconds: float
    faster: Ratio
    newton: StepError
    retrained: StepError

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {
            "step": self.step.title,
            "seconds": self.seconds,
            "faster": self.faster.as_dict(),
            "newton_cosine": self.newton.cosine,
            "newton_distance": self.newton.distance,
            "newton_distance_at_best_length": self.newton.at_best_length,
            "retrained_cosine": self.retrained.cosine,
            "retrained_distance": self.retrained.distance,
        }


def compare_influence(rows: Rows, forgotten: int, steps: Sequence[Step], *, rounds: int) -> list[InfluenceComparison]:
    """Take every step from the same original, away from the first ``forgotten`` rows; the exact step is the first of the result."""
    x, y = rows
    original, retrained = logistic(x, y), logistic(x[forgotten:], y[forgotten:])
    start = weights(original)
    everything = (Step("exact influence", "influence", EXACT), *steps)
    seconds: list[list[float]] = [[] for _ in everything]
    found: list[Tensor] = [start] * len(everything)
    for _ in range(rounds):
        for index, step in enumerate(everything):
            job = NetJob(
                net=original,
                method=NETS.get(step.method)(**{"batch_size": BATCH, **step.settings}),
                forget=TensorDataset(x[:forgotten], y[:forgotten]),
                retain=TensorDataset(x[forgotten:], y[forgotten:]),
                task="classification",
                loss=NetLoss("cross_entropy", task="classification"),
            )
            outcome = run_net_job(job)
            seconds[index].append(outcome.cost.seconds)
            found[index] = weights(outcome.net) - start
    way = weights(retrained) - start
    return [
        InfluenceComparison(
            step,
            statistics.median(spent),
            Ratio.of(seconds[0], spent),
            StepError.of(made, found[0]),
            StepError.of(made, way),
        )
        for step, spent, made in zip(everything, seconds, found, strict=True)
    ]


def influence_table(*, rounds: int, is_quick: bool) -> Table:
    """Compare IAU and the solvers with the exact step."""
    rows = digit_rows()
    if is_quick:
        rows = (rows[0][:300, :20], rows[1][:300])
    forgotten = len(rows[0]) // 20
    found = compare_influence(rows, forgotten, STEPS[:2] if is_quick else STEPS, rounds=rounds)
    cells = [
        [
            entry.step.title,
            f"{entry.seconds * 1e3:.0f}",
            str(entry.faster),
            f"{entry.newton.cosine:.3f}",
            f"{entry.newton.distance:.2f}",
            f"{entry.newton.at_best_length:.2f}",
            f"{entry.retrained.cosine:.3f}",
            f"{entry.retrained.distance:.2f}",
        ]
        for entry in found
    ]
    features = rows[0].shape[1]
    return Table(
        title="Nets: IAU against exact influence",
        words=(
            f"Logistic regression on {len(rows[0])} of scikit-learn's digits ({(features + 1) * CLASSES} weights, float64, l2 "
            f"penalty {PENALTY}), from its optimum; {forgotten} random rows go.",
            "Baseline: Newton's step with the matrix formed and factorised. Ratio: exact / this, median of rounds taken in turns "
            "(lowest-highest). Error of a step: cosine with the exact step, distance from it relative to its length, the same at "
            "the length that suits the step best, and cosine and distance to the retrained weights, found by L-BFGS.",
        ),
        columns=("step", "ms", "times faster", "cosine", "distance", "at best length", "to retrained: cosine", "distance"),
        rows=cells,
        values=[entry.as_dict() for entry in found],
    )
