"""Every preset on the embedded world, several seeds: the tables of docs/results/methods.md.

    python -m benchmarks.methods --seeds 0 1 2 --out docs/results/methods.md
    python -m benchmarks.methods --methods npo npo+lora grun_npo --bits 8 4 --out docs/results/grun.md
    python -m benchmarks.methods --grid rmu --seeds 0 --out docs/results/rmu-grid.md

Each (seed, method, settings) is one task in a process of its own with one thread, so that peak memory is the method's; finished
tasks are kept under --work and not run again. `METHOD+lora` is a method with another adapter, at the settings in WITH_ADAPTER. A
seed is data, training and unlearning seed at once, so that each seed has a world, an original and a retrained model of its own.
Original and retrained models are measured once per seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from efface.data.cache import cache_root
from efface.methods.presets import PRESETS
from efface.results import Results
from efface.stats import hierarchical_bootstrap

BARE = ("original", "retrained")
ANSWER_TOKENS = 40
GATES = ("trained wording", "unseen frames", "neighbours")
WITH_ADAPTER: Mapping[str, Mapping[str, Any]] = {
    "npo+lora": {"unlearning.learning_rate": 3e-3},
    "grad_diff+lora": {"unlearning.learning_rate": 3e-3, "forget_weight": 0.2},
    "idk+lora": {"unlearning.learning_rate": 1e-3},
    "rmu+lora": {"unlearning.learning_rate": 3e-3, "method.trained": "all"},
}
"""Settings of methods under another adapter than their preset's: two or three learning rates tried on the tuning world (seed 3)."""
COLUMNS = {
    "forget facts": "forget_fact_accuracy",
    "unseen frames, forget": "unseen_frames_forget_fact_accuracy",
    "retain facts": "retain_fact_accuracy",
    "unseen frames, retain": "unseen_frames_retain_fact_accuracy",
    "holdout facts": "holdout_fact_accuracy",
    "world facts": "world_facts_fact_accuracy",
    "forget truth ratio": "forget_truth_ratio",
    "forget quality (log10 p)": "forget_quality",
    "utility": "world_utility",
    "refusals on retain": "retain_refusal_rate",
    "refusals on forget": "forget_refusal_rate",
}

SETS = ("world_facts", "unseen_frames_forget", "unseen_frames_retain")
"""Sets beside forget, retain and holdout that the table shows; the world's others are left out to save time."""


@dataclass(frozen=True)
class Task:
    """One model to make and measure.

    Attributes:
        seed: Data, training and unlearning seed.
        method: "original", "retrained", a method, or ``METHOD+ADAPTER``.
        settings: What is set on top of the method's defaults.
        bits: Precisions in which the made model's facts are asked once more.
    """

    seed: int
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    bits: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Folder name; equal tasks share it."""
        extra = "".join(f"-{key}={value}" for key, value in sorted(self.settings.items()))
        extra += "".join(f"-{count}bit" for count in self.bits)
        return f"seed{self.seed}-{self.method}{extra}".replace("/", "_").replace(" ", "")


def run_task(task: Task, work: Path) -> None:
    """Make and measure one model in this process; ``result.json`` appears last.

    A model that was made before without rounding is not made again.
    """
    plain = replace(task, bits=())
    if not (work / plain.name / "result.json").is_file():
        make_and_measure(plain, work)
    if task.bits:
        record = read(plain, work)
        model, data = made_before(plain, work)
        record["bits"] = {bits: facts_at(model, bits, data) for bits in task.bits}
        record["gates"] = gate_aucs(model, data)
        save(record, work / task.name)


def make_and_measure(task: Task, work: Path) -> None:
    """Make one model, measure it on every set of the table, and save what was found."""
    from efface.models.language_model import load_language_model
    from efface.request import ForgetRequest
    from efface.run.evaluation import measure_suites, side_by_side
    from efface.run.plan import make_plan, prepare_models
    from efface.run.verbs import unlearn

    folder = work / task.name
    method, _, adapter = task.method.partition("+")
    settings = {**WITH_ADAPTER.get(task.method, {}), **({"adapter": adapter} if adapter else {}), **task.settings}
    tree = {"model": "embedded", "seeds": task.seed}
    if task.method not in BARE:
        tree["method"] = method
    request = ForgetRequest.from_tree(tree, [f"{key}={value}" for key, value in settings.items()])
    plan = make_plan(request, trains=task.method not in BARE)
    data = replace(plan.data, extra={name: plan.data.extra[name] for name in SETS})
    record: dict[str, Any] = {"task": {"seed": task.seed, "method": task.method, "settings": settings}}
    against = {}
    if task.method != "retrained":
        reference = read(replace(task, method="retrained", settings={}), work)
        against = {reference["results"]["suite"]: Results.from_dict(reference["results"])}
    path = prepare_models(plan).get(task.method)
    if path is None:
        made = unlearn(request=request, output=folder / "model")
        path = made.path
        record |= {
            "seconds": made.cost.seconds,
            "trained_parameters": made.cost.trained_parameters,
            "peak_memory_bytes": made.cost.peak_memory_bytes,
            "steps": made.cost.steps,
            "stopped": made.stopped,
            "notes": list(made.notes),
            "history": [{"step": point.step, **point.values} for point in made.history],
        }
    cache = cache_root() / "rows" if task.method in BARE else None
    model = load_language_model(path)
    measured = measure_suites(model, request, data, role=task.method, against=against, cache=cache)
    record["results"] = side_by_side(measured).as_dict()
    record["entities"] = {name: {row.id: row.entity for row in rows} for name, rows in data.sets.items()}
    save(record, folder)


def save(record: Mapping[str, Any], folder: Path) -> None:
    """Write ``result.json``; it appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "result.json.tmp"
    temporary.write_text(json.dumps(record, default=str), encoding="utf-8")
    temporary.replace(folder / "result.json")


def made_before(task: Task, work: Path) -> tuple[Any, Any]:
    """Return a finished task's model and its world's sets."""
    from efface.models.language_model import load_language_model
    from efface.request import ForgetRequest
    from efface.run.plan import make_plan, prepare_models

    plan = make_plan(ForgetRequest.from_tree({"model": "embedded", "seeds": task.seed}), trains=False)
    path = prepare_models(plan).get(task.method, work / task.name / "model")
    return load_language_model(path), plan.data


def gate_aucs(model: Any, data: Any) -> dict[str, float]:
    """Return how well the gates tell forget questions from others, AUC in [0, 1]; empty for a model without gates.

    Neighbours are questions in trained wordings about people that neither set holds: what a gate says of them was never trained.
    """
    from efface.adapters.edited_model import edited_model
    from efface.adapters.gate_scores import gate_scores
    from efface.stats import auc

    edited = edited_model(model.model)
    if edited is None or all(settings.gate == "none" for settings in edited.modules_by_name.values()):
        return {}
    pairs = {
        "trained wording": ("forget", "retain"),
        "unseen frames": ("unseen_frames_forget", "unseen_frames_retain"),
        "neighbours": ("forget", "holdout"),
    }
    scores = {
        name: gate_scores(model, [row.question or "" for row in data.sets[name]]).mean()
        for name in {name for pair in pairs.values() for name in pair}
    }
    return {title: auc(negatives=scores[others], positives=scores[forget]) for title, (forget, others) in pairs.items()}


def facts_at(model: Any, bits: int, data: Any) -> dict[str, float]:
    """Return fact accuracy per set of the model with its base weights rounded to ``bits`` bits."""
    from efface.attacks.quantize import quantize
    from efface.data.items import GenerateItem
    from efface.evals.measure import measure
    from efface.text import fact_match

    attacked = quantize(model, bits)
    figures = {}
    for name in ("forget", "unseen_frames_forget", "retain"):
        rows = data.sets[name]
        items = [GenerateItem(row_id=row.id, question=row.question or "", max_new_tokens=ANSWER_TOKENS) for row in rows]
        measured = measure(attacked, [], items)
        figures[name] = mean(fact_match(measured.text(item), row.value or "") for item, row in zip(items, rows, strict=True))
    return figures


def run_all(tasks: Sequence[Task], work: Path, jobs: int) -> None:
    """Run the tasks that are not done, ``jobs`` at a time, each in its own one-thread process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

    def start(task: Task) -> None:
        if (work / task.name / "result.json").is_file():
            return
        described = json.dumps({"seed": task.seed, "method": task.method, "settings": dict(task.settings), "bits": task.bits})
        command = [sys.executable, "-m", "benchmarks.methods", "--work", str(work), "--task", described]
        subprocess.run(command, check=True, env=environment)
        print(task.name, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, tasks))


def read(task: Task, work: Path) -> dict[str, Any]:
    """Return what a finished task wrote."""
    data: dict[str, Any] = json.loads((work / task.name / "result.json").read_text(encoding="utf-8"))
    return data


def cell(records: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Return a figure's mean over seeds with its interval: seeds are drawn first, then people."""
    found = [record["results"]["metrics"].get(metric) for record in records]
    values = [m["value"] for m in found if m is not None and m["value"] is not None]
    if len(values) < len(records):
        return "n/a"
    if metric == "forget_quality":
        logs = [float(m["details"]["log10_p"]) for m in found if m is not None]
        return f"{mean(logs):.1f} ({min(logs):.1f} to {max(logs):.1f})"
    items = [[v for v in m["per_item"] if v is not None] for m in found if m is not None]
    if not all(items):
        return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
    clusters = [
        [
            record["entities"][set_of(metric, record)][row]
            for row, v in zip(m["item_ids"], m["per_item"], strict=True)
            if v is not None
        ]
        for record, m in zip(records, found, strict=True)
        if m is not None
    ]
    interval = hierarchical_bootstrap(items, clusters)
    return f"{mean(values):.2f}" if interval is None else f"{mean(values):.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def set_of(metric: str, record: Mapping[str, Any]) -> str:
    """Return the longest set name that a metric's name starts with."""
    names: Iterable[str] = record["entities"]
    return max((name for name in names if metric.startswith(name + "_")), key=len)


def table(rows: Iterable[tuple[str, Sequence[Mapping[str, Any]]]], columns: Mapping[str, str], bits: Sequence[int] = ()) -> str:
    """Return a Markdown table, a line per model."""
    rounded = [f"{what}, {count} bit" for count in bits for what in ("forget", "unseen frames, forget", "retain")]
    gates = [f"gate AUC, {what}" for what in GATES] if bits else []
    head = ["model", *columns, *rounded, *gates, "seconds", "trained parameters", "peak MiB"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for label, records in rows:
        cells = [label, *(cell(records, metric) for metric in columns.values())]
        for count in bits:
            for name in ("forget", "unseen_frames_forget", "retain"):
                found = [record["bits"][str(count)][name] for record in records]
                cells.append(f"{mean(found):.2f} ({min(found):.2f} to {max(found):.2f})")
        for what in GATES if bits else ():
            aucs = [record["gates"][what] for record in records if what in record["gates"]]
            cells.append(f"{mean(aucs):.2f} ({min(aucs):.2f} to {max(aucs):.2f})" if len(aucs) == len(records) else "-")
        cells += cost(records)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cost(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return seconds, trained parameters and peak memory, means over seeds; dashes for models that no method made."""
    if not all("seconds" in record for record in records):
        return ["-", "-", "-"]
    seconds = mean(record["seconds"] for record in records)
    trained = records[0].get("trained_parameters")
    peaks = [peak for record in records if (peak := record.get("peak_memory_bytes"))]
    memory = f"{mean(peaks) / 2**20:.0f}" if len(peaks) == len(records) else "-"
    return [f"{seconds:.0f}", "-" if trained is None else f"{trained:,}", memory]


def main() -> None:
    """Run what is asked for and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(PRESETS))
    parser.add_argument("--bits", type=int, nargs="+", default=[], help="also ask the facts with weights rounded to so many bits")
    parser.add_argument("--grid", nargs="+", default=[], choices=sorted(GRIDS), help="methods to try over a grid of settings")
    parser.add_argument("--work", type=Path, default=Path("runs/methods"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        run_task(Task(**json.loads(arguments.task)), arguments.work)
        return
    groups = plan_tasks(arguments)
    bare = [Task(seed, role, bits=tuple(arguments.bits)) for seed in arguments.seeds for role in reversed(BARE)]
    build_worlds(arguments.seeds)
    run_all([task for task in bare if task.method == "retrained"], arguments.work, arguments.jobs)
    run_all([task for task in bare if task.method == "original"], arguments.work, arguments.jobs)
    run_all([task for tasks in groups.values() for task in tasks], arguments.work, arguments.jobs)
    labelled = {role: [task for task in bare if task.method == role] for role in BARE} | groups
    rows = ((label, [read(task, arguments.work) for task in tasks]) for label, tasks in labelled.items())
    text = table(rows, COLUMNS, arguments.bits)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def plan_tasks(arguments: argparse.Namespace) -> dict[str, list[Task]]:
    """Return label -> one task per seed."""
    seeds, bits = arguments.seeds, tuple(arguments.bits)
    if arguments.grid:
        groups = {}
        for method in arguments.grid:
            for settings in GRIDS[method]:
                label = f"{method} " + ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in settings.items())
                groups[label] = [Task(s, method, settings, bits) for s in seeds]
        return groups
    return {method: [Task(s, method, bits=bits) for s in seeds] for method in arguments.methods}


def product(**axes: Sequence[Any]) -> list[dict[str, Any]]:
    """Return every combination of the axes; ``__`` in a name stands for a dot."""
    names = [name.replace("__", ".") for name in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*axes.values())]


GRIDS: Mapping[str, list[dict[str, Any]]] = {
    "rmu": product(
        method__layer=(1, 2),
        method__steering_coefficient=(10, 20),
        unlearning__learning_rate=(1e-3, 3e-3),
        retention__weight=(10, 30),
    ),
    "task_vector": product(method__scale=(1, 2, 5), unlearning__learning_rate=(2e-4, 5e-4), unlearning__epochs=(5, 10)),
    "whos_harry_potter": product(method__alpha=(1, 2, 5), unlearning__learning_rate=(5e-4, 1e-3), unlearning__epochs=(5, 10)),
    "whos_harry_potter_distilled": product(
        method__alpha=(5, 20), method__target=("argmax", "softmax"), method__reinforce_epochs=(5, 10)
    ),
}


def build_worlds(seeds: Sequence[int]) -> None:
    """Build every seed's models first, so that tasks only load them."""
    from efface.world import Recipe, build_models

    for seed in seeds:
        build_models(Recipe.default(seed=seed, data_seed=seed))


if __name__ == "__main__":
    main()
