"""From logits to the figures of scored tokens: log-probability, rank, moments over the vocabulary, argmax hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.data.items import TokenRow
from efface.models.sharing import SharedRun

__all__ = ["TokenFigures", "rows_of", "token_figures", "token_rows"]

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


def token_rows(logits: Tensor, targets: Tensor, runs: Sequence[SharedRun], tokenizer: Any) -> list[TokenRow]:
    """Return the row of every answer that some sequences stand for, in the order of the runs and of their answers.

    Args:
        logits: Logits that predict each answer token of the runs' sequences, (N, V).
        targets: Those tokens, (N,).
        runs: The sequences, in the same order.
        tokenizer: Decodes the answers.
    """
    lengths = [run.sequence.answer_length for run in runs for _ in run.answers]
    if any(len(run.answers) > 1 for run in runs):
        places, tokens = _expanded(runs)
        logits = logits[torch.tensor(places, device=logits.device)]
        targets = torch.tensor(tokens, dtype=targets.dtype, device=targets.device)
    return rows_of(logits, targets, lengths, tokenizer)


def rows_of(logits: Tensor, targets: Tensor, lengths: Sequence[int], tokenizer: Any) -> list[TokenRow]:
    """Return one row per answer.

    Args:
        logits: Logits that predict each answer token, (N, V), answer after answer.
        targets: The answer tokens, (N,).
        lengths: Tokens of each answer.
        tokenizer: Decodes the answers.
    """
    figures = token_figures(logits, targets)
    stops = np.cumsum(lengths)
    parts = np.split(targets.cpu().numpy(), stops[:-1])
    texts = tokenizer.batch_decode([part.tolist() for part in parts], skip_special_tokens=True)
    eos = tokenizer.eos_token_id
    rows = []
    for part, stop, length, text in zip(parts, stops, lengths, texts, strict=True):
        span = slice(int(stop - length), int(stop))
        rows.append(
            TokenRow(
                targets=part.astype(np.int64),
                logp=figures.logp[span],
                rank=figures.rank[span],
                mean=figures.mean[span],
                var=figures.var[span],
                hit=figures.hit[span],
                ends_in_eos=bool(length) and eos is not None and int(part[-1]) == eos,
                text=text,
            )
        )
    return rows


def _expanded(runs: Sequence[SharedRun]) -> tuple[list[int], list[int]]:
    """Return, for each answer token of each answer, its place among the batch's answer tokens, and the token itself."""
    places: list[int] = []
    tokens: list[int] = []
    first = 0
    for run in runs:
        length = run.sequence.answer_length
        for answer in run.answers:
            places += range(first, first + length)
            tokens += answer
        first += length
    return places, tokens


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
