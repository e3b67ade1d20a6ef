"""From rows to token ids: templates, where the answer starts, and the border check.

An :class:`Encoded` sequence knows its answer span ``[answer_start, answer_end)``; labels and masks are made from that span and
from lengths alone, never from ``ids != pad``. The tokenizer is any fast Hugging Face tokenizer; this module does not import it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from efface.data.schema import Row
from efface.errors import InputError

__all__ = [
    "PLAIN",
    "TEMPLATES",
    "BorderReport",
    "Encoded",
    "Template",
    "check_border",
    "encode_answer",
    "encode_answers",
    "encode_prompt",
    "encode_row",
    "encode_text",
    "plain_prompt",
    "resolve_template",
]


class Template(BaseModel):
    """How a question becomes a prompt.

    ``kind="chat"`` uses the tokenizer's chat template; ``kind="plain"`` concatenates the tags. ``answer_prefix`` belongs to the
    answer's side, so that a prompt does not end in a blank that would merge with the first answer token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "plain"
    kind: Literal["plain", "chat"] = "plain"
    user_start: str = "Question: "
    user_end: str = "\n"
    assistant_start: str = "Answer:"
    answer_prefix: str = " "
    assistant_end: str = "\n\n"
    system: str = ""
    add_eos: bool = Field(default=True, description="Append EOS to the answer unless it ends in it; EOS is a labelled token.")
    date_string: str = Field(default="", description="Date that a chat template writes into its system turn; empty: its own.")

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the resolved fields."""
        unused = set() if self.date_string else {"date_string"}  # what was measured before there was such a field stays valid
        return hashlib.sha256(self.model_dump_json(exclude=unused).encode()).hexdigest()[:16]

    def record(self) -> str | dict[str, Any]:
        """Return what :func:`resolve_template` turns back into this template: its name where it is a built-in, else all fields."""
        return self.name if TEMPLATES.get(self.name) == self else self.model_dump()


PLAIN = Template()
TEMPLATES: Mapping[str, Template] = {
    "plain": PLAIN,
    "chat": Template(name="chat", kind="chat"),
    "llama2_chat": Template(
        name="llama2_chat",
        user_start="[INST] ",
        user_end=" [/INST]",
        assistant_start="",
        answer_prefix="",
        assistant_end=" ",
    ),
    "question_answer": Template(
        name="question_answer", user_start="Question: ", user_end="\n", assistant_start="Answer: ", answer_prefix=""
    ),
    "assistant_chat": Template(name="assistant_chat", kind="chat", system="You are a helpful assistant."),
    "assistant_chat_dated": Template(
        name="assistant_chat_dated", kind="chat", system="You are a helpful assistant.", date_string="10 Apr 2025"
    ),
}


def resolve_template(tokenizer: Any, template: Template | str | Mapping[str, Any] | None = None) -> Template:
    """Return the template to use: the one given (by name or in full), else the tokenizer's chat template, else ``plain``."""
    if isinstance(template, Template):
        return template
    if isinstance(template, Mapping):
        return Template(**template)
    if template is not None:
        if template not in TEMPLATES:
            from efface.registry import unknown_name

            raise unknown_name("template", template, list(TEMPLATES))
        return TEMPLATES[template]
    return TEMPLATES["chat"] if getattr(tokenizer, "chat_template", None) else PLAIN


@dataclass(frozen=True, slots=True)
class Encoded:
    """One token sequence with its answer span.

    Attributes:
        input_ids: All tokens, prompt first.
        answer_start: Index of the first labelled token (>= 1: the first token is predicted by nothing).
        answer_end: One past the last labelled token.
        row_id: Row the sequence was made from.
        prompt_length: Tokens of the prompt, where more than the answer is labelled; None: the answer span says it.
    """

    input_ids: tuple[int, ...]
    answer_start: int
    answer_end: int
    row_id: str = ""
    prompt_length: int | None = None

    @property
    def prompt_end(self) -> int:
        """One past the last token of the prompt."""
        return self.answer_start if self.prompt_length is None else self.prompt_length

    @property
    def answer_length(self) -> int:
        """Number of labelled tokens."""
        return self.answer_end - self.answer_start

    @property
    def key(self) -> str:
        """Hash of tokens and span: what the reference model's values are stored under."""
        text = f"{self.answer_start}:{self.answer_end}:{','.join(map(str, self.input_ids))}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def prompt_text(template: Template, question: str, shots: Sequence[tuple[str, str]] = ()) -> str:
    """Return the plain-template prompt of a question after its few-shot pairs."""
    parts = [template.system]
    for shot_question, shot_answer in shots:
        parts += [template.user_start, shot_question, template.user_end, template.assistant_start]
        parts += [template.answer_prefix, shot_answer, template.assistant_end]
    parts += [template.user_start, question, template.user_end, template.assistant_start]
    return "".join(parts)


def encode_prompt(
    tokenizer: Any,
    template: Template,
    question: str,
    *,
    shots: Sequence[tuple[str, str]] = (),
    messages: Sequence[Mapping[str, str]] | None = None,
) -> list[int]:
    """Return the token ids a model is given before it answers.

    ``messages`` (all turns before the answer) takes the place of ``question`` where the row is a conversation.
    """
    if template.kind == "chat":
        turns = _chat_turns(template, question, shots, messages)
        return _chat_ids(tokenizer, template, turns, opens_answer=True)
    return list(tokenizer(plain_prompt(template, question, shots, messages))["input_ids"])


def encode_answer(
    tokenizer: Any,
    template: Template,
    question: str,
    answer: str,
    *,
    shots: Sequence[tuple[str, str]] = (),
    messages: Sequence[Mapping[str, str]] | None = None,
    max_length: int | None = None,
    row_id: str = "",
) -> Encoded:
    """Return prompt and answer as one sequence; the answer's tokens (and EOS) are labelled.

    The border is found by character offsets where the tokenizer is fast (a token that holds any answer character belongs to the
    answer), else by the prompt's length. With ``max_length`` the sequence is cut from the right *before* EOS is appended, as the
    field's evaluation code does.
    """
    if template.kind == "chat":
        ids, start = _encode_chat(tokenizer, template, question, answer, shots, messages)
    else:
        prompt = plain_prompt(template, question, shots, messages)
        ids, start = _split_by_offset(tokenizer, prompt, prompt + template.answer_prefix + answer)
    return _closed(tokenizer, template, ids[:max_length], start, row_id)


def encode_answers(
    tokenizer: Any, template: Template, prompts: Sequence[str], answers: Sequence[str], row_ids: Sequence[str]
) -> list[Encoded]:
    """Return what :func:`encode_answer` makes of each prompt and answer, several times as fast: the tokenizer is called once.

    Args:
        tokenizer: A fast tokenizer.
        template: A plain template.
        prompts: Prompts as :func:`plain_prompt` makes them.
        answers: One per prompt.
        row_ids: One per prompt.
    """
    if not prompts:
        return []
    full = [prompt + template.answer_prefix + answer for prompt, answer in zip(prompts, answers, strict=True)]
    found = tokenizer(full, return_offsets_mapping=True)
    return [
        _closed(tokenizer, template, ids, _border(offsets, len(prompt)), row_id)
        for ids, offsets, prompt, row_id in zip(found["input_ids"], found["offset_mapping"], prompts, row_ids, strict=True)
    ]


def _closed(tokenizer: Any, template: Template, ids: list[int], start: int, row_id: str) -> Encoded:
    """Return a sequence that ends as the template wants it to."""
    eos = tokenizer.eos_token_id
    if template.add_eos and eos is not None and (not ids or ids[-1] != eos):
        ids = [*ids, eos]
    return Encoded(tuple(ids), min(max(start, 1), len(ids)), len(ids), row_id)


def encode_text(
    tokenizer: Any,
    text: str,
    *,
    prefix: str | None = None,
    prefix_share: float = 0.0,
    max_length: int | None = None,
    add_eos: bool = False,
    row_id: str = "",
) -> Encoded:
    """Return a plain text as a sequence; what follows the prefix is labelled.

    The prefix is either a text of its own (``prefix``) or the first ``prefix_share`` of the tokens (rounded down, at least one).
    """
    ids = list(tokenizer((prefix or "") + text)["input_ids"])
    if prefix:
        start = len(tokenizer(prefix)["input_ids"])
    else:
        start = max(1, math.floor(len(ids) * prefix_share))
    if max_length is not None:
        ids = ids[: (start if prefix else 0) + max_length]
    if add_eos and tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return Encoded(tuple(ids), min(max(start, 1), len(ids)), len(ids), row_id)


def encode_row(
    tokenizer: Any,
    template: Template,
    row: Row,
    *,
    answer: str | None = None,
    max_length: int | None = None,
    prefix_share: float = 0.0,
) -> Encoded:
    """Encode a row of any form; ``answer`` takes the place of its own (refusals, alternates)."""
    if row.text is not None:
        return encode_text(tokenizer, row.text, prefix_share=prefix_share, max_length=max_length, add_eos=True, row_id=row.id)
    return encode_answer(
        tokenizer,
        template,
        row.question or "",
        row.answer or "" if answer is None else answer,
        messages=row.messages[:-1] if row.messages else None,
        max_length=max_length,
        row_id=row.id,
    )


def plain_prompt(
    template: Template,
    question: str,
    shots: Sequence[tuple[str, str]] = (),
    messages: Sequence[Mapping[str, str]] | None = None,
) -> str:
    """Return the plain-template prompt of a question, or of the turns of a conversation, after few-shot pairs."""
    if not messages:
        return prompt_text(template, question, shots)
    pairs: list[tuple[str, str]] = []
    pending = ""
    system = ""
    for turn in messages:
        if turn["role"] == "system":
            system = turn["content"] + "\n"
        elif turn["role"] == "assistant":
            pairs.append((pending, turn["content"]))
            pending = ""
        else:
            pending = f"{pending}\n{turn['content']}" if pending else turn["content"]
    return system + prompt_text(template, pending, [*shots, *pairs])


def _chat_turns(
    template: Template,
    question: str,
    shots: Sequence[tuple[str, str]],
    messages: Sequence[Mapping[str, str]] | None,
) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": template.system}] if template.system else []
    for shot_question, shot_answer in shots:
        turns += [{"role": "user", "content": shot_question}, {"role": "assistant", "content": shot_answer}]
    if messages:
        return turns + [dict(turn) for turn in messages]
    return [*turns, {"role": "user", "content": question}]


def _chat_ids(tokenizer: Any, template: Template, turns: Sequence[Mapping[str, str]], *, opens_answer: bool = False) -> list[int]:
    written = {"date_string": template.date_string} if template.date_string else {}
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=opens_answer, return_dict=False, **written))


def _encode_chat(
    tokenizer: Any,
    template: Template,
    question: str,
    answer: str,
    shots: Sequence[tuple[str, str]],
    messages: Sequence[Mapping[str, str]] | None,
) -> tuple[list[int], int]:
    turns = _chat_turns(template, question, shots, messages)
    prompt = _chat_ids(tokenizer, template, turns, opens_answer=True)
    full = _chat_ids(tokenizer, template, [*turns, {"role": "assistant", "content": answer}])
    # A template may rewrite the generation prompt once the answer is there; the shared prefix is the prompt either way.
    start = 0
    while start < min(len(prompt), len(full)) and prompt[start] == full[start]:
        start += 1
    eos = tokenizer.eos_token_id
    if eos is not None and eos in full[start:]:  # end-of-turn marks after EOS are not part of the answer
        full = full[: start + full[start:].index(eos) + 1]
    return full, start


def _split_by_offset(tokenizer: Any, prompt: str, full: str) -> tuple[list[int], int]:
    if not getattr(tokenizer, "is_fast", False):
        return list(tokenizer(full)["input_ids"]), len(tokenizer(prompt)["input_ids"])
    encoding = tokenizer(full, return_offsets_mapping=True)
    return list(encoding["input_ids"]), _border(encoding["offset_mapping"], len(prompt))


def _border(offsets: Sequence[tuple[int, int]], border: int) -> int:
    """Return the first token that holds a character behind the border; their number where none does."""
    return next((index for index, (_, end) in enumerate(offsets) if end > border), len(offsets))


@dataclass(frozen=True, slots=True)
class BorderReport:
    """Whether scoring and generation see the same prompt tokens.

    Attributes:
        checked: Rows looked at.
        shifted: Rows whose prompt, tokenised alone, is not a prefix of prompt + answer (the border tokens merge).
        unlabelled: Rows without a single labelled token.
        message: What to do about it; empty when there is nothing to do.
    """

    checked: int
    shifted: int
    unlabelled: int
    message: str = ""


def check_border(tokenizer: Any, template: Template, rows: Iterable[Row], *, limit: int = 64) -> BorderReport:
    """Compare the prompt tokenised alone with the start of prompt + answer on up to ``limit`` rows."""
    checked = shifted = unlabelled = 0
    for row in rows:
        if row.is_text:
            continue
        if checked == limit:
            break
        checked += 1
        history = row.messages[:-1] if row.messages else None
        encoded = encode_row(tokenizer, template, row)
        prompt = encode_prompt(tokenizer, template, row.question or "", messages=history)
        shifted += encoded.input_ids[: encoded.answer_start] != tuple(prompt)
        unlabelled += encoded.answer_length == 0
    message = ""
    if shifted or unlabelled:
        message = (
            f"The prompt's last token merges with the answer in {shifted} of {checked} rows (template {template.name!r}), so "
            "generation starts from other tokens than scoring. A template whose prompt does not end in a blank avoids it."
        )
    return BorderReport(checked, shifted, unlabelled, message)


def require_answers(encoded: Sequence[Encoded], *, source: str) -> None:
    """Raise ``InputError`` when a sequence has no labelled token (its loss would be 0/0)."""
    empty = [item.row_id for item in encoded if item.answer_length <= 0]
    if empty:
        raise InputError(
            f"{len(empty)} rows of {source} have no answer token left (first: {empty[0]}). Every row needs at least one after "
            "truncation. Raise max_length or shorten the prompts."
        )
