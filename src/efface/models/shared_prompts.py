"""Score several continuations of one prompt while running the prompt once.

A question has a right answer, one in other words and some wrong ones; together they are little longer than the question. The
prompts of a call run once, each without its last token, and leave their keys and values behind; every continuation then starts from
those of its prompt. That is how generation treats a prompt, so that it suits the models that can be decoded with a plain cache:
whether a model gives the same scores either way is tried before it is used, and adapters that look where the prompt ends are left
out.

Like :mod:`efface.models.scoring`, whose rule it follows, it lets the logits at one position predict the token at the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.data.collate import collate
from efface.data.encoding import Encoded
from efface.models.batching import plan_batches
from efface.models.decoding import accepted_inputs, cache_of, left_pad, next_inputs
from efface.models.hooks import unwrap
from efface.models.scoring import answer_scores, position_ids

__all__ = ["Prompts", "can_share_prompts", "find_prompts", "score_continuations"]

_OnForward = Callable[[int, int], None] | None
_SHORTEST = 2  # tokens of a prompt that are worth keeping
_WORTH_SAVING = 0.15  # share of all tokens


@dataclass(frozen=True)
class Prompts:
    """Sequences that begin alike, and those that stand alone.

    Attributes:
        groups: Indices of sequences with the same prompt, at least two each, the longest prompt first.
        alone: Indices of all others.
    """

    groups: tuple[tuple[int, ...], ...]
    alone: tuple[int, ...]


def find_prompts(sequences: Sequence[Encoded]) -> Prompts:
    """Group sequences by their prompts; nothing is grouped where that would save less than 15 % of the tokens."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for index, sequence in enumerate(sequences):
        by_prompt.setdefault(_prompt(sequence), []).append(index)
    groups = [tuple(found) for prompt, found in by_prompt.items() if len(found) > 1 and len(prompt) >= _SHORTEST]
    saved = sum((len(group) - 1) * len(_prompt(sequences[group[0]])) for group in groups)
    if saved < _WORTH_SAVING * sum(len(sequence.input_ids) for sequence in sequences):
        return Prompts((), tuple(range(len(sequences))))
    groups.sort(key=lambda group: (-len(_prompt(sequences[group[0]])), group))
    grouped = {index for group in groups for index in group}
    return Prompts(tuple(groups), tuple(index for index in range(len(sequences)) if index not in grouped))


def _prompt(sequence: Encoded) -> tuple[int, ...]:
    """Return what runs once: the prompt without its last token, which predicts the first of the continuation."""
    return sequence.input_ids[: sequence.answer_start - 1]


def score_continuations(
    model: Any,
    sequences: Sequence[Encoded],
    groups: Sequence[Sequence[int]],
    *,
    pad_id: int,
    token_budget: int,
    on_forward: _OnForward = None,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield, batch by batch, indices of sequences, the logits that predict their answer tokens (N, V), and those tokens (N,).

    Args:
        model: A model that :func:`can_share_prompts`.
        sequences: All sequences.
        groups: Indices of sequences that begin alike.
        pad_id: Filler.
        token_budget: Padded tokens per batch.
        on_forward: Told of every forward pass: (tokens, padded tokens).
    """
    prompts = [_prompt(sequences[group[0]]) for group in groups]
    for batch in plan_batches([len(prompt) for prompt in prompts], token_budget=token_budget):
        kept = _Kept.run(model, [prompts[i] for i in batch], pad_id, on_forward)
        members = [(place, index) for place, i in enumerate(batch) for index in groups[i]]
        lengths = [sequences[index].answer_length for _, index in members]
        # The keys and values of a prompt are repeated for each continuation: they count as well.
        rows = max(1, token_budget // (kept.mask.shape[1] + max(lengths)))
        for part in plan_batches(lengths, token_budget=token_budget, max_rows=rows):
            chosen = [members[i] for i in part]
            indices = [index for _, index in chosen]
            logits, targets = kept.score(model, [sequences[i] for i in indices], [p for p, _ in chosen], pad_id, on_forward)
            yield indices, logits, targets


@dataclass(frozen=True)
class _Kept:
    """Prompts that have run.

    Attributes:
        cache: Their keys and values.
        mask: 1 at their tokens, 0 at the padding on the left, (G, P).
    """

    cache: Any
    mask: Tensor

    @classmethod
    def run(cls, model: Any, prompts: list[tuple[int, ...]], pad_id: int, on_forward: _OnForward) -> _Kept:
        ids, mask = left_pad(prompts, pad_id, next(model.parameters()).device)
        if on_forward:
            on_forward(sum(map(len, prompts)), ids.numel())
        output = model(**next_inputs(accepted_inputs(model), ids, mask, position_ids(mask), None))
        return cls(cache_of(output), mask)

    def score(
        self,
        model: Any,
        sequences: list[Encoded],
        places: list[int],
        pad_id: int,
        on_forward: _OnForward,
    ) -> tuple[Tensor, Tensor]:
        """Return logits (N, V) and targets (N,) of continuations, each of the prompt at its place."""
        from transformers import DynamicCache

        device = self.mask.device
        lengths = [sequence.answer_length for sequence in sequences]
        answers = [sequence.input_ids[sequence.answer_start - 1 : sequence.answer_end] for sequence in sequences]
        padded = torch.tensor([[*answer, *[pad_id] * (max(lengths) + 1 - len(answer))] for answer in answers])
        ids, targets = padded[:, :-1], padded[:, 1:]
        real = torch.arange(ids.shape[1])[None] < torch.tensor(lengths)[:, None]
        if on_forward:
            on_forward(sum(lengths), ids.numel())
        chosen = torch.tensor(places, device=device)
        before = self.mask[chosen]
        mask = torch.cat([before, real.to(device, before.dtype)], dim=1)
        positions = before.sum(-1, keepdim=True) + torch.arange(ids.shape[1], device=device)
        cache = DynamicCache([(layer.keys[chosen], layer.values[chosen]) for layer in self.cache.value.layers])
        inputs = next_inputs(accepted_inputs(model), ids.to(device), mask, positions, None)
        inputs.pop("logits_to_keep", None)
        logits: Tensor = model(**{**inputs, self.cache.name: cache}).logits
        return logits[real.to(device)], targets[real].to(device)


def can_share_prompts(model: Any, *, vocab_size: int) -> bool:
    """Whether continuations of a kept prompt get the scores they have in whole sequences; tried on a few short ones."""
    if not _is_plain(model):
        return False
    ids = tuple(int(token) for token in torch.arange(20) * 7 % max(vocab_size - 1, 1) + 1)
    ids = tuple(min(token, vocab_size - 1) for token in ids)
    tried = [Encoded(ids[:9], 6, 9), Encoded((*ids[:6], *ids[10:14]), 6, 10), Encoded(ids[9:14], 3, 5), Encoded(ids[9:13], 3, 4)]
    try:
        if not _has_plain_cache(model, ids[:3]):
            return False
        whole = answer_scores(model, collate(tried, pad_id=0).to(next(model.parameters()).device)).logits.float()
        parts: list[Tensor] = [whole.new_zeros(0)] * len(tried)
        for indices, logits, _ in score_continuations(model, tried, find_prompts(tried).groups, pad_id=0, token_budget=256):
            pieces = logits.float().split([tried[i].answer_length for i in indices])
            for index, piece in zip(indices, pieces, strict=True):
                parts[index] = piece
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False
    share = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1  # half precision rounds differently by shape
    return bool((whole - torch.cat(parts)).abs().max() <= share * whole.std().clamp(min=1e-6))


def _is_plain(model: Any) -> bool:
    """Whether nothing in the model looks at where a prompt ends: a transformers model, or one with LoRA."""
    from transformers import PreTrainedModel

    kinds = getattr(model, "peft_config", None)
    if isinstance(kinds, dict) and any(str(getattr(kind.peft_type, "value", kind.peft_type)) != "LORA" for kind in kinds.values()):
        return False
    return isinstance(unwrap(model), PreTrainedModel)


def _has_plain_cache(model: Any, ids: tuple[int, ...]) -> bool:
    """Whether the cache is keys and values of all tokens, layer by layer: no window, no recurrent state."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    found = _Kept.run(model, [ids], 0, None).cache
    return (
        found is not None and type(found.value) is DynamicCache and all(type(layer) is DynamicLayer for layer in found.value.layers)
    )
