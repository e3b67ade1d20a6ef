"""Is a tenth of the forget set enough? NPO trained on a part of the forget rows, evaluated on all: docs/results/subset.md.

    python -m benchmarks.subset --seeds 0 1 2 --out docs/results/subset.md
    python -m benchmarks.subset --seeds 0 --shares 0.1 --by random --jobs 1

A part is the rows with the most influence, the largest gradients, or some drawn at random (train/subset.py). Every model takes the
same number of optimiser steps: a smaller part is seen more often. What differs is which rows are learnt from, never for how long.
Finished models are kept under --work and not made again; the row for the whole set is the preset itself.

Every fact stands in two forget rows of different wording. The second table counts how many facts a part holds at least one row of:
facts of the embedded world do not imply each other, so that a part can be judged by what it leaves out.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.methods import BARE, Task, build_worlds, made_before, read, run_all, table
from efface.data.schema import Row
from efface.methods.presets import PRESETS

BY = ("influence", "grad_norm", "random")
SHARES = (0.1, 0.25, 0.5)
COLUMNS = {
    "forget facts": "forget_fact_accuracy",
    "unseen frames, forget": "unseen_frames_forget_fact_accuracy",
    "retain facts": "retain_fact_accuracy",
    "unseen frames, retain": "unseen_frames_retain_fact_accuracy",
    "world facts": "world_facts_fact_accuracy",
    "forget truth ratio": "forget_truth_ratio",
    "forget quality (log10 p)": "forget_quality",
}
HEAD = """# A part of the forget set

`{method}` on the embedded world, trained on a part of the forget rows and evaluated on all, {seeds} seed(s). Means over seeds
with a 95 % interval over seeds and people. Every model takes as many optimiser steps as the one on all rows. Made by
`python -m benchmarks.subset`.

"""
COVERED = """
What the parts hold, means over seeds: people and facts with at least one row in the part, and the share of facts that the model
still tells among those the part holds and among the others.

"""
FACTS = "forget_fact_accuracy"


def tasks_of(method: str, by: Sequence[str], shares: Sequence[float], seeds: Sequence[int]) -> dict[str, list[Task]]:
    """Return label -> one task per seed: the whole set first, then every part."""
    epochs = PRESETS[method].scaled.training.epochs
    groups = {f"{method}, all rows": [Task(seed, method) for seed in seeds]}
    for share in sorted(shares, reverse=True):
        for way in by:
            settings = {
                "unlearning.forget_subset": f"{{by: {way}, share: {share}}}",
                "unlearning.epochs": epochs / share,
            }
            groups[f"{share:g} by {way}"] = [Task(seed, method, settings) for seed in seeds]
    return groups


def held(rows: Iterable[Row]) -> set[tuple[str | None, str | None]]:
    """Return the facts that the rows hold: whose, and which."""
    return {(row.entity, row.attribute) for row in rows}


def answers(record: Mapping[str, Any]) -> dict[str, float]:
    """Return row id -> whether the measured model tells the forget row's fact, 0 or 1."""
    metric = record["results"]["metrics"][FACTS]
    return dict(zip(metric["item_ids"], metric["per_item"], strict=True))


def parts_of(seed: int, by: Sequence[str], shares: Sequence[float], work: Path) -> tuple[list[Row], dict[str, list[Row]]]:
    """Return all forget rows, and label -> those of the part, chosen as a run with this seed chooses them."""
    from efface.data.encoding import encode_row
    from efface.request import ForgetSubset
    from efface.train.subset import select_rows

    model, data = made_before(Task(seed, "original"), work)
    rows = list(data.sets["forget"])
    encoded = [encode_row(model.tokenizer, model.template, row) for row in rows]
    weights = model.model.requires_grad_(True)
    found = {}
    for share, way in itertools.product(shares, by):
        subset = ForgetSubset.model_validate({"by": way, "share": share})
        taken = select_rows(weights, encoded, subset, seed=seed, pad_id=model.tokenizer.pad_token_id or 0)
        found[f"{share:g} by {way}"] = [rows[i] for i in taken]
    return rows, found


def coverage(
    parts: Mapping[str, Sequence[Row]], rows: Sequence[Row], told: Mapping[str, Mapping[str, float]]
) -> dict[str, list[float]]:
    """Return label -> the four figures of :func:`coverage_table`, for one seed.

    Args:
        parts: Label -> rows of the part.
        rows: All forget rows.
        told: Label -> row id -> whether the model that was trained on this part tells the row's fact, 0 or 1.
    """
    facts, people = held(rows), {row.entity for row in rows}
    found = {}
    for label, part in parts.items():
        inside = held(part)
        marked = [((row.entity, row.attribute) in inside, told[label][row.id]) for row in rows]
        found[label] = [
            len({row.entity for row in part}) / len(people),
            len(inside) / len(facts),
            *(_mean([value for is_inside, value in marked if is_inside is side]) for side in (True, False)),
        ]
    return found


def _mean(values: Sequence[float]) -> float:
    return mean(values) if values else float("nan")


def coverage_table(found: Sequence[Mapping[str, Sequence[float]]]) -> str:
    """Return a row per part: people and facts it holds a row of, and the share of facts told among those held and not held.

    Args:
        found: What :func:`coverage` returned, one per seed; figures are means over seeds.
    """
    head = ("part", "people held", "facts held", "told, of the facts held", "told, of the facts not held")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for label in found[0]:
        values = (mean(column) for column in zip(*(one[label] for one in found), strict=True))
        lines.append(f"| {label} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--method", default="npo", choices=sorted(PRESETS))
    parser.add_argument("--by", nargs="+", default=list(BY), choices=BY)
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--work", type=Path, default=Path("runs/methods"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    groups = tasks_of(options.method, options.by, options.shares, options.seeds)
    build_worlds(options.seeds)
    bare = {role: [Task(seed, role) for seed in options.seeds] for role in BARE}
    made = [task for tasks in groups.values() for task in tasks]
    for wave in (bare["retrained"], bare["original"], made):
        run_all(wave, options.work, options.jobs)
    records = ((label, [read(task, options.work) for task in tasks]) for label, tasks in (bare | groups).items())
    page = HEAD.format(method=options.method, seeds=len(options.seeds)) + table(records, COLUMNS) + "\n"
    found = []
    for index, seed in enumerate(options.seeds):
        rows, parts = parts_of(seed, options.by, sorted(options.shares, reverse=True), options.work)
        told = {label: answers(read(groups[label][index], options.work)) for label in parts}
        found.append(coverage(parts, rows, told))
    page += COVERED + coverage_table(found) + "\n"
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
