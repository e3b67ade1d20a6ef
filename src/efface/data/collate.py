"""Padded batches of encoded sequences. Masks come from lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from efface.data.encoding import Encoded

__all__ = ["IGNORE", "TokenBatch", "collate"]

IGNORE = -100


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """A padded batch.

    Attributes:
        input_ids: Token ids, (B, T).
        attention_mask: 1 on real tokens, (B, T).
        labels: Token ids on the answer span, -100 elsewhere, (B, T); never shifted here.
        sequences: What the rows were made from, in order.
        side: Where the padding stands.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    sequences: tuple[Encoded, ...]
    side: Literal["right", "left"] = "right"

    @property
    def num_rows(self) -> int:
        """Number of sequences, B."""
        return len(self.sequences)

    def to(self, device: torch.device | str) -> Self:
        """Return the batch with its tensors on ``device``."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            labels=self.labels.to(device),
        )


def collate(sequences: Sequence[Encoded], *, pad_id: int, side: Literal["right", "left"] = "right") -> TokenBatch:
    """Pad sequences to the longest one.

    Args:
        sequences: At least one.
        pad_id: Filler; its value never matters, since masks come from lengths.
        side: Where to pad.
    """
    width = max(len(item.input_ids) for item in sequences)
    input_ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORE)
    for row, item in enumerate(sequences):
        ids = torch.tensor(item.input_ids, dtype=torch.long)
        offset = width - len(ids) if side == "left" else 0
        input_ids[row, offset : offset + len(ids)] = ids
        attention_mask[row, offset : offset + len(ids)] = 1
        span = slice(offset + item.answer_start, offset + item.answer_end)
        labels[row, span] = ids[item.answer_start : item.answer_end]
    return TokenBatch(input_ids, attention_mask, labels, tuple(sequences), side)
