"""The row schema: what one line of a forget, retain or holdout file may hold (DESIGN §10)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from efface.errors import InputError

__all__ = ["LETTERS", "Row", "RowSet"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of choices, in their order."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a question with its answer, a text, or a conversation.

    Attributes:
        id: Stable id; by default the first 16 hex digits of the content's SHA-256.
        question: The question (of ``messages``: everything before the last assistant turn, kept in ``messages``).
        answer: The answer, also the last assistant turn of ``messages``.
        text: A plain text, when there is no question.
        messages: A conversation, each turn a mapping with ``role`` and ``content``.
        entity: Who or what the row is about; intervals resample entities. Defaults to the row's own id.
        value: The fact in the answer; fact accuracy looks for it in what a model writes.
        value_aliases: Other spellings of ``value`` that count as well.
        attribute: Which property of the entity the row asks for.
        wording: Which wording of the question this is.
        paraphrased_question: The same question in other words.
        paraphrased_answer: The same answer in other words.
        perturbed_answer: Wrong answers of the same form.
        choices: What a multiple-choice question offers, in its order; ``answer`` is the text of the right one.
    """

    id: str
    question: str | None = None
    answer: str | None = None
    text: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    entity: str = ""
    value: str | None = None
    value_aliases: tuple[str, ...] = ()
    attribute: str | None = None
    wording: str | None = None
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    perturbed_answer: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether the row is a plain text without a question."""
        return self.text is not None

    @property
    def content(self) -> tuple[str, str]:
        """The (question, answer) pair two rows must share to be duplicates; a text has an empty question."""
        if self.text is not None:
            return "", self.text
        return self.question or "", self.answer or ""

    @classmethod
    def build(cls, data: Mapping[str, Any], *, where: str = "row") -> Self:
        """Check one mapping and make a row of it; unknown keys are ignored (real files carry more).

        The answer of a row with ``choices`` may be the right one's text, its number from 0, or its letter; a ``subject`` beside
        them is its attribute.

        Raises:
            InputError: When the mapping is not a row, names an empty answer or has a field of the wrong type.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"{where} is {type(data).__name__}, not an object. {_ACCEPTED} Mend that line.")
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {k: v for k, v in data.items() if k in known and v is not None}
        if values.get("messages") is not None:
            _take_conversation(values, where)
        if values.get("choices") is not None:
            _take_choices(values, data, where)
        _check_shape(values, where)
        for name in ("value_aliases", "perturbed_answer"):
            if name in values:
                listed = [values[name]] if isinstance(values[name], str) else list(values[name])
                if not all(isinstance(item, str) for item in listed):
                    raise InputError(f"{where}: {name} holds something that is not text. It is a list of strings. Mend that field.")
                values[name] = tuple(listed)
        if "id" in values:
            values["id"] = str(values["id"])
        else:
            values["id"] = _content_id(values)
        values["entity"] = str(values.get("entity") or values["id"])
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, in schema order, as plain types."""
        data: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None or value == ():
                continue
            data[f.name] = [dict(v) if isinstance(v, Mapping) else v for v in value] if isinstance(value, tuple) else value
        if self.messages is not None:
            data.pop("question", None)
            data.pop("answer", None)
        return data


_ACCEPTED = 'A row holds {"question", "answer"}, {"text"} or {"messages"}.'


def _take_conversation(values: dict[str, Any], where: str) -> None:
    turns = values["messages"]
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise InputError(f"{where}: messages is not a list of turns. Each turn holds role and content. Mend that field.")
    clean = []
    for turn in turns:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str) or not isinstance(turn.get("content"), str):
            raise InputError(f"{where}: a turn of messages lacks role or content. Both are text. Mend that turn.")
        clean.append({"role": turn["role"], "content": turn["content"]})
    if clean[-1]["role"] != "assistant":
        raise InputError(
            f"{where}: the last turn of messages is not the assistant's. Its last assistant turn is the answer. Add it."
        )
    values["messages"] = tuple(clean)
    users = [turn["content"] for turn in clean if turn["role"] == "user"]
    values.setdefault("question", users[-1] if users else "")
    values["answer"] = clean[-1]["content"]
    values.pop("text", None)


def _take_choices(values: dict[str, Any], data: Mapping[str, Any], where: str) -> None:
    listed = values["choices"]
    is_list = isinstance(listed, Iterable) and not isinstance(listed, (str, Mapping))
    choices = tuple(listed) if is_list else ()
    if len(choices) < 2 or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise InputError(f"{where}: choices is not a list of texts. It holds at least two texts, none empty. Mend that field.")
    if len(choices) > len(LETTERS):
        raise InputError(f"{where} offers {len(choices)} choices. At most {len(LETTERS)} have a letter. Split the question.")
    values["choices"] = choices
    values["answer"] = choices[_right_choice(values.get("answer"), choices, where)]
    if isinstance(data.get("subject"), str) and data["subject"]:
        values.setdefault("attribute", data["subject"])


def _right_choice(answer: Any, choices: tuple[str, ...], where: str) -> int:
    """Return the place of the answer: a text wins over a letter or number, since a choice may read "B" or "2"."""
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, str) and answer.strip() in (*LETTERS[: len(choices)], *map(str, range(len(choices)))):
        return LETTERS.index(answer.strip()) if answer.strip() in LETTERS else int(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise InputError(
        f"{where}: the answer is none of the {len(choices)} choices. It is the right one's text, its number from 0, or its letter. "
        "Mend the answer."
    )


def _check_shape(values: Mapping[str, Any], where: str) -> None:
    for name in ("question", "answer", "text", "paraphrased_question", "paraphrased_answer", "value"):
        if name in values and not isinstance(values[name], str):
            raise InputError(f"{where}: {name} is {type(values[name]).__name__}, not text. It must be a string. Quote it.")
    if "text" in values:
        if "question" in values or "answer" in values:
            raise InputError(f"{where} has both text and a question or answer. {_ACCEPTED} Keep one form.")
        if not values["text"].strip():
            raise InputError(f"{where}: text is empty. {_ACCEPTED} Fill it in or drop the row.")
        return
    if "question" not in values and "answer" not in values:
        raise InputError(f"{where} has neither question and answer nor text nor messages. {_ACCEPTED} Rename its columns.")
    if "question" not in values:
        raise InputError(f"{where} has an answer but no question. {_ACCEPTED} Add the question, or use text.")
    if not values.get("answer", "").strip():
        raise InputError(f"{where} has a question but no answer. {_ACCEPTED} Add the answer or drop the row.")


def _content_id(values: Mapping[str, Any]) -> str:
    # Exam questions repeat ("Which is true?"): what is offered tells them apart.
    keys = ("messages",) if values.get("messages") else ("question", "answer", "text", "choices")
    content = {k: values[k] for k in keys if values.get(k) is not None}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows in a fixed order and where they came from.

    Attributes:
        rows: The rows; ids are unique.
        source: Path or hub name, for messages and the manifest.
    """

    rows: tuple[Row, ...] = field(repr=False)  # what must be forgotten does not belong in a log
    source: str = "memory"

    @classmethod
    def build(cls, items: Iterable[Mapping[str, Any] | Row], *, source: str = "memory") -> Self:
        """Make a set from mappings; rows with the same id and different content get a numbered id.

        Raises:
            InputError: When there is no row, or one is malformed (its number is named).
        """
        rows = [item if isinstance(item, Row) else Row.build(item, where=f"{source}, row {i + 1}") for i, item in enumerate(items)]
        if not rows:
            raise InputError(f"{source} holds no rows. A set needs at least one. Check the path and the file's content.")
        seen: dict[str, int] = {}
        unique = []
        for row in rows:
            count = seen.get(row.id, 0)
            seen[row.id] = count + 1
            unique.append(row if count == 0 else replace(row, id=f"{row.id}-{count + 1}"))
        return cls(tuple(unique), source)

    @property
    def content_hash(self) -> str:
        """SHA-256 over all rows in order."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(json.dumps(row.as_dict(), sort_keys=True, ensure_ascii=False).encode() + b"\n")
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]
