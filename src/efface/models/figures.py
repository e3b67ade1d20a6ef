"""What a token's logits come to: log-probability, rank, moments over the vocabulary, argmax hit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["TokenFigures", "token_figures"]

_CHUNK_LOGITS = 1 << 19  # logits looked at in one go while moments and ranks are computed: they stay in a CPU's cache
_GPU_CHUNKS = 32  # as many times more on a GPU, which wants few and large kernels


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """Figures of N scored tokens, on the CPU: see :class:`~efface.data.items.TokenRow`."""

    logp: np.ndarray
    rank: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    hit: np.ndarray


@torch.no_grad()
def token_figures(logits: Tensor, targets: Tensor) -> TokenFigures:
    """Compute log-probability, rank, moments and argmax hit of N tokens, a chunk at a time.

    Args:
        logits: (N, V), any floating dtype; never held in float32 as a whole.
        targets: (N,).
    """
    size = max(1, _CHUNK_LOGITS * (1 if logits.device.type == "cpu" else _GPU_CHUNKS) // max(logits.shape[-1], 1))
    parts: list[list[Tensor]] = [[] for _ in range(5)]
    for start in range(0, logits.shape[0], size):
        figures = _chunk_figures(logits[start : start + size], targets[start : start + size])
        for part, figure in zip(parts, figures, strict=True):
            part.append(figure.cpu())
    if not parts[0]:
        empty = np.zeros(0, dtype=np.float32)
        return TokenFigures(empty, empty.astype(np.int32), empty, empty, empty.astype(bool))
    logp, rank, mean, var, hit = (torch.cat(part).numpy() for part in parts)
    return TokenFigures(logp.astype(np.float32), rank.astype(np.int32), mean.astype(np.float32), var.astype(np.float32), hit)


def _chunk_figures(logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    column = targets[:, None]
    hit = logits.argmax(-1) == targets
    work = torch.gt(logits, logits.gather(-1, column), out=torch.empty_like(logits))
    rank = work.sum(-1)  # of floats: a sum of booleans takes ten times as long
    logp = torch.log_softmax(logits, dim=-1)
    chosen = logp.gather(-1, column).squeeze(-1)
    torch.exp(logp, out=work)
    logp.clamp_(min=-1e4)  # an entry the model rules out has p = 0 and log p = -inf, and adds nothing
    mean = work.mul_(logp).sum(-1)
    second = work.mul_(logp).sum(-1)
    return chosen, rank, mean, second - mean.square(), hit
