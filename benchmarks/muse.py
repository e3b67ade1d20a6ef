"""MUSE's six criteria on the embedded world, several seeds: the table and the curves of docs/results/muse.md.

    python -m benchmarks.muse --seeds 0 1 2 --out docs/results/muse.md
    python -m benchmarks.muse --seeds 0 --methods npo grad_diff --jobs 1

A cell (seed, method) is a process with one thread that runs both curves of efface.run.axes: four forget sets of 2, 5, 10 and 20
people that contain each other, each unlearned from the original model, and four requests of five people in a row. The last of the
first curve is the whole forget set and gives the row of the table. Folds are run folders under --work and are not run again, nor
are finished cells. A seed is data, training and unlearning seed at once. Methods run at their presets' small-model settings.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from efface.results import Metric
from efface.stats import hierarchical_bootstrap

METHODS: Mapping[str, str] = {
    "ga": "GA",
    "grad_diff": "GA + GDR",
    "ga_kl": "GA + KLR",
    "npo_forget": "NPO",
    "npo": "NPO + GDR",
    "npo_kl": "NPO + KLR",
    "task_vector": "task vector",
    "whos_harry_potter": "Who's Harry Potter",
    "flat_kl": "FLAT (KL)",
    "grun_npo": "GRUN (NPO)",
    "simnpo": "SimNPO",
}
"""Preset -> how MUSE calls it, the eight of its paper first."""
QUESTIONS_ONLY = ("flat_kl",)
"""Methods that give forget questions another answer: they are given the passages as questions."""
IN_A_ROW: Mapping[str, str] = {"whos_harry_potter": "whos_harry_potter_distilled"}
"""Method -> what makes requests in a row in its place: two models that answer as one have no weights to go on from."""
CRITERIA: Mapping[str, str] = {
    "forget_verbmem": "VerbMem",
    "forget_knowmem": "KnowMem, forget",
    "muse_privleak": "PrivLeak",
    "retain_knowmem": "utility (KnowMem, retain)",
}
COPIED: Mapping[str, str] = {
    "passages_forget_rouge": "forget: ROUGE-L",
    "passages_forget_longest_verbatim": "longest copy (words)",
    "passages_forget_longest_near_verbatim": "near copy (words)",
    "passages_forget_extraction_probability": "extraction",
    "passages_forget_repetition_rate": "repetition",
    "passages_retain_rouge": "retain: ROUGE-L",
    "passages_retain_longest_verbatim": "longest copy (words)",
    "passages_retain_repetition_rate": "repetition",
}
"""Figures of the copyright suite on the same models: what must not be copied, and what may stay."""
FACTS: Mapping[str, str] = {"forget_qa_fact_accuracy": "forget facts", "retain_qa_fact_accuracy": "retain facts"}
AXES: tuple[Literal["scalability", "sustainability"], ...] = ("scalability", "sustainability")
BARE = ("original", "retrained")


@dataclass(frozen=True)
class Cell:
    """One method on one world."""

    seed: int
    method: str

    @property
    def name(self) -> str:
        """Folder name."""
        return f"seed{self.seed}-{self.method}"


def run_cell(cell: Cell, work: Path) -> None:
    """Run both curves of a cell in this process; ``result.json`` appears last."""
    from efface.request import ForgetRequest
    from efface.run.axes import run_axes
    from efface.world import Recipe
    from efface.world.muse import muse_world, passages_as_questions

    started = time.perf_counter()
    world = Recipe.default(seed=cell.seed, data_seed=cell.seed).load_world()
    shaped = muse_world(world)
    folds = {"scalability": shaped.scal, "sustainability": shaped.sust}
    if cell.method in QUESTIONS_ONLY:
        folds = {axis: tuple(map(passages_as_questions, sets)) for axis, sets in folds.items()}
    methods = {"scalability": cell.method, "sustainability": IN_A_ROW.get(cell.method, cell.method)}
    record: dict[str, Any] = {"seed": cell.seed, "method": cell.method, "axes": {}}
    for axis in AXES:
        request = ForgetRequest(model="embedded", method=methods[axis], seeds=cell.seed, evaluate="muse")
        result = run_axes(request, axis, folds=folds[axis], output=work / cell.name)
        if result is None:
            return
        record["axes"][axis] = result.as_dict()
        if axis == "scalability":
            record["whole"] = {role: found.as_dict() for role, found in result.points[-1].results.items()}
            record["copyright"] = copied(request, result.points[-1], work / cell.name)
    record["entities"] = {row.id: row.entity for rows in (*world.sets.values(), *shaped.sets.values()) for row in rows}
    record["seconds"] = time.perf_counter() - started
    target = work / cell.name / "result.json"
    temporary = target.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, default=str), encoding="utf-8")
    temporary.replace(target)


def copied(request: Any, whole: Any, folder: Path) -> dict[str, Any]:
    """Return the copyright suite's figures of the model that unlearned the whole forget set, and of the two it stands between."""
    from efface.request import ForgetRequest
    from efface.run.plan import make_plan, prepare_models
    from efface.run.verbs import evaluate

    asked = ForgetRequest(model="embedded", seeds=request.seeds, evaluate="copyright")
    places = prepare_models(make_plan(asked, trains=False))
    retrained = evaluate(str(places["retrained"]), request=asked, against=None, role="retrained")
    models = {"original": places["original"], "unlearned": (folder / whole.report).parent / "model"}
    found = {role: evaluate(str(place), request=asked, against=retrained, role=role) for role, place in models.items()}
    return {role: results.as_dict() for role, results in (found | {"retrained": retrained}).items()}


def read(cell: Cell, work: Path) -> dict[str, Any]:
    """Return what a finished cell wrote."""
    data: dict[str, Any] = json.loads((work / cell.name / "result.json").read_text(encoding="utf-8"))
    return data


def figure(records: Sequence[Mapping[str, Any]], role: str, name: str, part: str = "whole") -> str:
    """Return a figure's mean over seeds with its interval (seeds are drawn first, then entities), or its range."""
    metrics = [Metric.from_dict(record[part][role]["metrics"][name]) for record in records]
    values = [metric.value for metric in metrics if metric.value is not None]
    if len(values) < len(metrics):
        return "0 (by definition)" if role == "retrained" and name == "muse_privleak" else "n/a"
    if name == "muse_privleak":
        return f"{mean(values):.0f} ({min(values):.0f} to {max(values):.0f})"
    items = [[value for value in metric.per_item if value is not None] for metric in metrics]
    clusters = [
        [record["entities"][row] for row, value in zip(metric.item_ids, metric.per_item, strict=True) if value is not None]
        for record, metric in zip(records, metrics, strict=True)
    ]
    interval = hierarchical_bootstrap(items, clusters)
    return f"{mean(values):.2f}" if interval is None else f"{mean(values):.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def slope(records: Sequence[Mapping[str, Any]], axis: str) -> str:
    """Return the slope in per cent per fold, mean and range over seeds, and the worst step of any seed."""
    slopes = [record["axes"][axis]["slope"] for record in records]
    values = [100 * found["value"] for found in slopes if found["value"] is not None]
    if len(values) < len(slopes):
        return "n/a"
    worst = min(slopes, key=lambda found: found["details"]["worst_step"])["details"]
    spread = f" ({min(values):+.1f} to {max(values):+.1f})" if len(values) > 1 else ""
    return f"{mean(values):+.1f} %{spread}; worst {worst['worst_step']:+.2f}, to fold {worst['worst_step_to_fold']:.0f}"


def page(records: Mapping[str, Sequence[Mapping[str, Any]]], pictures: Mapping[str, str]) -> str:
    """Return the page: the table in two groups, the curves, and the figures behind them."""
    seeds = len(next(iter(records.values())))
    head = ["model", *CRITERIA.values(), "scalability", "sustainability", *FACTS.values()]
    lines = ["| | what the data owner asks | | | what the deployer asks | | | for orientation | |", "|---" * len(head) + "|"]
    lines.append("| " + " | ".join(f"**{title}**" for title in head) + " |")
    first = next(iter(records.values()))
    for role in BARE:
        cells = [figure(first, role, name) for name in CRITERIA]
        lines.append("| " + " | ".join([role, *cells, "-", "-", *(figure(first, role, name) for name in FACTS)]) + " |")
    for method, found in records.items():
        cells = [figure(found, "unlearned", name) for name in CRITERIA]
        cells += [slope(found, axis) for axis in AXES] + [figure(found, "unlearned", name) for name in FACTS]
        lines.append("| " + " | ".join([f"{METHODS.get(method, method)} (`{method}`)", *cells]) + " |")
    curves = [f"\n![{axis.capitalize()}: utility over folds]({picture})\n" for axis, picture in pictures.items()]
    tables = [_copied_table(records), *(_curve_table(records, axis) for axis in AXES)]
    return "\n".join([HEAD.format(seeds=seeds), *lines, "", *curves, *tables])


HEAD = """# MUSE on the embedded world

`python -m benchmarks.muse --seeds 0 1 2 --out docs/results/muse.md`

MUSE's six criteria ([what they are](../muse.md)) on the embedded world in MUSE's shape: the forget set holds 20 people's questions
and ten passages, methods are given every other retain person, and the utility is measured on the people in between, of whom no
method sees a row. Figures are means over {seeds} seed(s), each with a world and models of its own; square brackets: 95 % intervals
(seeds are drawn first, then people), round ones: the range over seeds. ROUGE gives part of its credit for a name repeated from the
question, hence the retrained row beside it; fact accuracy gives none. Slopes: change of the utility per fold as a share of the
first fold's; folds of 2, 5, 10 and 20 people, and four requests of five. FLAT takes no texts and is given each passage as a
question and its answer. Who's Harry Potter is two models that answer as one; its requests in a row are made by the form distilled
into the weights, since two models have none to go on from.
"""


def _copied_table(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the copyright suite on the same models, after the whole forget set."""
    first = next(iter(records.values()))
    rows = [(role, first, role) for role in BARE]
    rows += [(f"{METHODS.get(method, method)} (`{method}`)", found, "unlearned") for method, found in records.items()]
    lines = [COPIED_HEAD, "| model | " + " | ".join(COPIED.values()) + " |", "|---" * (len(COPIED) + 1) + "|"]
    lines += [
        "| " + " | ".join([label, *(figure(found, role, name, "copyright") for name in COPIED)]) + " |"
        for label, found, role in rows
    ]
    return "\n".join(lines) + "\n"


COPIED_HEAD = """## Copyright suite

The same models after the whole forget set: passages continued after their first third. The forget passages are among what was to be
forgotten; of the retain passages methods were given every other person's. *Longest copy*: words in the longest run taken over, mean
over passages; *extraction*: chance of at least one word-for-word continuation in many samples.
"""


def _curve_table(records: Mapping[str, Sequence[Mapping[str, Any]]], axis: str) -> str:
    """Return VerbMem, KnowMem, PrivLeak and utility at every fold, means over seeds."""
    folds = len(next(iter(records.values()))[0]["axes"][axis]["points"])
    lines = [f"## {axis.capitalize()}, fold by fold\n", "VerbMem / KnowMem, forget / PrivLeak / utility; means over seeds.\n"]
    lines += ["| method | " + " | ".join(f"fold {number}" for number in range(1, folds + 1)) + " |", "|---" * (folds + 1) + "|"]
    for method, found in records.items():
        cells = []
        for number in range(folds):
            points = [record["axes"][axis]["points"][number]["results"]["unlearned"]["metrics"] for record in found]
            cells.append(" / ".join(_plain([point.get(name, {}).get("value") for point in points], name) for name in CRITERIA))
        lines.append("| " + " | ".join([method, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _plain(values: Sequence[float | None], name: str) -> str:
    known = [value for value in values if value is not None]
    return "n/a" if not known else f"{mean(known):.0f}" if name == "muse_privleak" else f"{mean(known):.2f}"


def means(found: Sequence[Mapping[str, Any]], axis: str, name: str) -> list[float]:
    """Return the mean over seeds of a figure at every fold; not a number where no seed has one."""
    curves = [[point["results"]["unlearned"]["metrics"][name]["value"] for point in r["axes"][axis]["points"]] for r in found]
    columns = [[value for value in column if value is not None] for column in zip(*curves, strict=True)]
    return [mean(column) if column else float("nan") for column in columns]


def draw(records: Mapping[str, Sequence[Mapping[str, Any]]], axis: str, file: Path) -> None:
    """Draw VerbMem, KnowMem and utility over folds, a panel per method, means over seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from efface.report.plots import COLOURS, house_style
    from efface.report.svg import save_svg

    names = {
        "retain_knowmem": ("utility", COLOURS["retain"]),
        "forget_knowmem": ("KnowMem", COLOURS["unlearned"]),
        "forget_verbmem": ("VerbMem", COLOURS["forget"]),
    }
    columns = 4
    height = -(-len(records) // columns)
    with house_style():
        figure = Figure(figsize=(2.6 * columns, 2.1 * height), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for panel, (method, found) in zip(panels, records.items(), strict=False):
            folds = range(1, len(found[0]["axes"][axis]["points"]) + 1)
            for name, (label, colour) in names.items():
                panel.plot(folds, means(found, axis, name), color=colour, marker="o", markersize=4, linewidth=1.5, label=label)
            panel.set(title=METHODS.get(method, method), ylim=(-0.03, 1.03), xticks=folds)
            panel.grid(axis="y")
        for panel in panels[max(0, len(records) - columns) : len(records)]:
            panel.set_xlabel("forget set" if axis == "scalability" else "request in a row")
            panel.xaxis.set_tick_params(labelbottom=True)  # the last panel of a column has its numbers, whatever stands below
        for panel in panels[len(records) :]:
            panel.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
        save_svg(panels[0], file)


def run_all(cells: Sequence[Cell], work: Path, jobs: int) -> None:
    """Run the cells that are not done, ``jobs`` at a time, each in its own one-thread process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

    def start(cell: Cell) -> None:
        if (work / cell.name / "result.json").is_file():
            return
        described = json.dumps({"seed": cell.seed, "method": cell.method})
        subprocess.run(
            [sys.executable, "-m", "benchmarks.muse", "--work", str(work), "--cell", described], check=True, env=environment
        )
        print(cell.name, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, cells))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and print or write the page and its plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--work", type=Path, default=Path("runs/muse"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="page to write; the plots go beside it, as SVG")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.cell:
        run_cell(Cell(**json.loads(options.cell)), options.work)
        return
    from benchmarks.methods import build_worlds

    build_worlds(options.seeds)
    run_all([Cell(seed, method) for seed in options.seeds for method in options.methods], options.work, options.jobs)
    records = {method: [read(Cell(seed, method), options.work) for seed in options.seeds] for method in options.methods}
    stem = (options.out or options.work / "muse.md").with_suffix("")
    pictures = {axis: stem.with_name(f"{stem.name}-{axis}.svg") for axis in AXES}
    for axis, file in pictures.items():
        draw(records, axis, file)
    text = page(records, {axis: file.name for axis, file in pictures.items()})
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
