"""Seconds per step and peak memory of every method, relative to plain fine-tuning with the same adapter.

Ours: the method as `efface unlearn` runs it, its preset's plugs, on a model with random weights and rows of random words.

Baseline: plain fine-tuning (the objective ``nll``) through the same loop, with the same adapter, on as many sequences of the same
length per step as the method reads (forget row, its alternate answer, its retain partner and that one's refusal). A step is timed
from the end of the step before it, so that what is done once (the reference's values, generated answers) is not in it; both sides
take turns in one process. Peak memory is that of a process of its own for each side, less what it held before the model was loaded.

Bound: 1 for methods with one policy forward per batch (the loss itself costs next to nothing); update rules that need the forget
and the retain gradient apart run two forwards of half the rows each, and SAM runs the forget half twice (bound 1.5).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shapes import Shape, make_model
from benchmarks.tables import Table
from benchmarks.timing import Ratio

__all__ = ["QUICK_SHAPE", "RELATIVE_SHAPE", "compare_methods", "relative_table"]

RELATIVE_SHAPE = Shape("8 k vocabulary, half prompt", 8_000, 192, 512, 4, 4, 8, (48, 48))
QUICK_SHAPE = Shape("1 k vocabulary, half prompt", 1_000, 32, 64, 2, 4, 4, (16, 16))
TARGET = 1.15
MIB = float(1 << 20)
SEPARATE = {"gru": 1.0, "blur": 1.0, "sam": 1.5}
"""Rule -> bound of the ratio, counted in forward passes of rows."""
MEMORY_STEPS = 2


@dataclass(frozen=True)
class Side:
    """One method or the baseline, ready to be run for a few steps.

    Attributes:
        method: Name of a method, or "nll".
        adapter: Adapter and its settings as JSON, or None for the preset's.
        sequences: Rows it is given for each forget row of the method.
        keeps: Whether a retain row is fine-tuned on beside each of them.
    """

    method: str
    adapter: str | None
    sequences: float
    keeps: bool = False


@dataclass(frozen=True)
class Relative:
    """What one method took.

    Attributes:
        method: Name.
        adapter: What is trained.
        rule: Update rule.
        ours: Median seconds per step.
        ratio: Method / plain fine-tuning.
        peak: Bytes the method's process added.
        baseline_peak: The same for plain fine-tuning.
        failed: Why there is no figure.
    """

    method: str
    adapter: str
    rule: str
    ours: float = 0.0
    ratio: Ratio | None = None
    peak: int = 0
    baseline_peak: int = 0
    failed: str = ""

    @property
    def bound(self) -> float:
        """Ratio that the passes alone would give."""
        return SEPARATE.get(self.rule, 1.0)


def write_inputs(shape: Shape, folder: Path) -> None:
    """Write a model with random weights, a tokenizer with a word per token, and rows whose lengths are the shape's."""
    import numpy as np
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[BOS]": 1, "[EOS]": 2, "[UNK]": 3} | {f"w{i}": i for i in range(4, shape.vocab_size)}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]"
    )
    make_model(shape).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    prompt = round(shape.lengths[1] * shape.prompt_share)

    def text(count: int) -> str:
        return " ".join(f"w{token}" for token in rng.integers(4, shape.vocab_size, count))

    for name in ("forget", "retain"):
        rows = [
            {
                "question": text(prompt),
                "answer": text(shape.lengths[1] - prompt),
                "perturbed_answer": [text(shape.lengths[1] - prompt)],
            }
            for _ in range(shape.rows * 8)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run_side(side: Side, shape: Shape, folder: Path, steps: int) -> list[float]:
    """Take ``steps`` optimiser steps and return the seconds of each but the first, which warms up."""
    from efface.request import ForgetRequest
    from efface.run.verbs import unlearn

    tree: dict[str, Any] = {
        "model": str(folder / "model"),
        "forget": str(folder / "forget.jsonl"),
        "retain": str(folder / "retain.jsonl"),
        "method": side.method,
        "template": "plain",
        "unlearning": {
            "epochs": 50.0,
            "max_steps": steps,
            "batch_size": round(shape.rows * side.sequences),
            "evaluate_every": steps,
            "learning_rate": 1e-5,
            "stop": {"forget_nll": "off"},
        },
    }
    if side.adapter is not None:
        tree["adapter"] = json.loads(side.adapter)
    if side.keeps:
        tree["retention"] = "nll"
    ends: list[float] = []

    def note(stage: str, done: int, total: int) -> None:
        if done:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as target:
        unlearn(request=ForgetRequest.from_tree(tree), output=Path(target) / "model", progress=note)
    return [later - earlier for earlier, later in zip(ends[-steps:], ends[-steps + 1 :], strict=False)]


def sides_of(method: str) -> tuple[Side, Side, str, str]:
    """Return the method, its baseline, its adapter and its rule."""
    from efface.adapters.choice import make_adapter
    from efface.methods.presets import expand

    spec = expand(method, parameters=0)
    settings = {"name": spec.adapter} if isinstance(spec.adapter, str) else dict(spec.adapter)
    adapter = "full" if settings["name"] == "auto" else str(settings["name"])
    settings["name"] = adapter
    gated = make_adapter(settings).reads_retain
    retain = spec.retention.inputs if spec.retention is not None else ("retain",) * gated
    # A gate learns from retain rows whatever the objective; plain fine-tuning inside one trains on them too, for equal passes.
    sequences = (len(spec.objective.inputs) + len(retain)) / (1 + gated)
    baseline = Side("nll", json.dumps(settings, default=list), sequences, keeps=gated)
    return Side(method, None, 1), baseline, adapter, spec.rule.name


def child(method: str, what: str, shape: Shape, folder: Path, rounds: int, steps: int) -> dict[str, Any]:
    """Measure one method in this process: "time" both sides in turns, or the "memory" of one side."""
    import torch

    torch.set_num_threads(1)
    ours, baseline, _, _ = sides_of(method)
    if what == "time":
        seconds: dict[str, list[float]] = {"ours": [], "baseline": []}
        for _ in range(rounds):
            seconds["baseline"].append(statistics.median(run_side(baseline, shape, folder, steps)))
            seconds["ours"].append(statistics.median(run_side(ours, shape, folder, steps)))
        return seconds
    from efface.models.memory import PeakMemory

    with tempfile.TemporaryDirectory() as small:  # libraries and their buffers load on first use; they are not the method's
        write_inputs(QUICK_SHAPE, Path(small))
        run_side(ours if what == "memory" else baseline, QUICK_SHAPE, Path(small), MEMORY_STEPS)
    with PeakMemory() as meter:
        run_side(ours if what == "memory" else baseline, shape, folder, MEMORY_STEPS)
    return {"bytes": meter.bytes - meter.before}


def compare_methods(shape: Shape, methods: Sequence[str], *, rounds: int, steps: int) -> Iterator[Relative]:
    """Measure method after method, each in processes of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(shape, folder)
        plain: dict[Side, dict[str, Any]] = {}  # many methods share a baseline, whose memory is measured once
        for method in methods:
            _, baseline, adapter, rule = sides_of(method)
            found = {what: _start(method, what, shape, folder, rounds, steps) for what in ("time", "memory")}
            if baseline not in plain:
                plain[baseline] = _start(method, "baseline_memory", shape, folder, rounds, steps)
            found["baseline_memory"] = plain[baseline]
            failed = next((record["failed"] for record in found.values() if "failed" in record), "")
            if failed:
                yield Relative(method, adapter, rule, failed=failed)
                continue
            seconds = found["time"]
            yield Relative(
                method,
                adapter,
                rule,
                ours=statistics.median(seconds["ours"]),
                ratio=Ratio.of(seconds["ours"], seconds["baseline"]),
                peak=found["memory"]["bytes"],
                baseline_peak=found["baseline_memory"]["bytes"],
            )


def _start(method: str, what: str, shape: Shape, folder: Path, rounds: int, steps: int) -> dict[str, Any]:
    job = {"method": method, "what": what, "shape": vars(shape), "folder": str(folder), "rounds": rounds, "steps": steps}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "benchmarks.relative", "--child", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else f"exit code {done.returncode}"}
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def relative_table(shape: Shape, found: Sequence[Relative]) -> Table:
    """Put the methods into a table."""
    rows, values = [], []
    for entry in found:
        if entry.ratio is None:
            rows.append([entry.method, entry.adapter, entry.rule, "-", "-", f"{entry.bound:.2f}", "-", f"failed: {entry.failed}"])
            continue
        over = (entry.peak - entry.baseline_peak) / MIB
        rows.append(
            [
                entry.method,
                entry.adapter,
                entry.rule,
                f"{entry.ours * 1e3:.0f}",
                str(entry.ratio),
                f"{entry.bound:.2f}",
                f"{entry.peak / MIB:.0f}",
                f"{over:+.0f}",
            ]
        )
        values.append(
            {
                "method": entry.method,
                "adapter": entry.adapter,
                "rule": entry.rule,
                "ours_seconds": entry.ours,
                "ratio": entry.ratio.as_dict(),
                "peak_bytes": entry.peak,
                "baseline_peak_bytes": entry.baseline_peak,
            }
        )
    model = make_model(shape)
    return Table(
        title=f"Every method's step against plain fine-tuning with the same adapter: {shape.title}",
        words=(
            f"Model: {shape.describe(sum(parameter.numel() for parameter in model.parameters()))}.",
            "Baseline: plain fine-tuning through the same loop on as many sequences per step. Ratio: method / baseline, median of "
            f"rounds taken in turns (lowest-highest); target at most {TARGET} for methods with one policy forward per batch.",
            "Bound: by forward passes. Peak: MiB a process of its own added, and that over plain fine-tuning's.",
        ),
        columns=("method", "adapter", "rule", "ms per step", "ratio", "bound", "peak MiB", "over plain"),
        rows=rows,
        values=values,
    )


def main() -> None:
    """Measure one side in this process and write what it took as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--child", required=True)
    job = json.loads(parser.parse_args().child)
    shape = Shape(**{**job["shape"], "lengths": tuple(job["shape"]["lengths"])})
    print(json.dumps(child(job["method"], job["what"], shape, Path(job["folder"]), job["rounds"], job["steps"])))


if __name__ == "__main__":
    main()
