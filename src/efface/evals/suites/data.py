"""The sets a suite measures and the items each of them asks of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from efface.data.items import GenerateItem, ScoreItem, TokenRow
from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.evals.measure import Measured

__all__ = ["TEXT_MAX_NEW_TOKENS", "TEXT_PREFIX_SHARE", "Part", "SetView", "SuiteData"]

TEXT_PREFIX_SHARE = 1 / 3
"""Share of a plain text's tokens that is given; the rest is measured."""
TEXT_MAX_NEW_TOKENS = 128
"""How far a plain text is continued at least, as in MUSE."""

Part = Literal["answers", "paraphrased", "perturbed", "paraphrased_questions", "generations"]


@dataclass(frozen=True)
class SuiteData:
    """What a suite is given.

    Attributes:
        forget: Rows that must go.
        retain: Rows that must stay.
        holdout: Rows never trained on, of the same distribution.
        extra: Further sets by key: ``world_facts``, ``real_authors``, ``refusals``, ``context``, ``unseen_frames_forget``,
            ``unseen_frames_retain``, ``rewordings_*``, ``passages_*``, or a name of your own. A key that ends in ``_forget`` or
            ``_holdout`` is judged like that set. ``retain_perturbed`` is what TOFU measures in place of the whole retain set.
        refusals: Sentences that count as refusals beside the built-in patterns; the answers of ``extra["refusals"]`` are added.
    """

    forget: RowSet
    retain: RowSet | None = None
    holdout: RowSet | None = None
    extra: Mapping[str, RowSet] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()

    @property
    def sets(self) -> dict[str, RowSet]:
        """Every set that is measured, by key."""
        named = {"forget": self.forget, "retain": self.retain, "holdout": self.holdout, **self.extra}
        if "retain_perturbed" in named:
            named["retain"] = named.pop("retain_perturbed")
        return {key: rows for key, rows in named.items() if rows is not None}

    @property
    def refusal_pool(self) -> tuple[str, ...]:
        """All sentences that count as refusals."""
        rows = self.extra.get("refusals", ())
        return tuple(dict.fromkeys([*self.refusals, *(row.answer for row in rows if row.answer)]))

    def check(self) -> None:
        """Raise ``InputError`` when a set is empty or a key cannot be part of a metric's name."""
        for key, rows in self.sets.items():
            if not len(rows):
                raise InputError(f"The {key} set is empty. A set that is measured needs at least one row. Leave it out or fill it.")
            if not key.isidentifier() or key != key.lower():
                raise InputError(f"{key!r} cannot name a set. Names are lower snake case. Rename it.")


class SetView:
    """One set as items, made on first use.

    Args:
        key: Name of the set.
        rows: Its rows.
        max_new_tokens: Longest answer that is generated.
    """

    def __init__(self, key: str, rows: RowSet, *, max_new_tokens: int) -> None:
        self.key = key
        self.rows = rows.rows
        self.max_new_tokens = max_new_tokens

    @cached_property
    def answers(self) -> list[ScoreItem]:
        """The right answer of each row."""
        return [self._score(row, row.answer or "") for row in self.rows]

    @cached_property
    def paraphrased(self) -> list[ScoreItem | None]:
        """The right answer in other words, where a row has one."""
        return [self._score(row, row.paraphrased_answer) if row.paraphrased_answer else None for row in self.rows]

    @cached_property
    def perturbed(self) -> list[list[ScoreItem]]:
        """The wrong answers of each row."""
        return [[self._score(row, answer) for answer in row.perturbed_answer] for row in self.rows]

    @cached_property
    def paraphrased_questions(self) -> list[ScoreItem | None]:
        """The right answer to the question in other words, where a row has one."""
        return [
            ScoreItem(row.id, row.answer or "", question=row.paraphrased_question) if row.paraphrased_question else None
            for row in self.rows
        ]

    @cached_property
    def generations(self) -> list[GenerateItem]:
        """The prompt of each row."""
        return [self._generate(row) for row in self.rows]

    def score_items(self, parts: Sequence[Part]) -> Iterator[ScoreItem]:
        """Yield what is scored for ``parts``."""
        if "answers" in parts:
            yield from self.answers
        if "paraphrased" in parts:
            yield from (item for item in self.paraphrased if item is not None)
        if "perturbed" in parts:
            yield from (item for items in self.perturbed for item in items)
        if "paraphrased_questions" in parts:
            yield from (item for item in self.paraphrased_questions if item is not None)

    def reference(self, row: Row, index: int, measured: Measured) -> str:
        """Return what a generation is compared with: the answer, of a plain text what follows the prefix.

        A text whose remainder is longer than what may be generated is cut in proportion, at a blank, so that a perfect recitation
        scores 1.
        """
        if not row.is_text:
            return row.answer or ""
        scored = measured.scores.get(self.answers[index].hash)
        return _within(scored, self.generations[index].max_new_tokens) if scored is not None else ""

    def _score(self, row: Row, answer: str) -> ScoreItem:
        if row.text is not None:
            return ScoreItem(row.id, row.text, form="text", prefix_share=TEXT_PREFIX_SHARE)
        history = row.messages[:-1] if row.messages else ()
        return ScoreItem(row.id, answer, question=row.question or "", messages=history)

    def _generate(self, row: Row) -> GenerateItem:
        if row.text is not None:
            longest = max(self.max_new_tokens, TEXT_MAX_NEW_TOKENS)
            return GenerateItem(row.id, row.text, form="text", prefix_share=TEXT_PREFIX_SHARE, max_new_tokens=longest)
        history = row.messages[:-1] if row.messages else ()
        return GenerateItem(row.id, row.question or "", max_new_tokens=self.max_new_tokens, messages=history)


def _within(row: TokenRow, tokens: int) -> str:
    if row.n <= tokens:
        return row.text
    cut = row.text[: math.floor(len(row.text) * tokens / row.n)]
    return cut.rsplit(maxsplit=1)[0] if " " in cut.strip() else cut
