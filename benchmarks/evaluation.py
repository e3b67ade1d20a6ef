"""The TOFU metrics of one measuring pass against each metric scored alone.

Ours: ``efface.evals.evaluate(suite="tofu")``, every figure with its interval: each distinct sequence is scored once and each prompt
continued once, sorted by length, logits at answer positions only, finished rows leave the batch. It also makes figures that have no
published name; their cost is on our side.

Baselines: ``benchmarks/plain_evaluation.py``, which does not import efface. *Alone*: every metric with a published key
(``efface.evals.names.OPENUNLEARNING_KEYS``) runs the model for itself. *Shared parents*: what metrics are made of is computed once
under its own name, as OpenUnlearning does, but each such parent has a pass of its own. Batches hold as many rows as ours do on
average.

Ours also runs a question once for the answers that are scored after it, and sends all questions of a chunk through the tokenizer
together; the baselines read every sequence whole.

The bound is the ratio of sequences put through the model (and of texts written): what sharing passes can give by itself.

Two sets of rows: those of the embedded world, whose answers are a dozen tokens long, measured on a trained model that ends its
answers; and rows of random words as long as TOFU's, on a model with random weights whose texts all run to the same length.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.plain_evaluation import GENERATED, PlainEvaluation, PlainRow, Reference
from benchmarks.tables import Table
from benchmarks.timing import Clock, Ratio, Spent
from efface.data.items import GenerateItem
from efface.data.schema import Row, RowSet
from efface.evals import SuiteData, evaluate
from efface.evals.names import OPENUNLEARNING_KEYS
from efface.evals.suites.tofu import Tofu
from efface.models.language_model import LocalModel, PassStats
from efface.models.loading import load_model
from efface.models.protocol import Progress
from efface.results import Results
from efface.world import Recipe, build_models, load_world
from efface.world.models import build_model, train_tokenizer

__all__ = [
    "EvaluationComparison",
    "Sides",
    "compare_evaluation",
    "embedded_sides",
    "evaluation_table",
    "make_sides",
    "tofu_length_sides",
]

TOFU_LENGTHS = {"question": (10, 24), "answer": (20, 44)}
"""Words per question and answer of TOFU's rows: the middle nine tenths."""
TEXT_TOKENS = 48
"""How long the texts of a model with random weights become: about an answer of TOFU."""

PUBLISHED = tuple(name for name in OPENUNLEARNING_KEYS if name != "mia_gradnorm")
"""The published metrics of one measuring pass; the gradient-norm attack takes a backward pass per row and a suite of its own."""


class _Watched(LocalModel):
    """Our model, with what writing texts takes kept apart from scoring."""

    writing = Spent(0.0, 0.0)
    scoring_stats = PassStats()

    def generate(self, items: Sequence[GenerateItem], *, progress: Progress | None = None) -> list[str]:
        """Write texts, and keep the time."""
        self.scoring_stats = replace(self.stats)
        started = Clock.now()
        texts = super().generate(items, progress=progress)
        self.writing = started.spent()
        return texts


@dataclass(frozen=True)
class Sides:
    """What both sides measure.

    Attributes:
        model: The model, loaded.
        tokenizer: Its tokenizer.
        data: The sets, for us.
        rows: The same sets, for the baseline.
        against: Results of another model in the retrained one's place.
        max_new_tokens: Longest answer written.
    """

    model: Any
    tokenizer: Any
    data: SuiteData
    rows: Mapping[str, Sequence[PlainRow]]
    against: Results
    max_new_tokens: int

    def ours(self) -> _Watched:
        """Return our model, with nothing remembered of an earlier round."""
        return _Watched(self.model, self.tokenizer)

    def plain(self, *, rows_scoring: int, rows_generating: int) -> PlainEvaluation:
        """Return the baseline."""
        metrics = self.against.metrics
        reference = Reference(
            [float(value) for value in metrics["forget_log_truth_ratio"].per_item if value is not None],
            {key: [float(v) for v in metrics[f"{key}_nll"].per_item if v is not None] for key in ("forget", "holdout")},
            float(metrics["mia_min_k"].value or 0.0),
        )
        return PlainEvaluation(
            self.model, self.tokenizer, self.rows, reference, rows_scoring, rows_generating, max_new_tokens=self.max_new_tokens
        )


def make_sides(model: Any, tokenizer: Any, sets: Mapping[str, Sequence[Row]], *, other: Any, max_new_tokens: int = 200) -> Sides:
    """Prepare both sides.

    Args:
        model: Model to measure.
        tokenizer: Its tokenizer.
        sets: Rows of "forget", "retain", "holdout", "real_authors" and "world_facts".
        other: A model in the retrained one's place.
        max_new_tokens: Longest answer written.
    """
    chosen = {key: RowSet(tuple(rows)) for key, rows in sets.items()}
    extra = {key: chosen[key] for key in ("real_authors", "world_facts")}
    data = SuiteData(chosen["forget"], chosen["retain"], chosen["holdout"], extra)
    plain = {key: [_plain_row(row) for row in rows] for key, rows in chosen.items()}
    against = evaluate(LocalModel(other, tokenizer), suite="tofu", data=data, role="retrained", max_new_tokens=1)
    return Sides(model, tokenizer, data, plain, against, max_new_tokens)


def _plain_row(row: Row) -> PlainRow:
    return PlainRow(
        row.question or "", row.answer or "", row.paraphrased_question or "", row.paraphrased_answer or "", row.perturbed_answer
    )


def embedded_sides(recipe: Recipe, *, is_trained: bool = True, limit: int | None = None, max_new_tokens: int = 200) -> Sides:
    """Take TOFU's sets from an embedded world: one half of the world facts stands for the real authors.

    Args:
        recipe: The world and its models.
        is_trained: Measure the world's original model (built on first use, then cached); else one with random weights.
        limit: Rows per set; None takes all.
        max_new_tokens: Longest answer written.
    """
    world = load_world(recipe.world)
    half = len(world.world_facts) // 2
    sets = {
        "forget": world.forget.rows[:limit],
        "retain": world.retain.rows[:limit],
        "holdout": world.holdout.rows[:limit],
        "real_authors": world.world_facts.rows[:half][:limit],
        "world_facts": world.world_facts.rows[half:][:limit],
    }
    if is_trained:
        model, tokenizer = load_model(build_models(recipe, ("original",)).original)
    else:
        tokenizer = train_tokenizer(world, recipe.model)
        model = build_model(recipe.model, tokenizer, seed=0)
    other = build_model(recipe.model, tokenizer, seed=1)
    return make_sides(model.eval(), tokenizer, sets, other=other, max_new_tokens=max_new_tokens)


def tofu_length_sides(recipe: Recipe, *, rows: int, max_new_tokens: int = TEXT_TOKENS) -> Sides:
    """Make sets of random words as long as TOFU's, in TOFU's proportions, for a model with random weights.

    Args:
        recipe: The world whose words and tokenizer, and the model whose shape are taken.
        rows: Forget rows; as many retain and holdout rows, a quarter of that of real authors and world facts each.
        max_new_tokens: Length of the texts.
    """
    world = load_world(recipe.world)
    words = sorted({word for row in [*world.retain, *world.holdout] for word in (row.answer or "").rstrip(".").split()})
    rng = np.random.default_rng(0)

    def text(kind: str) -> str:
        return " ".join(rng.choice(words, int(rng.integers(*TOFU_LENGTHS[kind]))))

    def row(name: str, wrong: int) -> Row:
        answers = [text("answer") for _ in range(2 + wrong)]
        return Row(name, text("question"), answers[0], paraphrased_question=text("question"), paraphrased_answer=answers[1],
                   perturbed_answer=tuple(answers[2:]), entity=name)  # fmt: skip

    sizes = {
        "forget": (rows, 5),
        "retain": (rows, 5),
        "holdout": (rows, 5),
        "real_authors": (rows // 4, 3),
        "world_facts": (rows // 4, 3),
    }
    sets = {key: [row(f"{key}-{index}", wrong) for index in range(count)] for key, (count, wrong) in sizes.items()}
    tokenizer = train_tokenizer(world, recipe.model)
    model, other = (build_model(recipe.model, tokenizer, seed=seed).eval() for seed in (0, 1))
    return make_sides(model, tokenizer, sets, other=other, max_new_tokens=max_new_tokens)


@dataclass(frozen=True)
class EvaluationComparison:
    """What measuring took.

    Attributes:
        ratios: (baseline, "without" or "with" generation, clock) -> ratio baseline / ours.
        seconds: (side, "without" or "with") -> median wall seconds.
        values: Side -> metric -> figure; equal where the comparison is sound.
        sequences: Side -> sequences scored.
        texts: Side -> texts written.
        padding: Our share of padding in scoring.
        rows_per_second: Sequences scored per second, ours.
    """

    ratios: Mapping[tuple[str, str, str], Ratio]
    seconds: Mapping[tuple[str, str], float]
    values: Mapping[str, Mapping[str, float]]
    sequences: Mapping[str, int]
    texts: Mapping[str, int]
    padding: float
    rows_per_second: float


def _published() -> tuple[list[str], list[str]]:
    """Return published metrics that read scores only, and those that need texts."""
    names = list(PUBLISHED)
    return [name for name in names if name not in GENERATED], [name for name in names if name in GENERATED]


@dataclass
class _Round:
    """One side in one round: time without and with writing texts, and what came out."""

    spent: dict[str, Spent]
    values: dict[str, float]
    sequences: int
    texts: int


def _run_ours(sides: Sides) -> tuple[_Round, _Watched]:
    model = sides.ours()
    started = Clock.now()
    results = evaluate(model, suite="tofu", data=sides.data, against=sides.against, max_new_tokens=sides.max_new_tokens)
    spent = started.spent()
    values = {name: float(metric.value) for name, metric in results.metrics.items() if metric.value is not None}
    without = Spent(spent.wall - model.writing.wall, spent.cpu - model.writing.cpu)
    cost = results.cost
    return _Round({"without": without, "with": spent}, values, int(cost["scored"]), int(cost["generated"])), model


def _run_plain(plain: PlainEvaluation, *, shares_parents: bool) -> _Round:
    scored = [name for name in PUBLISHED if name not in GENERATED]
    written = [name for name in PUBLISHED if name in GENERATED]
    plain.parents = {} if shares_parents else None
    plain.sequences = plain.generated = 0
    started = Clock.now()
    values = plain.evaluate(scored)
    without = started.spent()
    sequences = plain.sequences
    values |= plain.evaluate(written)
    return _Round({"without": without, "with": started.spent()}, values, sequences, plain.generated)


def compare_evaluation(sides: Sides, *, rounds: int) -> EvaluationComparison:
    """Measure on all sides in turns; a first turn of ours warms up and says how many rows a batch holds."""
    _, model = _run_ours(sides)
    stats = model.scoring_stats
    scored = sum(1 for _ in {item.hash for item in Tofu().plan(sides.data).score_items()})
    plain = sides.plain(
        rows_scoring=max(1, round(scored / stats.scored_batches)), rows_generating=max(1, 2 * model.token_budget // 256)
    )
    found: dict[str, list[_Round]] = {"ours": [], "alone": [], "shared parents": []}
    for _ in range(rounds):
        ours, model = _run_ours(sides)
        found["ours"].append(ours)
        found["alone"].append(_run_plain(plain, shares_parents=False))
        found["shared parents"].append(_run_plain(plain, shares_parents=True))
    ratios = {
        (side, part, clock): Ratio.of(
            [getattr(entry.spent[part], clock) for entry in found[side]],
            [getattr(entry.spent[part], clock) for entry in found["ours"]],
        )
        for side in ("alone", "shared parents")
        for part in ("without", "with")
        for clock in ("wall", "cpu")
    }
    seconds = {
        (side, part): statistics.median(entry.spent[part].wall for entry in entries)
        for side, entries in found.items()
        for part in ("without", "with")
    }
    return EvaluationComparison(
        ratios=ratios,
        seconds=seconds,
        values={side: entries[-1].values for side, entries in found.items()},
        sequences={side: entries[-1].sequences for side, entries in found.items()},
        texts={side: entries[-1].texts for side, entries in found.items()},
        padding=model.scoring_stats.padding_share,
        rows_per_second=scored / model.scoring_stats.seconds if model.scoring_stats.seconds else math.inf,
    )


def evaluation_table(title: str, words: str, sides: Sides, compared: EvaluationComparison) -> Table:
    """Put the comparison into a table."""
    rows, values = [], []
    for side in ("alone", "shared parents"):
        for part in ("without", "with"):
            wall, cpu = (compared.ratios[side, part, clock] for clock in ("wall", "cpu"))
            scored = compared.sequences[side] / compared.sequences["ours"]
            written = compared.texts[side] / compared.texts["ours"]
            bound = f"{scored:.2f}" if part == "without" else f"{scored:.2f} scored, {written:.2f} written"
            seconds = compared.seconds["ours", part], compared.seconds[side, part]
            rows.append([side, f"{part} texts", f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", str(wall), str(cpu), bound])
            values.append(
                {
                    "rows": title,
                    "baseline": side,
                    "texts": part == "with",
                    "ours_seconds": seconds[0],
                    "baseline_seconds": seconds[1],
                    "ratio_wall": wall.as_dict(),
                    "ratio_cpu": cpu.as_dict(),
                    "bound_sequences": scored,
                    "bound_texts": written if part == "with" else None,
                    "padding_share": compared.padding,
                    "rows_per_second": compared.rows_per_second,
                }
            )
    sizes = ", ".join(f"{len(entries)} {key.replace('_', ' ')}" for key, entries in sides.rows.items())
    speed = f"{compared.rows_per_second:.0f} sequences scored per second"
    return Table(
        title=f"TOFU's metrics: {title}",
        words=(
            f"Rows: {sizes}. {words}",
            "Ours: one measuring pass, every figure of the suite with its interval.",
            f"Baselines, in plain PyTorch and transformers' generate: the {len(PUBLISHED)} published metrics, each alone "
            "with passes of its own; or with what several are made of computed once. As many rows per scoring batch as ours on "
            "average, order of the file, logits at all positions.",
            "Ratio: baseline / ours, median of rounds taken in turns (lowest-highest). Bound: sequences scored and texts written.",
        ),
        columns=("baseline", "", "ours s", "baseline s", "ratio", "ratio in CPU time", "bound"),
        rows=rows,
        values=values,
        notes=(f"Ours: {compared.padding:.1%} of the scored tokens are padding; {speed}.",),
    )
