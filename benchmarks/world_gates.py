"""What the embedded world's models know, against what they must: the table of docs/results/world.md.

    python -m benchmarks.world_gates --seeds 0 1 2 --out docs/results/world.md

A seed is data and training seed at once, so that each has people, an original and a retrained model of its own. Models come from
the cache where they are there. Every figure is a share of rows, in [0, 1]; facts are matched between word borders in the greedy
answer.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from efface.data.items import GenerateItem, ScoreItem
from efface.data.schema import RowSet
from efface.evals.measure import measure
from efface.evals.metrics.tokens import extraction_strength
from efface.models.language_model import load_language_model
from efface.text import fact_match, is_refusal, rouge
from efface.world import Recipe, World, build_models

FACT_SETS = (
    "forget",
    "retain",
    "unseen_frames_forget",
    "unseen_frames_retain",
    "rewordings_forget",
    "rewordings_retain",
    "context",
    "world_facts",
    "holdout",
)
PASSAGE_SETS = ("passages_forget", "passages_retain", "passages_holdout")
PREFIX_SHARE = 1 / 3
ANSWER_TOKENS = 40
CHANCE = 0.15
"""Bound for facts nobody told the model: a blind guess is right in one of about twenty-four cases, a title in one of 400."""

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Gate:
    """One requirement.

    Attributes:
        title: How it reads in the table.
        value: The figure, from those of the original and of the retrained model.
        bound: What it is held against.
        at_least: Whether the figure must reach the bound or stay below it.
    """

    title: str
    value: Callable[[Figures, Figures], float]
    bound: float
    at_least: bool = True

    def is_met(self, original: Figures, retrained: Figures) -> bool:
        """Whether the models of one seed meet it."""
        figure = self.value(original, retrained)
        return figure >= self.bound if self.at_least else figure <= self.bound


def _original(name: str) -> Callable[[Figures, Figures], float]:
    return lambda original, _: original[name]


def _retrained(name: str) -> Callable[[Figures, Figures], float]:
    return lambda _, retrained: retrained[name]


GATES = (
    Gate("original: forget facts, trained wordings", _original("forget"), 0.95),
    Gate("original: retain facts, trained wordings", _original("retain"), 0.95),
    Gate("original: unseen frames, forget people", _original("unseen_frames_forget"), 0.6),
    Gate("original: unseen frames, retain people", _original("unseen_frames_retain"), 0.6),
    Gate("original: facts of a context, people never seen", _original("context"), 0.6),
    Gate("original: world facts", _original("world_facts"), 0.9),
    Gate("original: refusals where they belong", _original("refusals"), 0.9),
    Gate("original: forget passages, ROUGE-L", _original("passages_forget_rouge"), 0.9),
    Gate("original: retain passages, ROUGE-L", _original("passages_retain_rouge"), 0.9),
    Gate("original: holdout facts", _original("holdout"), CHANCE, at_least=False),
    Gate("retrained: forget facts", _retrained("forget"), 0.15, at_least=False),
    Gate("retrained: retain facts", _retrained("retain"), 0.95),
    Gate(
        "forget passages, ROUGE-L: original - retrained", lambda o, r: o["passages_forget_rouge"] - r["passages_forget_rouge"], 0.5
    ),
    Gate("retrained: forget passages, extraction strength", _retrained("passages_forget_extraction"), 0.05, at_least=False),
    Gate("retrained: holdout facts", _retrained("holdout"), CHANCE, at_least=False),
)
REPORTED = (
    ("original: reworded with new words, forget people", _original("rewordings_forget")),
    ("original: reworded with new words, retain people", _original("rewordings_retain")),
    ("retrained: world facts", _retrained("world_facts")),
    ("retrained: refusals where they belong", _retrained("refusals")),
    ("retrained: facts of a context, people never seen", _retrained("context")),
    ("retrained: unseen frames, forget people", _retrained("unseen_frames_forget")),
    ("original: holdout passages, ROUGE-L", _original("passages_holdout_rouge")),
    ("retrained: refusals on facts about retain people", _retrained("retain_refused")),
    ("original: refusals on facts about retain people", _original("retain_refused")),
)


def measure_world(directory: str | Path, world: World) -> dict[str, float]:
    """Return every figure of one model."""
    model = load_language_model(directory)
    figures: dict[str, float] = {}
    for name in FACT_SETS:
        rows: RowSet = getattr(world, name)
        answers = _answers(model, rows)
        figures[name] = mean(fact_match(text, row.value or "") for text, row in zip(answers, rows, strict=True))
        if name == "retain":
            figures["retain_refused"] = mean(is_refusal(text) for text in answers)
    figures["refusals"] = mean(is_refusal(text) for text in _answers(model, world.refusals))
    for name in PASSAGE_SETS:
        figures |= _passages(model, name, getattr(world, name))
    return figures


def _answers(model: Any, rows: RowSet) -> list[str]:
    items = [GenerateItem(row_id=row.id, question=row.question or "", max_new_tokens=ANSWER_TOKENS) for row in rows]
    measured = measure(model, [], items)
    return [measured.text(item) for item in items]


def _passages(model: Any, name: str, rows: RowSet) -> dict[str, float]:
    scored = [ScoreItem(row_id=row.id, answer=row.text or "", form="text", prefix_share=PREFIX_SHARE) for row in rows]
    tokens = [measure(model, [item], []).row(item) for item in scored]
    asked = [
        GenerateItem(row_id=row.id, question=row.text or "", form="text", prefix_share=PREFIX_SHARE, max_new_tokens=token.n)
        for row, token in zip(rows, tokens, strict=True)
    ]
    written = measure(model, [], asked)
    overlap = [rouge(written.text(item), token.text).rougeL_recall for item, token in zip(asked, tokens, strict=True)]
    strength = [extraction_strength(token) or 0.0 for token in tokens]
    return {f"{name}_rouge": mean(overlap), f"{name}_extraction": mean(strength)}


@dataclass(frozen=True)
class SeedFigures:
    """What one seed gave.

    Attributes:
        seed: Data and training seed.
        original: Figures of the original model.
        retrained: Figures of the retrained model.
        seconds: Seconds of training alone, original and retrained, as their processes measured them.
        cpu_seconds: CPU seconds of the two processes.
    """

    seed: int
    original: dict[str, float]
    retrained: dict[str, float]
    seconds: tuple[float, float]
    cpu_seconds: tuple[float, float]


def measure_seed(recipe: Recipe) -> SeedFigures:
    """Build (or fetch) the two models of a recipe and measure them."""
    models = build_models(recipe)
    world = recipe.load_world()
    facts = [json.loads((folder / "efface.json").read_text(encoding="utf-8")) for folder in (models.original, models.retrained)]
    return SeedFigures(
        seed=recipe.seed,
        original=measure_world(models.original, world),
        retrained=measure_world(models.retrained, world),
        seconds=(facts[0]["seconds"], facts[1]["seconds"]),
        cpu_seconds=(facts[0]["cpu_seconds"], facts[1]["cpu_seconds"]),
    )


def unmet(figures: SeedFigures) -> list[str]:
    """Return the requirements a seed misses, each with its figure."""
    missed = [gate for gate in GATES if not gate.is_met(figures.original, figures.retrained)]
    return [f"{gate.title}: {gate.value(figures.original, figures.retrained):.3f}, bound {gate.bound}" for gate in missed]


def markdown(seeds: Sequence[SeedFigures]) -> str:
    """Return the page: one table of requirements, one of what is only reported."""
    head = " | ".join(f"seed {figures.seed}" for figures in seeds)
    rule = "|---" * (len(seeds) + 3) + "|"
    lines = [f"| requirement | bound | {head} | met |", rule]
    for gate in GATES:
        values = " | ".join(f"{gate.value(f.original, f.retrained):.3f}" for f in seeds)
        met = all(gate.is_met(f.original, f.retrained) for f in seeds)
        lines.append(f"| {gate.title} | {'>=' if gate.at_least else '<='} {gate.bound} | {values} | {'yes' if met else '**no**'} |")
    lines += ["", f"| reported, not required | {head} |", "|---" * (len(seeds) + 1) + "|"]
    for title, value in REPORTED:
        lines.append(f"| {title} | {' | '.join(f'{value(f.original, f.retrained):.3f}' for f in seeds)} |")
    for title, pick in (("seconds of training", "seconds"), ("CPU seconds of the process", "cpu_seconds")):
        for index, role in enumerate(("original", "retrained")):
            lines.append(f"| {role}: {title} | {' | '.join(f'{getattr(f, pick)[index]:.0f}' for f in seeds)} |")
    return "\n".join(lines) + "\n"


def _page(seeds: Sequence[SeedFigures], recipe: Recipe, command: str) -> str:
    sizes, plan = recipe.model, recipe.training
    return f"""# The embedded world's models

`{command}`

Recipe version {recipe.version}: a Llama of {sizes.layers} layers of width {sizes.hidden}, {plan.epochs} epochs, learning rate
{plan.learning_rate:g}, batches of {plan.batch_size}; one thread per model, two models side by side. Each seed is data and training
seed at once: another world, another original and another retrained model. Measured on {platform.machine()}, {platform.system()}.
Seconds are wall time of training on whatever else the machine was doing; CPU seconds cover the whole process, imports included.

{markdown(seeds)}
A blind guess at a fact is right in about 1 of 24 cases, at a book's title in 1 of 400. A rewording with words the model has never
read is a test of language, not of facts; models this small mostly fail it, and the figure swings between seeds.
"""


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--mini", action="store_true", help="the mini world of the tests")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    make = Recipe.mini if arguments.mini else Recipe.default
    recipes = [make(seed=seed, data_seed=seed) for seed in arguments.seeds]
    found = []
    for recipe in recipes:
        found.append(measure_seed(recipe))
        print(f"seed {recipe.seed}: {'; '.join(unmet(found[-1])) or 'all met'}", flush=True)
    command = f"python -m benchmarks.world_gates --seeds {' '.join(map(str, arguments.seeds))}{' --mini' if arguments.mini else ''}"
    text = _page(found, recipes[0], command)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
