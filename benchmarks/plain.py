"""The baseline: an unlearning loop in plain PyTorch, as it is commonly written.

A frozen copy of the model stays in memory and is run again in every step that needs the reference. Logits are computed at all
positions. The forget and the retain batch have a forward pass each. Optimiser, batches and gradient clipping are those of the
other side of the comparison. Nothing here imports efface: each loss is written a second time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["METHODS", "PlainBatch", "PlainLoop", "pad"]

IGNORE = -100


@dataclass(frozen=True)
class PlainBatch:
    """Right-padded token ids (B, T), their mask, and labels with -100 outside the answers."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def pad(sequences: Sequence[tuple[Sequence[int], int]], *, pad_id: int, width: int | None = None) -> PlainBatch:
    """Pad (token ids, start of the answer) pairs to the longest one, or to ``width``."""
    rows = [torch.tensor(ids) for ids, _ in sequences]
    width = width or max(map(len, rows))
    input_ids = torch.stack([F.pad(row, (0, width - len(row)), value=pad_id) for row in rows])
    mask = torch.stack([F.pad(torch.ones_like(row), (0, width - len(row))) for row in rows])
    labels = torch.full_like(input_ids, IGNORE)
    for index, (ids, start) in enumerate(sequences):
        labels[index, start : len(ids)] = input_ids[index, start : len(ids)]
    return PlainBatch(input_ids, mask, labels)


def all_logits(model: nn.Module, batch: PlainBatch) -> Tensor:
    """Run the model and return its logits at every position, (B, T, V)."""
    logits: Tensor = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    return logits


def token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy per position, 0 where there is no label, (B, T - 1)."""
    flat = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="none")
    return flat.view(len(labels), -1)


def mean_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy per labelled token."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)


def npo(logits: Tensor, reference: Tensor, labels: Tensor, beta: float = 0.1) -> Tensor:
    """Return NPO's loss from both models' logits (B, T, V)."""
    ratio = token_nll(reference, labels).sum(1) - token_nll(logits, labels).sum(1)
    return -2 / beta * F.logsigmoid(-beta * ratio).mean()


def kl(logits: Tensor, reference: Tensor, labels: Tensor) -> Tensor:
    """Return KL(reference || model) per labelled token from both models' logits (B, T, V)."""
    labelled = labels[:, 1:] != IGNORE
    divergence = F.kl_div(
        F.log_softmax(logits[:, :-1], -1), F.log_softmax(reference[:, :-1], -1), log_target=True, reduction="none"
    ).sum(-1)
    return divergence[labelled].mean()


def grad_diff_step(model: nn.Module, _: nn.Module | None, batches: Mapping[str, PlainBatch]) -> Tensor:
    """Ascent on the forget batch, descent on the retain batch."""
    forget, retain = batches["forget"], batches["retain"]
    return mean_nll(all_logits(model, retain), retain.labels) - mean_nll(all_logits(model, forget), forget.labels)


def npo_forget_step(model: nn.Module, frozen: nn.Module | None, batches: Mapping[str, PlainBatch]) -> Tensor:
    """NPO on the forget batch; the frozen copy is run on it."""
    forget = batches["forget"]
    with torch.no_grad():
        reference = all_logits(_needed(frozen), forget)
    return npo(all_logits(model, forget), reference, forget.labels)


def npo_step(model: nn.Module, frozen: nn.Module | None, batches: Mapping[str, PlainBatch]) -> Tensor:
    """NPO with the cross-entropy of the retain batch."""
    retain = batches["retain"]
    return npo_forget_step(model, frozen, batches) + mean_nll(all_logits(model, retain), retain.labels)


def npo_kl_step(model: nn.Module, frozen: nn.Module | None, batches: Mapping[str, PlainBatch]) -> Tensor:
    """NPO with the KL of the retain batch; the frozen copy is run on both batches."""
    retain = batches["retain"]
    with torch.no_grad():
        reference = all_logits(_needed(frozen), retain)
    return npo_forget_step(model, frozen, batches) + kl(all_logits(model, retain), reference, retain.labels)


def _needed(frozen: nn.Module | None) -> nn.Module:
    if frozen is None:
        raise ValueError("This method reads a frozen copy and there is none. Build the loop with needs_frozen=True.")
    return frozen


@dataclass(frozen=True)
class PlainMethod:
    """How one method is written plainly."""

    step: Callable[[nn.Module, nn.Module | None, Mapping[str, PlainBatch]], Tensor]
    needs_frozen: bool
    views: tuple[str, ...]


METHODS: Mapping[str, PlainMethod] = {
    "grad_diff": PlainMethod(grad_diff_step, False, ("forget", "retain")),
    "npo_forget": PlainMethod(npo_forget_step, True, ("forget",)),
    "npo": PlainMethod(npo_step, True, ("forget", "retain")),
    "npo_kl": PlainMethod(npo_kl_step, True, ("forget", "retain")),
}


@dataclass
class PlainLoop:
    """One training loop: a model, a frozen copy where the method reads one, AdamW, clipping at norm 1.

    Attributes:
        model: Trained in place.
        method: Key of :data:`METHODS`.
        learning_rate: Of AdamW without weight decay.
        losses: Loss of every step taken.
    """

    model: nn.Module
    method: str
    learning_rate: float
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._method = METHODS[self.method]
        self._frozen = copy.deepcopy(self.model).eval().requires_grad_(False) if self._method.needs_frozen else None
        self._optimizer: Any = torch.optim.AdamW(self.model.parameters(), lr=self.learning_rate, weight_decay=0.0)
        self.model.train()

    def step(self, batches: Mapping[str, PlainBatch]) -> float:
        """Take one optimiser step and return its loss."""
        loss = self._method.step(self.model, self._frozen, batches)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.losses.append(loss.item())
        return self.losses[-1]
