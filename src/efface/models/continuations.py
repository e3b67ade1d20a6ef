"""Several answers to one prompt, scored with the prompt run once: each goes on from a copy of its keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from efface.models.context import generation_context
from efface.models.decoding import accepted_inputs, cache_of, left_pad, model_inputs
from efface.models.scoring import position_ids
from efface.models.sharing import PromptGroup

__all__ = ["continuation_logits", "reuses_prompts"]


@torch.no_grad()
def continuation_logits(
    model: Any, groups: Sequence[PromptGroup], *, pad_id: int, on_forward: Callable[[int, int], None] | None = None
) -> Tensor | None:
    """Return the logits that predict every answer token, (N, V), in the order of the groups, their answers and tokens.

    Two passes whatever the number of answers: the prompts, padded on the left, and then all answers but their last tokens, each
    after a copy of its prompt's keys and values.

    Args:
        model: A causal language model in evaluation mode, on the device to use.
        groups: Prompts with their answers, none empty.
        pad_id: Filler.
        on_forward: Told of every forward pass: (tokens, padded tokens).

    Returns:
        None where the model keeps no keys and values.
    """
    device = next(model.parameters()).device
    accepted = accepted_inputs(model)
    ids, mask = left_pad([group.prompt for group in groups], pad_id, device)
    with generation_context([ids.shape[1] - 1] * len(groups)):
        if on_forward:
            on_forward(int(mask.sum()), ids.numel())
        output = model(**model_inputs(accepted, ids, mask, position_ids(mask), None))
        cache = cache_of(output)
        if cache is None or cache.name != "past_key_values":
            return None
        answers = [(owner, answer) for owner, group in enumerate(groups) for answer in group.answers]
        first = output.logits[:, -1]  # (B, V)
        longer = [(owner, answer[:-1]) for owner, answer in answers if len(answer) > 1]
        if not longer:
            return first[torch.tensor([owner for owner, _ in answers], device=device)]
        owners = torch.tensor([owner for owner, _ in longer], device=device)
        cache.value.reorder_cache(owners)  # an index selection: it may also repeat rows
        rest, rest_mask = _right_pad([tokens for _, tokens in longer], pad_id, device)
        whole = torch.cat([mask[owners], rest_mask], dim=1)
        inputs = model_inputs(accepted, rest, whole, position_ids(whole)[:, -rest.shape[1] :], cache)
        inputs.pop("logits_to_keep", None)
        if on_forward:
            on_forward(int(rest_mask.sum()), rest.numel())
        logits = model(**inputs).logits  # (R, C, V)
    return _in_order(first, logits, answers)


def reuses_prompts(model: Any, *, vocab_size: int, pad_id: int) -> bool:
    """Whether answers after a kept prompt get the logits they get when the whole sequence is run; tried on short sequences.

    Recurrent states, and caches that cannot be copied or continued by several tokens, do not.
    """
    device = next(model.parameters()).device
    tokens = (torch.arange(64) * 7 % max(vocab_size - 1, 1) + 1).clamp(max=vocab_size - 1).tolist()
    prompts = (tuple(tokens[:40]), tuple(tokens[5:38]))
    answers = (tuple(tokens[50:51]), tuple(tokens[52:56]))
    groups = [PromptGroup(prompt, answers, (2 * i, 2 * i + 1)) for i, prompt in enumerate(prompts)]
    try:
        shared = continuation_logits(model, groups, pad_id=pad_id)
        separate = [_whole(model, prompt, answer, device) for prompt in prompts for answer in answers]
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        return False
    if shared is None:
        return False
    plain = torch.cat(separate).float()
    share = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1  # half precision rounds differently by shape
    return bool((shared.float() - plain).abs().max() <= share * plain.std().clamp(min=1e-6))


@torch.no_grad()
def _whole(model: Any, prompt: tuple[int, ...], answer: tuple[int, ...], device: torch.device) -> Tensor:
    ids = torch.tensor([prompt + answer], device=device)
    with generation_context([len(prompt) - 1]):
        logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[0, len(prompt) - 1 : -1]


def _right_pad(sequences: list[tuple[int, ...]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = torch.tensor(sequence)
        mask[index, : len(sequence)] = 1
    return ids.to(device), mask.to(device)


def _in_order(first: Tensor, rest: Tensor, answers: Sequence[tuple[int, tuple[int, ...]]]) -> Tensor:
    """Put each answer's first-token logits, from its prompt, before those of its other tokens."""
    parts = []
    row = 0
    for owner, answer in answers:
        parts.append(first[owner : owner + 1])
        if len(answer) > 1:
            parts.append(rest[row, : len(answer) - 1])
            row += 1
    return torch.cat(parts)
