"""Texts of mixed lengths against unsorted static batches.

Ours: ``LocalModel.generate``: equal prompts once, sorted by length, and a row leaves its batch as soon as it has ended.

Baseline: transformers' ``generate`` on static batches in the order of the file, padded on the left, as many rows to a batch as ours
holds; every row stays until the last of its batch has ended. Both are greedy, stop at EOS or after as many tokens, and are checked
to write the same texts.

The bound counts rows times steps: what the batches pay for, over the tokens that are written.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.tables import Table
from benchmarks.timing import Clock, Ratio, Spent
from efface.data.items import GenerateItem
from efface.data.schema import Row
from efface.models.language_model import LocalModel
from efface.models.loading import load_model
from efface.world import Recipe, build_models
from efface.world.models import build_model, train_tokenizer

__all__ = ["GenerationComparison", "compare_generation", "generation_table", "mixed_items", "static_texts", "world_model"]


def world_model(recipe: Recipe, *, is_trained: bool) -> LocalModel:
    """Return the embedded world's original model (built on first use), or one of its shape with random weights."""
    if is_trained:
        return LocalModel(*load_model(build_models(recipe, ("original",)).original))
    tokenizer = train_tokenizer(recipe.load_world(), recipe.model)
    return LocalModel(build_model(recipe.model, tokenizer, seed=0).eval(), tokenizer)


def mixed_items(recipe: Recipe, *, limit: int | None, max_new_tokens: int) -> list[GenerateItem]:
    """Return the prompts of every set of the world, in a random order: questions with short answers, passages that go on."""
    rows = [row for found in recipe.load_world().sets.values() for row in found]
    random.Random(0).shuffle(rows)
    return [_item(row, max_new_tokens) for row in rows[:limit]]


def _item(row: Row, max_new_tokens: int) -> GenerateItem:
    if row.text is not None:
        return GenerateItem(row.id, row.text, form="text", prefix_share=1 / 3, max_new_tokens=max_new_tokens)
    history = row.messages[:-1] if row.messages else ()
    return GenerateItem(row.id, row.question or "", messages=history, max_new_tokens=max_new_tokens)


def static_texts(model: LocalModel, items: Sequence[GenerateItem], rows_per_batch: int) -> tuple[list[str], int]:
    """Return the baseline's texts and the row-steps its batches have paid for."""
    texts: list[str] = []
    row_steps = 0
    pad = model.tokenizer.pad_token_id
    for start in range(0, len(items), rows_per_batch):
        part = items[start : start + rows_per_batch]
        prompts = [torch.tensor(model.encode_prompt(item)) for item in part]
        width = max(map(len, prompts))
        ids = torch.stack([F.pad(prompt, (width - len(prompt), 0), value=pad) for prompt in prompts])
        mask = torch.stack([F.pad(torch.ones_like(prompt), (width - len(prompt), 0)) for prompt in prompts])
        written = model.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=part[0].max_new_tokens, do_sample=False, pad_token_id=pad
        )[:, width:]
        row_steps += written.numel()
        texts += [text.strip() for text in model.tokenizer.batch_decode(written, skip_special_tokens=True)]
    return texts, row_steps


@dataclass(frozen=True)
class GenerationComparison:
    """What writing took.

    Attributes:
        wall: Ratio baseline / ours on the wall clock.
        cpu: The same in CPU time.
        seconds: Seconds of ours and of the baseline, the last round.
        texts: Texts of ours and of the baseline.
        row_steps: Rows times steps of ours and of the baseline, prompts left out.
        written: Tokens written.
        rows_per_batch: Rows in a batch of both.
    """

    wall: Ratio
    cpu: Ratio
    seconds: tuple[float, float]
    texts: tuple[list[str], list[str]]
    row_steps: tuple[int, int]
    written: int
    rows_per_batch: int


def compare_generation(
    model: LocalModel, items: Sequence[GenerateItem], *, rounds: int, rows_per_batch: int
) -> GenerationComparison:
    """Write all texts on both sides in turns.

    Args:
        model: What writes.
        items: Prompts, all with the same limit.
        rounds: How often.
        rows_per_batch: Rows in a batch; ours takes the token budget that gives it about as many.
    """
    longest = max(len(model.encode_prompt(item)) for item in items) + items[0].max_new_tokens
    ours = LocalModel(model.model, model.tokenizer, model.template, token_budget=max(1, rows_per_batch * longest // 2))
    spent: dict[str, list[Spent]] = {"ours": [], "static": []}
    for _ in range(rounds):
        before = ours.stats.tokens
        started = Clock.now()
        texts = ours.generate(items)
        spent["ours"].append(started.spent())
        steps = ours.stats.tokens - before
        started = Clock.now()
        with torch.no_grad():
            baseline, paid = static_texts(model, items, rows_per_batch)
        spent["static"].append(started.spent())
    written = sum(len(model.tokenizer(text)["input_ids"]) for text in texts)
    prompts = {ours.encode_prompt(item) for item in items}
    steps += len(prompts) - sum(map(len, prompts))  # reading a prompt gives its first token
    ratios = {
        clock: Ratio.of([getattr(s, clock) for s in spent["static"]], [getattr(s, clock) for s in spent["ours"]])
        for clock in ("wall", "cpu")
    }
    last = (spent["ours"][-1].wall, spent["static"][-1].wall)
    return GenerationComparison(ratios["wall"], ratios["cpu"], last, (texts, baseline), (steps, paid), written, rows_per_batch)


def generation_table(title: str, items: Sequence[GenerateItem], compared: GenerationComparison) -> Table:
    """Put the comparison into a table."""
    ours, static = compared.row_steps
    same = sum(a == b for a, b in zip(*compared.texts, strict=True))
    values: dict[str, Any] = {
        "ratio_wall": compared.wall.as_dict(),
        "ratio_cpu": compared.cpu.as_dict(),
        "ours_seconds": compared.seconds[0],
        "baseline_seconds": compared.seconds[1],
        "row_steps_ours": ours,
        "row_steps_baseline": static,
        "tokens_written": compared.written,
        "equal_texts": same,
    }
    row = ["static, unsorted", f"{compared.seconds[0]:.2f}", f"{compared.seconds[1]:.2f}", str(compared.wall), str(compared.cpu)]
    return Table(
        title=f"Writing texts: {title}",
        words=(
            f"{len(items)} prompts in a random order, at most {items[0].max_new_tokens} tokens each, {compared.rows_per_batch} "
            f"rows to a batch; {compared.written} tokens are written.",
            "Ours: sorted by length, equal prompts once, a row leaves its batch when it has ended. Baseline: transformers' "
            "generate on static batches in the order of the file, in which every row stays until the last one has ended.",
            "Ratio: baseline / ours, median of rounds taken in turns (lowest-highest). Bound: rows times steps that are paid for.",
        ),
        columns=("baseline", "ours s", "baseline s", "ratio", "ratio in CPU time", "bound"),
        rows=[[*row, f"{static / ours:.2f}"]],
        values=[values],
        notes=(f"{same} of {len(items)} texts are the same on both sides.",),
    )
