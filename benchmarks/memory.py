"""Peak memory of unlearning: there is no second model.

Each figure is the peak resident memory of a process of its own, less what that process held before the model was built. Ours keeps
of the reference model one number per forget row (NPO) and the final hidden states of the retain answers with a copy of the output
head (KL); the baseline of ``benchmarks/plain.py`` keeps a frozen copy of the whole model. Same model, optimiser and rows.

GradDiff needs no reference on either side: what a method takes over it on the same side is what its reference costs. Beside it
stands what ``efface.models.memory`` says before anything is loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from benchmarks.plain import PlainLoop
from benchmarks.shapes import PAD, Shape, make_model, make_sequences
from benchmarks.steps import COMPARED, Compared, our_losses, our_settings, plain_batches
from benchmarks.tables import Table
from efface.models.memory import PeakMemory, TrainingShape, estimate_memory
from efface.train.items import UnlearningItems
from efface.train.language_model import train

__all__ = ["MEMORY_SHAPE", "QUICK_MEMORY_SHAPE", "MemoryComparison", "compare_memory", "memory_table", "run_memory"]

MEMORY_SHAPE = Shape("60 M parameters", 16_000, 640, 1728, 10, 10, 4, (48, 48))
QUICK_MEMORY_SHAPE = Shape("12 M parameters", 8_000, 384, 1024, 4, 6, 4, (32, 32))
STEPS = 2
_METHODS = ("grad_diff", "npo", "npo_kl")
MIB = float(1 << 20)


@dataclass(frozen=True)
class Peak:
    """What one child process saw.

    Attributes:
        start: Resident bytes before the model was built.
        peak: Most resident bytes since.
        weights: Bytes of one copy of the weights.
        loss: Loss of the first step.
    """

    start: int
    peak: int
    weights: int
    loss: float

    @property
    def added(self) -> int:
        """Bytes that building and training the model added."""
        return self.peak - self.start


@dataclass(frozen=True)
class MemoryComparison:
    """One method on both sides.

    Attributes:
        method: The method.
        ours: Our child.
        baseline: The baseline's child.
        estimate: What efface estimated for ours, without the runtime.
    """

    method: Compared
    ours: Peak
    baseline: Peak
    estimate: int


def compare_memory(shape: Shape, plain_name: str) -> MemoryComparison:
    """Measure one method in two child processes, one after the other."""
    method = next(entry for entry in COMPARED if entry.plain == plain_name)
    return MemoryComparison(
        method, _measure("ours", shape, plain_name), _measure("plain", shape, plain_name), estimated_bytes(shape, method)
    )


def estimated_bytes(shape: Shape, method: Compared) -> int:
    """Return efface's own estimate of the peak, less its allowance for the interpreter."""
    with torch.device("meta"):  # counts the weights without holding them
        parameters = sum(parameter.numel() for parameter in make_model(shape).parameters())
    views = 1 + bool(method.retention)
    answers = round(shape.lengths[1] * (1 - shape.prompt_share))
    estimate = estimate_memory(
        TrainingShape(
            num_parameters=parameters,
            trained_parameters=parameters,
            weight_bytes=4,
            batch_rows=shape.rows * views,
            length=shape.lengths[1],
            answer_length=answers,
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_layers=shape.num_layers,
            num_heads=shape.num_heads,
            reference_tokens=answers * shape.rows * STEPS if method.retention == "kl" else 0,
        )
    )
    return estimate.total - estimate.runtime


def _measure(side: str, shape: Shape, method: str) -> Peak:
    job = json.dumps({"side": side, "shape": asdict(shape), "method": method})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--child", job], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"The {side} side of {method} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def _child(side: str, shape: Shape, name: str) -> Peak:
    torch.set_num_threads(1)
    method = next(entry for entry in COMPARED if entry.plain == name)
    small = replace(shape, vocab_size=64, hidden_size=16, intermediate_size=16, num_layers=1, num_heads=1, rows=1, lengths=(4, 4))
    _train(side, small, method)  # libraries and their buffers load on first use; they are not the model's
    with PeakMemory() as meter:
        weights, loss = _train(side, shape, method)
    return Peak(meter.before, meter.bytes, weights, loss)


def _train(side: str, shape: Shape, method: Compared) -> tuple[int, float]:
    """Take a few steps and return the bytes of the weights and the first loss."""
    model = make_model(shape)
    forget = make_sequences(shape, shape.rows * STEPS, name="forget")
    retain = make_sequences(shape, shape.rows * STEPS, name="retain") if method.retention else []
    items = UnlearningItems(forget, retain)
    settings = our_settings(shape, steps=STEPS, rows=len(forget))
    if side == "ours":
        losses, _ = our_losses(model, method, forget, retain)
        logs = train(model, items, losses, settings, pad_id=PAD).first_step_logs
        loss = logs["loss_forget"] + logs.get("loss_retain", 0.0)
    else:
        loop = PlainLoop(model, method.plain, settings.learning_rate)
        batches = plain_batches(items, shape.rows)
        for _ in range(STEPS):
            loop.step(next(batches))
        loss = loop.losses[0]
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()), loss


def memory_table(comparisons: list[MemoryComparison], shape: Shape) -> Table:
    """Put the comparisons into a table; the first is what the others are held against."""
    first = comparisons[0]
    weights = first.ours.weights / MIB
    rows, values = [], []
    for entry in comparisons:
        over = tuple(side.added - against.added for side, against in ((entry.ours, first.ours), (entry.baseline, first.baseline)))
        rows.append(
            [
                entry.method.title,
                f"{entry.ours.added / MIB:.0f}",
                f"{over[0] / MIB:+.0f}",
                f"{entry.baseline.added / MIB:.0f}",
                f"{over[1] / MIB:+.0f}",
                f"{entry.estimate / MIB:.0f}",
                f"{entry.estimate / entry.ours.added:.2f}",
            ]
        )
        values.append(_record(entry, over))
    return Table(
        title="Peak memory in MiB",
        words=(
            f"Model: {shape.describe(round(first.ours.weights / 4))}; one copy of its weights takes {weights:.0f} MiB.",
            "Ours: what of the reference is needed is kept per row. Baseline: a frozen copy of the model beside the trained one.",
            "Each figure is the peak of a process of its own, less what it held before the model was built. The bound of what a "
            f"second model costs is its weights, {weights:.0f} MiB, over {first.method.title}, which needs no reference.",
        ),
        columns=(
            "method",
            "ours",
            f"over {first.method.title}",
            "baseline",
            f"over {first.method.title}",
            "our estimate",
            "estimate / ours",
        ),
        rows=rows,
        values=values,
    )


def _record(entry: MemoryComparison, over: tuple[int, ...]) -> dict[str, Any]:
    return {
        "method": entry.method.plain,
        "ours_bytes": entry.ours.added,
        "ours_over_first_bytes": over[0],
        "baseline_bytes": entry.baseline.added,
        "baseline_over_first_bytes": over[1],
        "weights_bytes": entry.ours.weights,
        "estimate_bytes": entry.estimate,
        "losses": [entry.ours.loss, entry.baseline.loss],
    }


def run_memory(shape: Shape = MEMORY_SHAPE) -> Table:
    """Measure every method and return the table."""
    return memory_table([compare_memory(shape, name) for name in _METHODS], shape)


def main() -> None:
    """Run one side of one method in this process and write what it took as JSON; or, without arguments, print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--child", default=None)
    arguments = parser.parse_args()
    if arguments.child is None:
        print(run_memory().text())
        return
    job = json.loads(arguments.child)
    shape = Shape(**{**job["shape"], "lengths": tuple(job["shape"]["lengths"])})
    print(json.dumps(asdict(_child(job["side"], shape, job["method"]))))


if __name__ == "__main__":
    main()
