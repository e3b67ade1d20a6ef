"""Forgetting against keeping, setting by setting: FLAT beside gradient ascent, and where gradient ascent collapses.

    python -m benchmarks.tradeoff flat --out docs/results/flat-against-ga.md
    python -m benchmarks.tradeoff collapse --out docs/results/collapse.md

World, validation people and measuring are those of `benchmarks.tuning`. Neither method is given a retain row. `flat` runs
gradient ascent and FLAT's four divergences over the same 12 settings of learning rate and epochs and asks, at equal forget
accuracy, what is left of the rest; `collapse` runs gradient ascent at 0.1 to 30 times its preset rate with the stop rule off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tuning import Setting, prepare_world, run_all

METHODS = ("ga", "flat_kl", "flat_tv", "flat_js", "flat_pearson")
RATES = (2e-5, 4e-5, 8e-5, 1.6e-4)
EPOCHS = (2, 4, 8)
LEVELS = (0.75, 0.5, 0.35, 0.2)
"""Forget accuracies at which what is kept is compared."""
FACTORS = (0.1, 0.3, 1, 3, 10, 30)


@dataclass(frozen=True)
class Point:
    """What one setting left, all accuracies in [0, 1].

    Attributes:
        setting: Method and overrides.
        forget: Fact accuracy on the forget people.
        kept: Fact accuracy on people whose rows no method was given.
        world: Fact accuracy on world facts.
        stopped: Why training ended.
    """

    setting: Setting
    forget: float
    kept: float
    world: float
    stopped: str


def read_points(settings: Sequence[Setting], work: Path) -> list[Point]:
    """Read finished settings; one whose training failed is left out."""
    points = []
    for setting in settings:
        record = json.loads((work / setting.name / "result.json").read_text(encoding="utf-8"))
        if "failed" not in record:
            found = record["figures"]
            points.append(Point(setting, found["forget"], found["validation"], found["world_facts"], record["stopped"]))
    return points


def kept_at(points: Sequence[Point], level: float) -> float | None:
    """Return the most that is kept by a mix of two settings whose forget accuracy is ``level``, or None where none reaches it.

    Between two settings the straight line is taken, so that methods are compared at the same forget accuracy and not at whichever
    the grid happened to hit.
    """
    best = [point.kept for point in points if point.forget == level]
    for low, high in itertools.product(points, points):
        if low.forget < level < high.forget:
            share = (level - low.forget) / (high.forget - low.forget)
            best.append(low.kept + share * (high.kept - low.kept))
    return max(best, default=None)


def flat_settings(method: str) -> list[Setting]:
    """Return the 12 settings of one method; the stop rule is off, so that all run their length."""
    fixed = {"unlearning.stop.forget_nll": "'off'"}
    return [
        Setting(method, {**fixed, "unlearning.learning_rate": rate, "unlearning.epochs": epochs})
        for rate in RATES
        for epochs in EPOCHS
    ]


def collapse_settings() -> list[Setting]:
    """Return gradient ascent around its preset rate, the stop rule off."""
    from efface.methods.presets import expand

    rate = expand("ga", parameters=0).training.learning_rate
    return [
        Setting("ga", {"unlearning.stop.forget_nll": "'off'", "unlearning.learning_rate": float(f"{rate * factor:.3g}")})
        for factor in FACTORS
    ]


def flat_page(points: Mapping[str, Sequence[Point]], original: float, picture: str) -> str:
    """Return the table at equal forget accuracy and the whole grid."""
    lines = [
        "| kept at a forget accuracy of | " + " | ".join(f"{level:.2f}" for level in LEVELS) + " |",
        "|---" * (len(LEVELS) + 1) + "|",
    ]
    for method, found in points.items():
        kept = [kept_at([*found, _untouched(original)], level) for level in LEVELS]
        lines.append(f"| {method} | " + " | ".join("not reached" if share is None else f"{share:.2f}" for share in kept) + " |")
    lines += ["", f"![Forget accuracy against what is kept]({picture})", "", "The grid, forget / kept / world facts:", ""]
    lines += ["| learning rate | epochs | " + " | ".join(points) + " |", "|---" * (len(points) + 2) + "|"]
    for index, (rate, epochs) in enumerate(itertools.product(RATES, EPOCHS)):
        cells = [f"{found[index].forget:.2f} / {found[index].kept:.2f} / {found[index].world:.2f}" for found in points.values()]
        lines.append(f"| {rate:g} | {epochs} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _untouched(original: float) -> Point:
    return Point(Setting("original", {}), 1.0, original, 1.0, "completed")


def collapse_page(points: Sequence[Point], picture: str) -> str:
    """Return the table of the collapse and the picture."""
    lines = ["| rate | x preset | forget facts | facts of others | world facts |", "|---|---|---|---|---|"]
    for factor, point in zip(FACTORS, points, strict=True):
        rate = point.setting.overrides["unlearning.learning_rate"]
        lines.append(f"| {rate:g} | {factor:g} | {point.forget:.2f} | {point.kept:.2f} | {point.world:.2f} |")
    return "\n".join([*lines, "", f"![Gradient ascent at rising learning rates]({picture})"])


def draw_flat(points: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Draw what is kept over forget accuracy, a colour and a marker per method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for (method, found), marker in zip(points.items(), "osD^v", strict=True):
        axes.scatter([point.forget for point in found], [point.kept for point in found], label=method, marker=marker, alpha=0.8)
    axes.set(
        xlabel="fact accuracy, forget people",
        ylabel="fact accuracy, people no method was given",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
    )
    axes.legend()
    figure.savefig(path)


def draw_collapse(points: Sequence[Point], path: Path) -> None:
    """Draw the three accuracies over the learning rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    rates = [point.setting.overrides["unlearning.learning_rate"] for point in points]
    for label, values, marker in (
        ("forget people", [point.forget for point in points], "o"),
        ("people not given", [point.kept for point in points], "s"),
        ("world facts", [point.world for point in points], "D"),
    ):
        axes.plot(rates, values, label=label, marker=marker)
    axes.set(xscale="log", xlabel="learning rate", ylabel="fact accuracy", ylim=(-0.03, 1.03))
    axes.axvline(rates[FACTORS.index(1)], color="grey", linestyle=":", label="preset rate")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Run what is asked for and print or write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("flat", "collapse"))
    parser.add_argument("--work", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    prepare_world(arguments.work)
    place: dict[str, Any] = json.loads((arguments.work / "world" / "world.json").read_text(encoding="utf-8"))
    picture = arguments.out.with_suffix(".svg")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.what == "flat":
        run_all([setting for method in METHODS for setting in flat_settings(method)], arguments.work, arguments.jobs)
        points = {method: read_points(flat_settings(method), arguments.work) for method in METHODS}
        draw_flat(points, picture)
        text = flat_page(points, place["figures"]["original"]["validation"], picture.name)
    else:
        run_all(collapse_settings(), arguments.work, arguments.jobs)
        found = read_points(collapse_settings(), arguments.work)
        draw_collapse(found, picture)
        text = collapse_page(found, picture.name)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
