"""Seconds per optimiser step against recomputing a frozen copy of the model in every step.

Ours: ``efface.train.language_model.train``, the loop behind ``efface run``: the reference's values are computed once per sequence,
logits are made at answer positions only, forget and retain rows share a forward pass.

Baseline: ``benchmarks/plain.py``, which does not import efface. A frozen copy of the model is run in every step (for NPO on the
forget batch, for KL on the retain batch too), logits are made at all positions, forget and retain batch have a forward pass each.
Same weights at the start, same rows in the same batches, each batch padded to its own longest row; same AdamW, same clipping. Its
Python overhead is that of a bare loop, without a trainer.

The bound counts forward passes of the body (a backward pass is two): what precomputing the reference can give by itself. It leaves
out the logits that are never made; *with logits* counts those too, by the floating-point operations of body and output head.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.plain import PlainBatch, PlainLoop, pad
from benchmarks.shapes import PAD, Shape, make_model, make_sequences
from benchmarks.tables import Table
from benchmarks.timing import Clock, Ratio, Spent
from efface.data.encoding import Encoded
from efface.models.reference import ReferenceStore
from efface.registry import OBJECTIVES, RETENTION, RULES
from efface.train.items import UnlearningItems
from efface.train.language_model import train
from efface.train.settings import StopSettings, TrainSettings
from efface.train.trainer import Losses

__all__ = ["COMPARED", "Compared", "StepComparison", "compare_steps", "our_losses", "our_settings", "plain_batches", "step_table"]

LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class Compared:
    """One method on both sides.

    Attributes:
        title: How it reads in a table.
        plain: Key in :data:`benchmarks.plain.METHODS`.
        objective: Our objective.
        retention: Our retention term, or None.
        passes: Forward passes of a step, (baseline, ours); a backward pass is two.
    """

    title: str
    plain: str
    objective: str
    retention: str | None
    passes: tuple[int, int]

    @property
    def bound(self) -> float:
        """Ratio of forward passes."""
        return self.passes[0] / self.passes[1]

    def bound_with_logits(self, shape: Shape, parameters: int) -> float:
        """Ratio of floating-point operations of body and output head; attention's own products are left out on both sides."""
        head = shape.vocab_size * shape.hidden_size
        body = parameters - head  # embeddings are tied to the head, and looking them up costs nothing
        return self.bound * (body + head) / (body + head * (1 - shape.prompt_share))


COMPARED = (
    Compared("GradDiff", "grad_diff", "ga", "nll", (6, 6)),
    Compared("NPO alone", "npo_forget", "npo", None, (4, 3)),
    Compared("NPO + NLL", "npo", "npo", "nll", (7, 6)),
    Compared("NPO + KL", "npo_kl", "npo", "kl", (8, 6)),
)


@dataclass(frozen=True)
class StepComparison:
    """What one method took on one shape.

    Attributes:
        method: The method.
        parameters: Weights of the model.
        ours: Median seconds per step.
        baseline: The same on the other side.
        wall: Ratio baseline / ours on the wall clock.
        cpu: The same in CPU time.
        losses: (ours, baseline) at the first step, where both have the same weights.
        reference_seconds: Precomputing the reference, per sequence; 0 where there is none.
        sequences: Sequences per step whose reference is kept.
    """

    method: Compared
    parameters: int
    ours: float
    baseline: float
    wall: Ratio
    cpu: Ratio
    losses: tuple[float, float]
    reference_seconds: float
    sequences: int

    @property
    def epochs_to_pay(self) -> float:
        """Epochs after which what the steps save has paid for the reference; inf where nothing is saved.

        An epoch takes as many steps as the forget rows fill; the reference is counted once for as many sequences as those steps
        read. Later epochs pair forget rows with other retain rows, whose values KL needs too: with none drawn twice, NPO + KL pays
        this price in every epoch, and with all drawn before, once.
        """
        if not self.reference_seconds:
            return 0.0
        saved = self.baseline - self.ours
        return self.reference_seconds * self.sequences / saved if saved > 0 else float("inf")


@dataclass
class _Turns:
    """Hands the machine over to the baseline after every block of our steps."""

    loop: PlainLoop
    batches: Iterator[Mapping[str, PlainBatch]]
    block: int
    ours: list[Spent] = field(default_factory=list)
    theirs: list[Spent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._clock = Clock.now()
        self._spent = Spent(0.0, 0.0)

    def __call__(self, step: int, total: int) -> None:
        self._spent += self._clock.spent()
        if step % self.block == 0:
            self.ours.append(self._spent.per(self.block))
            self._spent = Spent(0.0, 0.0)
            started = Clock.now()
            for _ in range(self.block):
                self.loop.step(next(self.batches))
            self.theirs.append(started.spent().per(self.block))
        self._clock = Clock.now()


def plain_batches(items: UnlearningItems, size: int) -> Iterator[dict[str, PlainBatch]]:
    """Yield the batches of our loop, each view padded to its own longest row."""
    stream = (item for epoch in range(1 << 30) for item in items.epoch(epoch))
    while True:
        batch = [next(stream) for _ in range(size)]
        yield {view: pad([(item[view].input_ids, item[view].answer_start) for item in batch], pad_id=PAD) for view in batch[0]}


def our_losses(model: Any, method: Compared, forget: Sequence[Encoded], retain: Sequence[Encoded]) -> tuple[Losses, float]:
    """Return our losses with the reference's values computed, and the seconds that took per sequence."""
    objective = OBJECTIVES.get(method.objective)()
    retention = RETENTION.get(method.retention)() if method.retention else None
    kept = list(forget) if objective.reference else []
    kinds = set(objective.reference)
    if retention is not None and retention.reference:
        kept += retain
        kinds |= retention.reference
    store, seconds = None, 0.0
    if kept:
        started = Clock.now()
        store = ReferenceStore.build(model, kept, kinds, pad_id=PAD)
        seconds = started.spent().wall / store.num_sequences
    return Losses(objective, retention, RULES.get("sum")(), reference=store), seconds


def our_settings(shape: Shape, *, steps: int, rows: int, seed: int = 0) -> TrainSettings:
    """Return settings that take exactly ``steps`` steps and measure nothing on the way."""
    return TrainSettings(
        epochs=steps * shape.rows / rows,
        max_steps=steps,
        learning_rate=LEARNING_RATE,
        batch_size=shape.rows,
        scheduler="constant",
        evaluate_every=steps,
        stop=StopSettings(forget_nll="off"),
        seed=seed,
    )


def compare_steps(shape: Shape, method: Compared, *, rounds: int, block: int, seed: int = 0) -> StepComparison:
    """Time one method on both sides in turns of ``block`` steps; the first turn of each warms up and is left out."""
    model = make_model(shape, seed=seed)
    plain = PlainLoop(copy.deepcopy(model), method.plain, LEARNING_RATE)
    steps = (rounds + 1) * block
    count = min(steps, 8) * shape.rows
    forget = make_sequences(shape, count, name="forget", seed=seed)
    retain = make_sequences(shape, count, name="retain", seed=seed) if method.retention else []
    items = UnlearningItems(forget, retain, seed=seed)
    losses, reference_seconds = our_losses(model, method, forget, retain)
    turns = _Turns(plain, plain_batches(items, shape.rows), block)
    settings = our_settings(shape, steps=steps, rows=count, seed=seed)
    logs = train(model, items, losses, settings, pad_id=PAD, progress=turns).first_step_logs
    ours, theirs = turns.ours[1:], turns.theirs[1:]
    referenced = [plug for plug in (losses.objective, losses.retention) if plug is not None and plug.reference]
    return StepComparison(
        method=method,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        ours=statistics.median(spent.wall for spent in ours),
        baseline=statistics.median(spent.wall for spent in theirs),
        wall=Ratio.of([spent.wall for spent in theirs], [spent.wall for spent in ours]),
        cpu=Ratio.of([spent.cpu for spent in theirs], [spent.cpu for spent in ours]),
        losses=(logs["loss_forget"] + logs.get("loss_retain", 0.0), plain.losses[0]),
        reference_seconds=reference_seconds,
        sequences=shape.rows * len(referenced),
    )


def step_table(shape: Shape, comparisons: Sequence[StepComparison]) -> Table:
    """Put the comparisons on one shape into a table."""
    rows, values = [], []
    for entry in comparisons:
        method = entry.method
        with_logits = method.bound_with_logits(shape, entry.parameters)
        reference = f"{entry.reference_seconds * 1e3:.1f}" if entry.reference_seconds else "-"
        pays = f"{entry.epochs_to_pay:.1f}" if entry.reference_seconds else "-"
        rows.append(
            [
                method.title,
                f"{entry.ours * 1e3:.0f}",
                f"{entry.baseline * 1e3:.0f}",
                str(entry.wall),
                str(entry.cpu),
                f"{method.bound:.2f} ({method.passes[0]}/{method.passes[1]})",
                f"{entry.wall.median / method.bound:.2f}",
                f"{with_logits:.2f}",
                reference,
                pays,
            ]
        )
        values.append(
            {
                "shape": shape.title,
                "method": method.plain,
                "ours_seconds": entry.ours,
                "baseline_seconds": entry.baseline,
                "ratio_wall": entry.wall.as_dict(),
                "ratio_cpu": entry.cpu.as_dict(),
                "bound": method.bound,
                "bound_with_logits": with_logits,
                "reference_seconds_per_sequence": entry.reference_seconds,
                "epochs_to_pay": entry.epochs_to_pay,
                "first_losses": list(entry.losses),
            }
        )
    return Table(
        title=f"Seconds per optimiser step: {shape.title}",
        words=(
            f"Model: {shape.describe(comparisons[0].parameters)}.",
            "Ours: reference computed once per sequence, logits at answer positions, one forward pass for forget and retain rows.",
            "Baseline: a frozen copy run again in each step, logits at all positions, a forward pass per batch; AdamW, plain loop.",
            "Ratio: baseline / ours, median of rounds taken in turns (lowest-highest). Bound: forward passes, a backward pass "
            "being two; with logits: floating-point operations of body and output head.",
            "Reference: ms per sequence, and the epochs after which the steps have saved as much (every retain row new: the worst "
            "case).",
        ),
        columns=(
            "method",
            "ours ms",
            "baseline ms",
            "ratio",
            "ratio in CPU time",
            "bound",
            "ratio / bound",
            "with logits",
            "reference ms",
            "pays after epochs",
        ),
        rows=rows,
        values=values,
    )
