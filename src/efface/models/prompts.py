"""From measuring items to token ids, in the three published ways of encoding them.

``strict`` finds the border by character offsets and refuses to lose a prompt; ``openunlearning`` tokenises prompt and full text
apart, cuts at 512 tokens from the right (texts and their beginnings at 2048) and then appends EOS; ``original`` is TOFU's own code,
which cuts at 200 and leaves EOS away where the text fills them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from efface.data.encoding import (
    Encoded,
    Template,
    encode_answer,
    encode_answers,
    encode_prompt,
    encode_text,
    plain_prompt,
    prompt_text,
)
from efface.data.items import GenerateItem, ScoreItem
from efface.errors import InputError

__all__ = ["DEFAULT_MAX_LENGTH", "EncodingVariant", "encode_generate_item", "encode_score_item", "encode_score_items"]

EncodingVariant = Literal["strict", "openunlearning", "original"]
DEFAULT_MAX_LENGTH: dict[EncodingVariant, int | None] = {"strict": None, "openunlearning": 512, "original": 200}
_TEXT_LENGTH: dict[EncodingVariant, int] = {"openunlearning": 2048}


def _text_length(variant: EncodingVariant, max_length: int | None) -> int | None:
    """Return the longest text: a variant whose own limit holds for questions only has another one for texts."""
    return _TEXT_LENGTH.get(variant, max_length) if max_length == DEFAULT_MAX_LENGTH[variant] else max_length


def encode_score_item(
    tokenizer: Any, template: Template, item: ScoreItem, *, variant: EncodingVariant = "strict", max_length: int | None = None
) -> Encoded:
    """Return the tokens and the labelled span of one item.

    Args:
        tokenizer: The model's tokenizer.
        template: How questions become prompts.
        item: What to score.
        variant: Which published encoding to follow.
        max_length: Longest sequence; the variant says what happens beyond it.

    Raises:
        InputError: In ``strict``, when the item does not fit even without few-shot pairs.
    """
    if item.form == "qa":
        if variant == "strict" or template.kind == "chat":
            return _strict_answer(tokenizer, template, item, max_length if variant == "strict" else None)
        return _published_answer(tokenizer, template, item, variant, max_length)
    max_length = _text_length(variant, max_length)
    if item.form == "completion":
        return encode_text(tokenizer, item.answer, prefix=item.question, max_length=max_length, row_id=item.row_id)
    return encode_text(tokenizer, item.answer, prefix_share=item.prefix_share, max_length=max_length, row_id=item.row_id)


def encode_score_items(
    tokenizer: Any,
    template: Template,
    items: Sequence[ScoreItem],
    *,
    variant: EncodingVariant = "strict",
    max_length: int | None = None,
) -> list[Encoded]:
    """Return what :func:`encode_score_item` returns for each item; plain questions go through the tokenizer together."""
    found: dict[int, Encoded] = {}
    if variant == "strict" and template.kind == "plain" and getattr(tokenizer, "is_fast", False):
        asked = [index for index, item in enumerate(items) if item.form == "qa"]
        prompts = [plain_prompt(template, items[i].question, items[i].shots, items[i].messages or None) for i in asked]
        answers, rows = [items[i].answer for i in asked], [items[i].row_id for i in asked]
        encoded = zip(asked, encode_answers(tokenizer, template, prompts, answers, rows), strict=True)
        # One that is too long loses few-shot pairs, or is refused, on the way that items take one by one.
        found = {index: one for index, one in encoded if max_length is None or len(one.input_ids) <= max_length}
    return [
        found[index] if index in found else encode_score_item(tokenizer, template, item, variant=variant, max_length=max_length)
        for index, item in enumerate(items)
    ]


def encode_generate_item(
    tokenizer: Any, template: Template, item: GenerateItem, *, variant: EncodingVariant = "strict", max_length: int | None = None
) -> tuple[int, ...]:
    """Return the prompt tokens of one item; arguments as in :func:`encode_score_item`."""
    if item.form != "qa":
        max_length = _text_length(variant, max_length)
    if item.form == "text":
        whole = encode_text(tokenizer, item.question, prefix_share=item.prefix_share, max_length=max_length)
        return whole.input_ids[: whole.answer_start]
    if item.form == "completion":
        ids = list(tokenizer(item.question)["input_ids"])
        return tuple(ids[:max_length] if variant != "strict" else _require_fit(ids, max_length, item.row_id))
    shots = item.shots
    while True:
        ids = encode_prompt(tokenizer, template, item.question, shots=shots, messages=item.messages or None)
        if max_length is None or len(ids) <= max_length or (variant != "strict" and template.kind == "chat"):
            return tuple(ids)
        if variant != "strict":
            return tuple(ids[:max_length])
        if not shots:
            return tuple(_require_fit(ids, max_length, item.row_id))
        shots = shots[1:]


def _strict_answer(tokenizer: Any, template: Template, item: ScoreItem, max_length: int | None) -> Encoded:
    shots = item.shots
    while True:
        encoded = encode_answer(
            tokenizer, template, item.question, item.answer, shots=shots, messages=item.messages or None, row_id=item.row_id
        )
        if max_length is None or len(encoded.input_ids) <= max_length:
            return encoded
        if not shots:
            _require_fit(list(encoded.input_ids), max_length, item.row_id)
        shots = shots[1:]  # the oldest example goes first; the question itself is never lost


def _published_answer(
    tokenizer: Any, template: Template, item: ScoreItem, variant: EncodingVariant, max_length: int | None
) -> Encoded:
    if item.messages:
        prompt_ids = encode_prompt(tokenizer, template, item.question, shots=item.shots, messages=item.messages)
        ids = list(
            encode_answer(tokenizer, template, item.question, item.answer, shots=item.shots, messages=item.messages).input_ids
        )
    else:
        prompt = prompt_text(template, item.question, item.shots)
        prompt_ids = list(tokenizer(prompt)["input_ids"])
        ids = list(tokenizer(prompt + template.answer_prefix + item.answer)["input_ids"])
    start = len(prompt_ids[:max_length])
    ids = ids[:max_length]
    eos = tokenizer.eos_token_id
    fills = variant == "original" and max_length is not None and len(ids) >= max_length
    if template.add_eos and eos is not None and (not ids or ids[-1] != eos) and not fills:
        ids.append(eos)
    return Encoded(tuple(ids), min(max(start, 1), len(ids)), len(ids), item.row_id)


def _require_fit(ids: list[int], max_length: int | None, row_id: str) -> list[int]:
    if max_length is not None and len(ids) > max_length:
        raise InputError(
            f"Row {row_id} has {len(ids)} tokens, and the model or the setting allows {max_length}. Sequences must fit, or the "
            'prompt would be lost. Raise max_length, shorten the row, or use variant="openunlearning", which cuts from the right.'
        )
    return ids
