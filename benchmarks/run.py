"""Run all benchmarks in one go and print plain tables: ``python benchmarks/run.py`` (``make bench``).

``--quick`` takes smaller shapes and fewer rounds, ``--only`` some of the parts, ``--json FILE`` writes the figures too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.tables import Table

__all__ = ["PARTS", "main"]


def steps(is_quick: bool) -> Iterator[Table]:
    """Seconds per optimiser step on two shapes."""
    from benchmarks.shapes import SHAPES
    from benchmarks.steps import COMPARED, compare_steps, step_table

    plan = {"tiny": (2, 2), "vocab_32k": (1, 1)} if is_quick else {"tiny": (9, 4), "vocab_32k": (5, 1)}
    for name, (rounds, block) in plan.items():
        shape = SHAPES[name]
        yield step_table(shape, [compare_steps(shape, method, rounds=rounds, block=block) for method in COMPARED])


def evaluation(is_quick: bool) -> Iterator[Table]:
    """The metrics of one pass against each alone."""
    from benchmarks.evaluation import compare_evaluation, embedded_sides, evaluation_table, tofu_length_sides
    from efface.world import Recipe

    recipe = Recipe.mini() if is_quick else Recipe.default()
    sides = embedded_sides(recipe, is_trained=not is_quick, limit=12 if is_quick else 60, max_new_tokens=16 if is_quick else 200)
    model = "random weights" if is_quick else "the original of efface demo (built on first use)"
    compared = compare_evaluation(sides, rounds=1 if is_quick else 5)
    yield evaluation_table("rows of the embedded world", f"Model: {model}; answers of a dozen tokens.", sides, compared)
    sides = tofu_length_sides(recipe, rows=8 if is_quick else 24)
    words = f"Model: random weights; every text runs to {sides.max_new_tokens} tokens."
    yield evaluation_table("rows as long as TOFU's", words, sides, compare_evaluation(sides, rounds=1 if is_quick else 3))


def choices(is_quick: bool) -> Iterator[Table]:
    """Multiple choice with shared prompts against each choice alone."""
    from benchmarks.choices import FORMS, choices_table, compare_choices

    count, rounds = (8, 1) if is_quick else (64, 3)
    found = [compare_choices(form, count=count, rounds=rounds) for form in FORMS]
    yield choices_table(found, "Model: the embedded world's shape, random weights; questions as long as WMDP's.")


def generation(is_quick: bool) -> Iterator[Table]:
    """Texts of mixed lengths against unsorted static batches."""
    from benchmarks.generation import compare_generation, generation_table, mixed_items, world_model
    from efface.world import Recipe

    recipe = Recipe.mini() if is_quick else Recipe.default()
    items = mixed_items(recipe, limit=24 if is_quick else 256, max_new_tokens=12 if is_quick else 128)
    model = world_model(recipe, is_trained=not is_quick)
    compared = compare_generation(model, items, rounds=1 if is_quick else 3, rows_per_batch=8 if is_quick else 64)
    yield generation_table("every set of the embedded world", items, compared)


def job(is_quick: bool) -> Iterator[Table]:
    """The whole job from one command against the same stages as programs of their own."""
    from benchmarks.job import compare_job, job_table
    from efface.world import Recipe

    steps = 2 if is_quick else 40
    recipe = Recipe.mini() if is_quick else Recipe.default()
    yield job_table(compare_job(recipe, rounds=1 if is_quick else 3, max_steps=steps), max_steps=steps)


def memory(is_quick: bool) -> Iterator[Table]:
    """Peak memory with and without a second model."""
    from benchmarks.memory import MEMORY_SHAPE, QUICK_MEMORY_SHAPE, run_memory

    yield run_memory(QUICK_MEMORY_SHAPE if is_quick else MEMORY_SHAPE)


def methods(is_quick: bool) -> Iterator[Table]:
    """Every method's step and memory against plain fine-tuning."""
    from benchmarks.relative import QUICK_SHAPE, RELATIVE_SHAPE, compare_methods, relative_table
    from efface.methods.presets import PRESETS

    shape = QUICK_SHAPE if is_quick else RELATIVE_SHAPE
    names = ["npo", "rmu"] if is_quick else list(PRESETS)
    yield relative_table(shape, list(compare_methods(shape, names, rounds=1 if is_quick else 3, steps=3 if is_quick else 6)))


def nets(is_quick: bool) -> Iterator[Table]:
    """Ordinary nets: the loop, methods beside retraining, batched gradients, IAU beside exact influence, memory."""
    from benchmarks.net_influence import influence_table
    from benchmarks.net_memory import NET_MEMORY, QUICK_NET_MEMORY, net_memory_table
    from benchmarks.net_speed import net_speed

    yield from net_speed(is_quick)
    yield influence_table(rounds=1 if is_quick else 5, is_quick=is_quick)
    yield net_memory_table(QUICK_NET_MEMORY if is_quick else NET_MEMORY)


PARTS: dict[str, Callable[[bool], Iterator[Table]]] = {
    "steps": steps,
    "evaluation": evaluation,
    "choices": choices,
    "generation": generation,
    "job": job,
    "memory": memory,
    "methods": methods,
    "nets": nets,
}


def main(arguments: Sequence[str] | None = None) -> list[Table]:
    """Run the parts that are asked for, print their tables as they come, and return them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller shapes and fewer rounds: whether it runs, not how fast")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS), help="parts to run")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--json", type=Path, default=None, help="file to write the figures to")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    tables: list[Table] = []
    from efface.train.language_model import cpu_threads

    with cpu_threads(options.threads):
        machine = _machine(options.threads)
        print(f"{machine}.\nSingle times depend on who else uses the machine; the two sides of a ratio are timed in turns.\n")
        for name in options.only:
            for table in PARTS[name](options.quick):
                print(table.text(), end="\n\n", flush=True)
                tables.append(table)
    print(f"{time.perf_counter() - started:.0f} s in all.")
    if options.json is not None:
        record = {"machine": machine, "quick": options.quick, "tables": [table.as_dict() for table in tables]}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return tables


def _machine(threads: int) -> str:
    import torch
    import transformers

    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{os.cpu_count()} cores ({platform.machine()}), {threads} thread(s), load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script: the folder above is not on the path
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
