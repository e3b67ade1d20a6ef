"""Decoding, greedy unless told otherwise, in which finished rows leave the batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from efface.models.context import generation_context, prompt_context
from efface.models.hooks import unwrap
from efface.models.scoring import accepts_logits_to_keep, position_ids

__all__ = ["DecodingRow", "greedy_decode", "tolerates_left_padding"]


@dataclass
class DecodingRow:
    """One prompt and what has been written after it.

    Attributes:
        prompt: Prompt tokens.
        max_new_tokens: Longest continuation.
        is_done: Looks at the tokens so far and says whether a stop string has come up; None when there is none to look for.
        tokens: The continuation, without EOS.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    is_done: Callable[[list[int]], bool] | None = None
    tokens: list[int] = field(default_factory=list)

    def take(self, token: int, eos: frozenset[int]) -> bool:
        """Add a token; return whether the row is finished."""
        if token in eos:
            return True
        self.tokens.append(token)
        if len(self.tokens) >= self.max_new_tokens:
            return True
        return self.is_done is not None and self.is_done(self.tokens)


@dataclass(frozen=True, slots=True)
class _Cache:
    """A model's cache and the argument it is handed back as (state-space models have their own)."""

    name: str
    value: Any


@dataclass
class _State:
    rows: list[DecodingRow]
    cache: _Cache
    mask: Tensor
    next_tokens: Tensor

    def keep(self, indices: list[int]) -> None:
        chosen = torch.tensor(indices, device=self.mask.device)
        self.rows = [self.rows[i] for i in indices]
        self.mask = self.mask[chosen]
        self.next_tokens = self.next_tokens[chosen]
        self.cache.value.reorder_cache(chosen)  # an index selection: it may also drop rows


def greedy_decode(
    model: Any,
    rows: Sequence[DecodingRow],
    *,
    eos: frozenset[int],
    pad_id: int,
    hidden_ids: frozenset[int] = frozenset(),
    on_forward: Callable[[int, int], None] | None = None,
    pick: Callable[[Sequence[DecodingRow], Tensor], Tensor] | None = None,
) -> None:
    """Continue every row greedily, or as ``pick`` says, in place.

    Args:
        model: A causal language model in evaluation mode, on the device to use.
        rows: Prompts; padded on the left where they differ in length.
        eos: Tokens that end a row.
        pad_id: Filler.
        hidden_ids: Tokens the attention mask hides wherever they stand (published masks made from ``ids != pad``).
        on_forward: Told of every forward pass: (tokens, padded tokens).
        pick: Chooses the next tokens (B,) of some rows by their logits (B, V); None: the likeliest.
    """
    pick = pick or _likeliest
    device = next(model.parameters()).device
    live = [row for row in rows if row.max_new_tokens > 0]
    if not live:
        return
    input_ids, mask = left_pad([row.prompt for row in live], pad_id, device)
    real = int(mask.sum())
    for token in hidden_ids:
        mask = mask & (input_ids != token)
    if on_forward:
        on_forward(real, input_ids.numel())
    with generation_context([input_ids.shape[1] - 1] * len(live)):
        output = model(**next_inputs(accepted_inputs(model), input_ids, mask, position_ids(mask), None))
        cache = cache_of(output)
        if cache is not None:
            state = _State(live, cache, mask, pick(live, output.logits[:, -1]))
            _decode_with_cache(model, state, eos=eos, hidden_ids=hidden_ids, on_forward=on_forward, pick=pick)
            return
    _decode_without_cache(model, live, eos=eos, pad_id=pad_id, on_forward=on_forward, pick=pick)


def _decode_with_cache(
    model: Any,
    state: _State,
    *,
    eos: frozenset[int],
    hidden_ids: frozenset[int],
    on_forward: Callable[[int, int], None] | None,
    pick: Callable[[Sequence[DecodingRow], Tensor], Tensor],
) -> None:
    """Feed the last tokens only; rows that are done leave the batch."""
    accepted = accepted_inputs(model)
    while True:
        tokens = state.next_tokens.tolist()
        going = [i for i, (row, token) in enumerate(zip(state.rows, tokens, strict=True)) if not row.take(token, eos)]
        if not going:
            return
        if len(going) < len(state.rows):
            state.keep(going)
        step = state.next_tokens[:, None]
        visible = torch.ones_like(step)
        for token in hidden_ids:
            visible = visible & (step != token)
        state.mask = torch.cat([state.mask, visible.to(state.mask.dtype)], dim=1)
        if on_forward:
            on_forward(len(state.rows), len(state.rows))
        output = model(**next_inputs(accepted, step, state.mask, position_ids(state.mask)[:, -1:], state.cache))
        state.cache = cache_of(output) or state.cache
        state.next_tokens = pick(state.rows, output.logits[:, -1])


def _likeliest(rows: Sequence[DecodingRow], logits: Tensor) -> Tensor:
    return logits.argmax(-1)


def _decode_without_cache(
    model: Any,
    rows: list[DecodingRow],
    *,
    eos: frozenset[int],
    pad_id: int,
    on_forward: Callable[[int, int], None] | None,
    pick: Callable[[Sequence[DecodingRow], Tensor], Tensor],
) -> None:
    """Run the whole sequence again for each token; right padding, so that it suits every causal model."""
    device = next(model.parameters()).device
    live = list(rows)
    while live:
        sequences = [(*row.prompt, *row.tokens) for row in live]
        width = max(map(len, sequences))
        ids = torch.full((len(live), width), pad_id, dtype=torch.long, device=device)
        mask = torch.zeros_like(ids)
        for index, sequence in enumerate(sequences):
            ids[index, : len(sequence)] = torch.tensor(sequence, device=device)
            mask[index, : len(sequence)] = 1
        if on_forward:
            on_forward(int(mask.sum()), ids.numel())
        with prompt_context([len(row.prompt) - 1 for row in live]):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        last = torch.tensor([len(sequence) - 1 for sequence in sequences], device=device)
        tokens = pick(live, logits[torch.arange(len(live), device=device), last]).tolist()
        live = [row for row, token in zip(live, tokens, strict=True) if not row.take(token, eos)]


def tolerates_left_padding(model: Any, *, vocab_size: int) -> bool:
    """Whether left padding leaves the model's next-token logits unchanged; tried on a short sequence.

    Recurrent and convolutional layers, and models that take positions from the column, read the padding. Such models are decoded
    in batches of equal length instead.
    """
    device = next(model.parameters()).device
    ids = torch.arange(8, device=device)[None] * 7 % max(vocab_size - 1, 1) + 1
    ids = ids.clamp(max=vocab_size - 1)
    accepted = accepted_inputs(model)
    padded = torch.cat([ids[:, :1].expand(1, 5), ids], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :5] = 0
    try:
        plain = _two_steps(model, accepted, ids, torch.ones_like(ids))
        shifted = _two_steps(model, accepted, padded, mask)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    share = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1  # half precision rounds differently by shape
    return bool((plain - shifted).abs().max() <= share * plain.std().clamp(min=1e-6))


def _two_steps(model: Any, accepted: frozenset[str], ids: Tensor, mask: Tensor) -> Tensor:
    """Return the next-token logits after ``ids`` and, through the cache, after one more token: (2, V)."""
    with generation_context([ids.shape[1] - 1]):
        output = model(**next_inputs(accepted, ids, mask, position_ids(mask), None))
        logits = [output.logits[0, -1].float()]
        cache = cache_of(output)
        if cache is not None:
            longer = torch.cat([mask, mask[:, -1:]], dim=1)
            output = model(**next_inputs(accepted, ids[:, -1:], longer, position_ids(longer)[:, -1:], cache))
            logits.append(output.logits[0, -1].float())
    return torch.stack(logits)


def accepted_inputs(model: Any) -> frozenset[str]:
    """Return the names of what the model's forward takes."""
    parameters = inspect.signature(unwrap(model).forward).parameters
    names = set(parameters)
    if accepts_logits_to_keep(model):
        names.add("logits_to_keep")
    return frozenset(names)


def next_inputs(accepted: frozenset[str], ids: Tensor, mask: Tensor, positions: Tensor, cache: _Cache | None) -> dict[str, Any]:
    """Return the arguments of one step of generation, of which only the last logits are wanted."""
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
    if "position_ids" in accepted:
        inputs["position_ids"] = positions
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = 1
    if cache is not None:
        inputs[cache.name] = cache.value
        if cache.name == "cache_params":
            del inputs["attention_mask"]  # a state has no columns to mask, and these models broadcast over them
    return inputs


def cache_of(output: Any) -> _Cache | None:
    """Return the cache in a model's output, or None where it keeps none that can be handed back."""
    for name in ("past_key_values", "cache_params"):
        value = getattr(output, name, None)
        if hasattr(value, "reorder_cache"):
            return _Cache(name, value)
    return None


def left_pad(prompts: list[tuple[int, ...]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return tokens and mask (B, T), padded on the left."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, prompt in enumerate(prompts):
        ids[index, width - len(prompt) :] = torch.tensor(prompt)
        mask[index, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
