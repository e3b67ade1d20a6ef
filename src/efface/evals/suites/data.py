"""The sets a suite measures and the items each of them asks of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from efface.data.items import GenerateItem, ScoreItem, TokenRow
from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.evals.measure import Measured
from efface.evals.metrics.base import Variant
from efface.evals.metrics.muse import verbatim_reference

__all__ = ["AS_IT_IS", "TEXT_MAX_NEW_TOKENS", "TEXT_PREFIX_SHARE", "Asking", "Part", "SetView", "SuiteData"]

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
        own: Suite name -> sets that only this suite sees, by key; they win over ``extra``.
    """

    forget: RowSet
    retain: RowSet | None = None
    holdout: RowSet | None = None
    extra: Mapping[str, RowSet] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()
    own: Mapping[str, Mapping[str, RowSet]] = field(default_factory=dict)

    def of(self, suite: str) -> SuiteData:
        """Return the sets as ``suite`` sees them: its own beside those of all."""
        return replace(self, extra={**self.extra, **self.own.get(suite, {})}, own={})

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


@dataclass(frozen=True, slots=True)
class Asking:
    """How the rows of a set are put to the model.

    Attributes:
        form: "auto" (a question through the model's template, a plain text from its prefix on), or "completion" (the question is
            the beginning of a text, as it stands, and the answer goes on from it).
        max_new_tokens: Longest generation; None takes the suite's.
        stop: Strings at whose first occurrence a generation is cut.
        shots: Key of the set whose rows stand as examples before each question; such a set is not measured itself.
        prefix_share: Share of a plain text's tokens that is given; the rest is measured.
    """

    form: Literal["auto", "completion"] = "auto"
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    shots: str = ""
    prefix_share: float = TEXT_PREFIX_SHARE


AS_IT_IS = Asking()
"""A question through the model's template; a plain text from its first third on."""


class SetView:
    """One set as items, made on first use.

    Args:
        key: Name of the set.
        rows: Its rows.
        max_new_tokens: Longest answer that is generated.
        asking: How the rows are put to the model.
        shots: (question, answer) pairs before each question.
    """

    def __init__(
        self,
        key: str,
        rows: RowSet,
        *,
        max_new_tokens: int,
        asking: Asking | None = None,
        shots: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.key = key
        self.rows = rows.rows
        self.asking = asking or AS_IT_IS
        self.max_new_tokens = self.asking.max_new_tokens or max_new_tokens
        self.shots = shots

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

    def reference(self, row: Row, index: int, measured: Measured, variant: Variant = "strict") -> str:
        """Return what a generation is compared with: the answer, of a plain text what follows the prefix.

        What is longer than may be generated is cut, so that a perfect recitation scores 1: a plain text in proportion, at a blank;
        the rest of a completion after exactly so many tokens, where the model shows its tokenizer. Of completions,
        ``openunlearning`` cuts nothing, and ``original`` counts BOS as one of the tokens.
        """
        if self.asking.form == "completion" and not row.is_text:
            return _first_tokens(row.answer or "", self.max_new_tokens, measured.tokenizer, variant)
        if not row.is_text:
            return row.answer or ""
        scored = measured.scores.get(self.answers[index].hash)
        return _within(scored, self.generations[index].max_new_tokens) if scored is not None else ""

    def _score(self, row: Row, answer: str) -> ScoreItem:
        if row.text is not None:
            return ScoreItem(row.id, row.text, form="text", prefix_share=self.asking.prefix_share)
        if self.asking.form == "completion":
            return ScoreItem(row.id, _joined(row.question or "", answer), question=row.question or "", form="completion")
        history = row.messages[:-1] if row.messages else ()
        return ScoreItem(row.id, answer, question=row.question or "", shots=self.shots, messages=history)

    def _generate(self, row: Row) -> GenerateItem:
        stop = self.asking.stop
        if row.text is not None:
            longest = max(self.max_new_tokens, TEXT_MAX_NEW_TOKENS)
            return GenerateItem(
                row.id, row.text, form="text", prefix_share=self.asking.prefix_share, max_new_tokens=longest, stop=stop
            )
        question, longest = row.question or "", self.max_new_tokens
        if self.asking.form == "completion":
            return GenerateItem(row.id, question, form="completion", max_new_tokens=longest, stop=stop)
        history = row.messages[:-1] if row.messages else ()
        return GenerateItem(row.id, question, max_new_tokens=longest, stop=stop, shots=self.shots, messages=history)


def _joined(beginning: str, rest: str) -> str:
    """Return ``rest`` with the blank that joins it to a beginning that ends in none."""
    is_apart = not beginning or beginning[-1:].isspace() or rest[:1].isspace()
    return rest if is_apart else f" {rest}"


def _first_tokens(text: str, tokens: int, tokenizer: Any, variant: Variant) -> str:
    if tokenizer is None or variant == "openunlearning":
        return text
    return verbatim_reference(tokenizer, text, tokens, counts_bos=variant == "original")


def _within(row: TokenRow, tokens: int) -> str:
    if row.n <= tokens:
        return row.text
    cut = row.text[: math.floor(len(row.text) * tokens / row.n)]
    return cut.rsplit(maxsplit=1)[0] if " " in cut.strip() else cut
