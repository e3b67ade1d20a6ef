"""Methods for ordinary nets on real data, several seeds: docs/results/nets.md and its pictures.

    python -m benchmarks.nets --data DIR --out docs/results/nets.md
    python -m benchmarks.nets --data DIR --quick --seeds 0 --parts fashion others --out nets.md

A seed decides the weights and the order of the original, the retrained models and the method; data and what must go are the same
for all seeds. Each (problem, seed) is one process with one thread: it trains the original and two retrained models, runs every
method on a copy of the original and measures it, light attacks included. What is done is kept under --work and not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.net_cells import PARTS, Cell, cells_of
from benchmarks.net_page import write_page

if TYPE_CHECKING:
    from torch.nn import Module

    from efface.data.problem import Problem
    from efface.train.unlearn_net import NetOutcome

ROLES = ("original", "retrained", "retrained_2")
_SEEDS_APART = 100  # the second retrained model of a seed is no other seed's first


def folder_of(work: Path, problem: str, seed: int) -> Path:
    """Return where a problem's results of one seed are kept."""
    return work / problem.replace("/", "-") / f"seed{seed}"


def run_group(problem_name: str, parts: Sequence[str], seed: int, data: Path, work: Path, *, quick: bool) -> None:
    """Do what is not done of one problem and seed, in this process."""
    from benchmarks.net_problems import load_problem

    folder = folder_of(work, problem_name, seed)
    cells = {cell.name: cell for part in parts for cell in cells_of(part, problem_name)}
    missing = [cell for name, cell in cells.items() if not (folder / f"{name}.json").is_file()]
    if not missing and (folder / "base.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    problem = load_problem(problem_name, data, quick=quick)
    bench = Bench(problem, seed, folder)
    bench.measure()
    for cell in missing:
        bench.run(cell)
        print(f"{problem_name} seed {seed}: {cell.label}", flush=True)


class Bench:
    """The models that every method of one problem and seed is held against."""

    def __init__(self, problem: Problem, seed: int, folder: Path) -> None:
        from efface.evals.nets import NetSets, untrained_of
        from efface.models.net_losses import NetLoss

        self.problem, self.seed, self.folder = problem, seed, folder
        self.sets = NetSets.of(problem)
        self.loss = NetLoss(problem.loss, task=problem.task, quantiles=problem.quantiles)
        self.untrained = untrained_of(problem, seed + 7 * _SEEDS_APART)
        self.cache: dict[str, Any] = {}
        seconds = {}
        self.nets: dict[str, Module] = {}
        for index, role in enumerate(ROLES):
            self.nets[role], seconds[role] = self._trained(role, seed + index * _SEEDS_APART)
        self.seconds = seconds

    def measure(self) -> None:
        """Measure the original and the retrained models and save what was found."""
        found = {role: _plain(result) for role, result in self._measured(self.nets).items()}
        _save(self.folder / "base.json", {"seconds": self.seconds, "results": found})

    def unlearn(self, cell: Cell) -> NetOutcome:
        """Run one method on a copy of the original.

        Raises:
            TrainingStopped: When its loss is not finite any more.
        """
        import numpy as np

        from efface.data.net_sets import Part
        from efface.registry import NETS
        from efface.train.unlearn_net import NetJob, run_net_job

        retain = self.sets.rows["retain"]
        if cell.labelled < 1:
            order = np.random.default_rng(self.seed).permutation(len(retain))
            retain = Part(retain, np.sort(order[: max(1, round(cell.labelled * len(retain)))]))
        job = NetJob(
            net=self.nets["original"],
            method=NETS.get(cell.method)(**cell.settings),
            forget=self.sets.rows["forget"],
            retain=retain,
            task=self.problem.task,
            loss=self.loss,
            num_classes=self.problem.num_classes,
            make_model=self.problem.make_model,
            recipe=self.problem.training,
            head=self.problem.head,
            activations=self.problem.activations,
            seed=self.seed,
        )
        return run_net_job(job)

    def run(self, cell: Cell) -> None:
        """Run one method, measure what it made and save what was found."""
        from efface.errors import TrainingStopped

        record: dict[str, Any] = {"label": cell.label, "method": cell.method, "settings": dict(cell.settings)}
        try:
            made = self.unlearn(cell)
        except TrainingStopped as stopped:
            _save(self.folder / f"{cell.name}.json", {**record, "failed": str(stopped)})
            return
        results = self._measured({"retrained": self.nets["retrained"], "unlearned": made.net})["unlearned"]
        record |= {
            "seconds": made.cost.seconds,
            "seconds_retraining": self.seconds["retrained"],
            "steps": made.cost.steps,
            "stopped": made.stopped,
            "notes": list(made.notes),
            "results": _plain(results),
        }
        _save(self.folder / f"{cell.name}.json", record)

    def _trained(self, role: str, seed: int) -> tuple[Module, float]:
        """Train a model by the recipe, or load it where an earlier start has; returns it and the seconds training took."""
        import torch

        from efface.models.seeding import seeded
        from efface.train.net_recipe import train_recipe

        path, net = self.folder / f"{role}.pt", self.problem.make_model(seed)
        if path.is_file():
            kept = torch.load(path, weights_only=True)
            net.load_state_dict(kept["weights"])
            return net.eval(), float(kept["seconds"])
        rows = self.problem.train if role == "original" else self.sets.rows["retain"]
        started = time.perf_counter()
        recipe = self.problem.training
        if recipe is None:
            raise ValueError(f"the problem {self.problem.name} has no training recipe")
        with seeded(seed):
            train_recipe(net, rows, recipe, self.loss, seed=seed)
        seconds = time.perf_counter() - started
        torch.save({"weights": net.state_dict(), "seconds": seconds}, path)
        return net.eval(), seconds

    def _measured(self, nets: dict[str, Module]) -> dict[str, Any]:
        from efface.evals.nets import evaluate_nets
        from efface.models.predictor import NetPredictor

        models = {role: NetPredictor(net, head=self.problem.head) for role, net in nets.items()}
        return evaluate_nets(models, self.sets, untrained=self.untrained, attacks="light", cache=self.cache)


def _plain(results: Any) -> dict[str, Any]:
    found: dict[str, Any] = results.as_dict(per_item=False)
    return found


def _save(path: Path, record: dict[str, Any]) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, default=str), encoding="utf-8")
    temporary.replace(path)


def run_all(
    parts: Sequence[str], problems: Sequence[str] | None, seeds: Sequence[int], data: Path, work: Path, *, jobs: int, quick: bool
) -> None:
    """Run every (problem, seed), ``jobs`` at a time, each in a process of its own with one thread; seed after seed.

    Raises:
        ValueError: When a problem belongs to none of the parts.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    wanted = {problem: [part for part in parts if problem in PARTS[part]] for part in parts for problem in PARTS[part]}
    unknown = sorted(set(problems or ()) - set(wanted))
    if unknown:
        raise ValueError(f"No problem {', '.join(unknown)} here. Known: {', '.join(wanted)}. Choose among these.")
    wanted = {problem: own for problem, own in wanted.items() if problems is None or problem in problems}

    def start(task: tuple[str, int]) -> None:
        problem, seed = task
        described = json.dumps({"problem": problem, "parts": wanted[problem], "seed": seed})
        command = [sys.executable, "-m", "benchmarks.nets", "--data", str(data), "--work", str(work), "--group", described]
        subprocess.run([*command, *(["--quick"] if quick else [])], check=True, env=environment)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, [(problem, seed) for seed in seeds for problem in wanted]))


def main() -> None:
    """Run what is asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets; see benchmarks/net_problems.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=sorted(PARTS))
    parser.add_argument("--problems", nargs="+", help="only these of the parts' problems, such as abalone or iau/digits/mlp/gr")
    parser.add_argument("--work", type=Path, default=Path("runs/nets"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="few rows and two epochs: whether it runs, not how well")
    parser.add_argument("--out", type=Path, default=Path("docs/results/nets.md"))
    parser.add_argument("--group", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.group:
        group = json.loads(arguments.group)
        run_group(group["problem"], group["parts"], group["seed"], arguments.data, arguments.work, quick=arguments.quick)
        return
    work = arguments.work / "quick" if arguments.quick else arguments.work
    run_all(arguments.parts, arguments.problems, arguments.seeds, arguments.data, work, jobs=arguments.jobs, quick=arguments.quick)
    write_page(arguments.parts, arguments.seeds, work, arguments.out)


if __name__ == "__main__":
    main()
