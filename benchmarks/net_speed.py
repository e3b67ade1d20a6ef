"""Ordinary nets: what the training loop costs over a plain one, what methods cost beside retraining, batched gradients.

Loop. Ours: a method of efface, run as ``efface unlearn`` runs it, in ``efface.train.net.fit``. Baseline: the same method written
in plain PyTorch (``benchmarks/plain_net.py``, which does not import efface): same net at the start, same rows in the same batches,
same optimiser. Both are checked to arrive at the same weights. Bound: 1, since both do the same passes; target: at most 1.1.

Methods. Ours: the seconds a method takes at its defaults, evaluation left out. Baseline: the method ``retrain``, a fresh net
trained on the retain rows by the original's recipe, through the same loop.

Per-sample gradients. Ours: one batched pass (``torch.func``). Baseline: a forward and a backward pass for every row. Checked to
give the same gradients.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.plain_net import Rows, gradients_one_by_one, plain_neg_grad_plus, plain_training
from benchmarks.tables import Table
from benchmarks.timing import Clock, Ratio, Spent
from efface.data.problem import NetTraining, Problem
from efface.methods.nets.base import NetData, NetMethod
from efface.methods.nets.gradients import per_sample_gradients
from efface.models.net_losses import NetLoss
from efface.registry import NETS
from efface.train.net_recipe import train_recipe
from efface.train.net_tools import Tools
from efface.train.unlearn_net import NetJob, run_net_job
from efface.world.problems import embedded_problem

__all__ = ["NETS_TIMED", "loop_table", "method_table", "per_sample_table", "seeded_net"]

LOOP_TARGET = 1.1
SAME = 1e-3
"""Largest distance of the two sides' weights, relative to how far training moved them; rounding alone parts them."""
SEED = 0
FRESH_SEED = 7919
"""Seed of the fresh net that the seed 0 retrains."""
QUICK_METHODS: Mapping[str, tuple[str, ...]] = {"digits": ("fine_tune", "iau", "ssd"), "diabetes": ("blindspot",)}
METHODS: Mapping[str, tuple[str, ...]] = {
    "digits": (
        "fine_tune",
        "neg_grad",
        "neg_grad_plus",
        "random_label",
        "bad_teacher",
        "scrub",
        "salun",
        "fisher",
        "influence",
        "l1_sparse",
        "ssd",
        "iau",
        "laf",
    ),
    "diabetes": ("fine_tune", "neg_grad", "gaussian_amnesiac", "blindspot", "iau"),
}
"""Embedded problem -> methods that work for its task."""


def seeded_net(build: Callable[[], nn.Module], seed: int = SEED) -> nn.Module:
    """Return a freshly initialised net and leave the random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def _lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


NETS_TIMED: dict[str, Callable[[], nn.Module]] = {"dense 784-256-10": _dense, "LeNet, 28 x 28": _lenet}
"""The nets on which loops and gradients are timed."""


def random_rows(count: int, seed: int) -> Rows:
    """Return images of 28 x 28 with class numbers; what they show does not matter for a time."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 28, 28, generator=generator), torch.randint(10, (count,), generator=generator)


@dataclass(frozen=True)
class LoopCase:
    """One method on both sides.

    Attributes:
        method: Name.
        retain: Rows that stay.
        forget: Rows that go.
        batch_size: Rows of each kind per batch.
        epochs: Passes over the retain rows.
        learning_rate: Of Adam.
    """

    method: str
    retain: Rows
    forget: Rows
    batch_size: int = 64
    epochs: int = 1
    learning_rate: float = 1e-3

    def ours(self, net: nn.Module, build: Callable[[int], nn.Module]) -> nn.Module:
        """Run the method as the engine does, on ``net`` itself."""
        tools = Tools(
            seed=SEED,
            generator=torch.Generator().manual_seed(SEED),
            batch_size=self.batch_size,
            loss=NetLoss("cross_entropy", task="classification"),
            make_model=build,
            recipe=NetTraining(epochs=self.epochs, learning_rate=self.learning_rate, batch_size=self.batch_size),
        )
        settings = {} if self.method == "retrain" else {"epochs": self.epochs, "learning_rate": self.learning_rate}
        method: NetMethod = NETS.get(self.method)(**settings)
        data = NetData(TensorDataset(*self.forget), TensorDataset(*self.retain), "classification")
        return method.run(net, data, tools)

    def baseline(self, net: nn.Module, build: Callable[[int], nn.Module]) -> nn.Module:
        """Do the same steps in a plain loop, on ``net`` itself."""
        common: dict[str, Any] = {
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
        }
        first = SEED * 1_000_003 + 1
        if self.method == "neg_grad_plus":
            alpha = NETS.get(self.method)().config.alpha
            plain_neg_grad_plus(net, (self.retain, self.forget), seeds=(first, first + 1), alpha=alpha, **common)
            return net
        trained = build(FRESH_SEED) if self.method == "retrain" else net
        plain_training(trained, self.retain, seed=first, **common)
        return trained


def flat(net: nn.Module) -> Tensor:
    """Return all weights as one vector."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()])


def timed(work: Callable[[], nn.Module]) -> tuple[Spent, nn.Module]:
    """Return what a piece of work took, and the net it made."""
    started = Clock.now()
    made = work()
    return started.spent(), made


@dataclass(frozen=True)
class LoopComparison:
    """What one method took in both loops.

    Attributes:
        wall: Ratio ours / baseline on the wall clock.
        cpu: The same in CPU time.
        seconds: Median of ours per step.
        distance: Between the two sides' weights, relative to how far training moved them.
    """

    wall: Ratio
    cpu: Ratio
    seconds: float
    distance: float


def compare_loops(case: LoopCase, build: Callable[[], nn.Module], *, rounds: int) -> LoopComparison:
    """Time one method on both sides in turns; the first turn of each warms up and is left out.

    Raises:
        RuntimeError: When the two sides do not arrive at the same weights.
    """
    original = seeded_net(build)

    def fresh(seed: int) -> nn.Module:
        return seeded_net(build, seed)

    ours, theirs = [], []
    distance = 0.0
    for _ in range(rounds + 1):
        copies = [copy.deepcopy(original) for _ in range(2)]
        spent, plain = timed(lambda net=copies[0]: case.baseline(net, fresh))  # type: ignore[misc]
        theirs.append(spent)
        spent, made = timed(lambda net=copies[1]: case.ours(net, fresh))  # type: ignore[misc]
        ours.append(spent)
        start = fresh(FRESH_SEED) if case.method == "retrain" else original
        moved = float((flat(plain) - flat(start)).norm())
        distance = float((flat(made) - flat(plain)).norm()) / moved
        if not moved > 0 or not distance < SAME:
            raise RuntimeError(f"The two loops of {case.method} parted: their weights are {distance:.2g} apart. Mend the baseline.")
    ours, theirs = ours[1:], theirs[1:]
    steps = case.epochs * -(-len(case.retain[0]) // case.batch_size)
    return LoopComparison(
        wall=Ratio.of([spent.wall for spent in ours], [spent.wall for spent in theirs]),
        cpu=Ratio.of([spent.cpu for spent in ours], [spent.cpu for spent in theirs]),
        seconds=statistics.median(spent.wall for spent in ours) / steps,
        distance=distance,
    )


def loop_table(*, rounds: int, rows: int, epochs: int) -> Table:
    """Compare the loops for three methods on every net."""
    cells, values = [], []
    for title, build in NETS_TIMED.items():
        for method in ("retrain", "fine_tune", "neg_grad_plus"):
            case = LoopCase(method, random_rows(rows, 1), random_rows(rows // 4, 2), epochs=epochs)
            found = compare_loops(case, build, rounds=rounds)
            cells.append(
                [title, method, f"{found.seconds * 1e3:.2f}", str(found.wall), str(found.cpu), f"{found.distance:.0e}"],
            )
            values.append(
                {
                    "net": title,
                    "method": method,
                    "seconds_per_step": found.seconds,
                    "wall": found.wall.as_dict(),
                    "cpu": found.cpu.as_dict(),
                    "distance": found.distance,
                }
            )
    return Table(
        title="Nets: unlearning time relative to a plain PyTorch loop that does the same steps",
        words=(
            f"{rows} retain and {rows // 4} forget images of 28 x 28, batches of 64, Adam, {epochs} epochs.",
            "Baseline: zero_grad, forward, backward, step and loss.item() over batches indexed out of two tensors; same start, "
            "batches and optimiser. Ratio: ours / baseline, median of rounds taken in turns (lowest-highest). Bound 1, both doing "
            f"the same passes; target at most {LOOP_TARGET}.",
            "Apart: distance of the two sides' weights at the end, relative to how far training moved them (rounding).",
        ),
        columns=("net", "method", "ms per step", "wall", "CPU", "apart"),
        rows=cells,
        values=values,
    )


def problem_job(problem: Problem, original: nn.Module, method: str) -> NetJob:
    """Return the unlearning of a problem by a method at its defaults."""
    return NetJob(
        net=original,
        method=NETS.get(method)(),
        forget=_part(problem.train, problem.forget_rows()),
        retain=_part(problem.train, problem.retain_rows()),
        task=problem.task,
        loss=NetLoss(problem.loss if isinstance(problem.loss, str) else None, task=problem.task),
        num_classes=problem.num_classes,
        make_model=problem.make_model,
        recipe=problem.training,
        seed=SEED,
    )


def _part(rows: Any, chosen: Any) -> TensorDataset:
    x, y = rows.take(torch.as_tensor(chosen))
    return TensorDataset(x, y)


def method_table(name: str, names: Sequence[str], *, rounds: int) -> Table:
    """Time methods against retraining, on an embedded problem."""
    problem = embedded_problem(name)
    recipe = problem.training
    if recipe is None:
        raise RuntimeError(f"The {name} have no training recipe, so that there is nothing to retrain by. Give them one.")
    original = problem.make_model(SEED)
    train_recipe(original, problem.train, recipe, NetLoss(problem.loss, task=problem.task), seed=SEED)
    seconds: dict[str, list[float]] = {method: [] for method in ("retrain", *names)}
    steps: dict[str, int] = {}
    for _ in range(rounds):
        for method, column in seconds.items():
            cost = run_net_job(problem_job(problem, original, method)).cost
            column.append(cost.seconds)
            steps[method] = cost.steps or 0
    rows, values = [], []
    for method in names:
        ratio = Ratio.of(seconds["retrain"], seconds[method])
        rows.append([method, str(steps[method]), f"{statistics.median(seconds[method]):.2f}", str(ratio)])
        values.append({"method": method, "steps": steps[method], "seconds": seconds[method], "faster": ratio.as_dict()})
    forgotten, kept = len(problem.forget_rows()), len(problem.retain_rows())
    retrained = statistics.median(seconds["retrain"])
    return Table(
        title=f"Nets: unlearning time relative to retraining, {name}",
        words=(
            f"scikit-learn's {name}; {forgotten} of {forgotten + kept} rows go, every method at its defaults.",
            f"Baseline: a fresh net trained on the retain rows by the original's recipe, {recipe.epochs} epochs, through the same "
            f"loop ({steps['retrain']} steps, {retrained:.2f} s). Ratio: baseline / method, so that 10 is a tenth of retraining's "
            "time; median of rounds taken in turns (lowest-highest). Retraining would pay on larger problems far more.",
        ),
        columns=("method", "steps", "seconds", "times faster"),
        rows=rows,
        values=values,
    )


def per_sample_table(*, rounds: int, batch: int) -> Table:
    """Compare batched per-sample gradients with a loop of backward passes."""
    rows, values = [], []
    for title, build in NETS_TIMED.items():
        ratio, seconds, apart = compare_per_sample(seeded_net(build).eval(), random_rows(batch, 3), rounds=rounds)
        rows.append([title, str(batch), f"{seconds * 1e3:.1f}", str(ratio), f"{apart:.0e}"])
        values.append({"net": title, "rows": batch, "seconds": seconds, "ratio": ratio.as_dict(), "apart": apart})
    return Table(
        title="Nets: per-sample gradients in one batched pass",
        words=(
            "Ours: torch.func's vmap over grad. Baseline: a forward and a backward pass for every row. Ratio: baseline / ours, "
            "median of rounds taken in turns (lowest-highest). There is no bound by counting: the passes are the same, the "
            "calls are not.",
            "Apart: largest difference of two entries over the largest entry; both sides are checked to agree.",
        ),
        columns=("net", "rows", "ms", "ratio", "apart"),
        rows=rows,
        values=values,
    )


def compare_per_sample(net: nn.Module, rows: Rows, *, rounds: int) -> tuple[Ratio, float, float]:
    """Return (ratio baseline / ours, median seconds of ours, largest relative difference); the first round warms up.

    Raises:
        RuntimeError: When the two sides differ.
    """
    x, y = rows
    ours, theirs = [], []
    apart = 0.0
    for _ in range(rounds + 1):
        started = Clock.now()
        one_by_one = gradients_one_by_one(net, x, y)
        theirs.append(started.spent().wall)
        started = Clock.now()
        together = per_sample_gradients(net, x, y, F.cross_entropy)
        ours.append(started.spent().wall)
        apart = max(float((together[name] - one).abs().max() / one.abs().max()) for name, one in one_by_one.items())
        if not apart < SAME:
            raise RuntimeError(f"Batched and single gradients differ by {apart:.2g}. They must agree. Mend the side that is wrong.")
    return Ratio.of(theirs[1:], ours[1:]), statistics.median(ours[1:]), apart


def net_speed(is_quick: bool) -> Iterator[Table]:
    """Yield the tables of this file."""
    yield loop_table(rounds=1 if is_quick else 9, rows=256 if is_quick else 2048, epochs=1 if is_quick else 2)
    for name, names in (QUICK_METHODS if is_quick else METHODS).items():
        yield method_table(name, names, rounds=1 if is_quick else 3)
    yield per_sample_table(rounds=1 if is_quick else 9, batch=16 if is_quick else 64)
