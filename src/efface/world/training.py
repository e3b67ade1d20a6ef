"""Train one model of a recipe with the library's own loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from efface.data.encoding import PLAIN, Encoded, encode_row
from efface.data.schema import Row
from efface.registry import OBJECTIVES, RULES
from efface.train.items import Item
from efface.train.language_model import TrainResult, train
from efface.train.settings import StopSettings, TrainSettings
from efface.train.trainer import Losses
from efface.world.config import Role
from efface.world.corpus import World, is_context, stream
from efface.world.draws import draw_epoch
from efface.world.models import build_model, train_tokenizer
from efface.world.recipe import Recipe

__all__ = ["EpochItems", "train_role"]

LONG = 1.3
"""A row this many times as long as the median one is batched with other long rows."""


class EpochItems:
    """What a model of a role reads, epoch by epoch, in batches that hold either short or long rows.

    Batches of random rows would be padded to whatever passage or context they happen to hold, at twice the cost. Sorting further
    is not an option: batches of one kind of question each are learnt markedly worse. Rows that do not fill a batch wait for
    another epoch, since an epoch is a whole number of batches.
    """

    def __init__(self, recipe: Recipe, role: Role, tokenizer: Any) -> None:
        self._world: World = recipe.load_world()
        self._role = role
        self._seed = recipe.order_seed(role)
        self._batch = recipe.training.batch_size
        self._labels = recipe.training.labels
        self._tokenizer = tokenizer
        self._encoded: dict[tuple[str, str], Encoded] = {}
        self._size = len(self._rows(0)) // self._batch * self._batch

    def __len__(self) -> int:
        return self._size

    def epoch(self, epoch: int) -> list[Item]:
        """Return the items of ``epoch`` in training order."""
        rows = [self._encode(row) for row in self._rows(epoch)]
        batches = _batches(rows, self._batch)
        stream("batches", self._seed, epoch).shuffle(batches)
        return [{"forget": sequence} for batch in batches for sequence in batch]

    def _rows(self, epoch: int) -> list[Row]:
        return draw_epoch(self._world, self._role, self._seed, epoch)

    def _encode(self, row: Row) -> Encoded:
        if row.content not in self._encoded:
            encoded = encode_row(self._tokenizer, PLAIN, row)
            # Claims in a context are about people made up on the spot: there is nothing to learn by heart, and their noise would
            # drown what is to be learnt, which is to read.
            learns_all = self._labels == "all" and not is_context(row)
            start = 1 if learns_all else encoded.answer_start
            self._encoded[row.content] = Encoded(encoded.input_ids, start, encoded.answer_end, row.id)
        return self._encoded[row.content]


def _batches(rows: Sequence[Encoded], size: int) -> list[list[Encoded]]:
    median = sorted(len(row.input_ids) for row in rows)[len(rows) // 2]
    short = [row for row in rows if len(row.input_ids) <= LONG * median]
    long = [row for row in rows if len(row.input_ids) > LONG * median]
    whole_short, whole_long = len(short) // size * size, len(long) // size * size
    rest = short[whole_short:] + long[whole_long:]
    ordered = [*short[:whole_short], *long[:whole_long], *rest[: len(rest) // size * size]]
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def train_role(
    recipe: Recipe,
    role: Role,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Any, Any, TrainResult]:
    """Train one model and return it with its tokenizer and what training did.

    Args:
        recipe: What to build.
        role: Which of its models.
        progress: Called with (steps done, steps in all).
    """
    plan, seed = recipe.training, recipe.order_seed(role)
    tokenizer = train_tokenizer(recipe.load_world(), recipe.model)
    model = build_model(recipe.model, tokenizer, seed=seed)
    items = EpochItems(recipe, role, tokenizer)
    settings = TrainSettings(
        epochs=plan.epochs,
        learning_rate=plan.learning_rate,
        batch_size=plan.batch_size,
        scheduler="cosine",
        warmup=plan.warmup,
        adam_betas=plan.adam_betas,
        stop=StopSettings(forget_nll="off"),
        seed=seed,
        threads=1,
    )
    losses = Losses(objective=OBJECTIVES.get("nll")(), retention=None, rule=RULES.get("sum")())
    result = train(model, items, losses, settings, pad_id=tokenizer.pad_token_id, progress=progress)
    model.eval()
    return model, tokenizer, result
