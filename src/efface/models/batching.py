"""Length-sorted batches under a token budget, with little padding."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["logit_budget", "plan_batches"]

_MAX_PADDING = 0.08  # share of a batch that may be padding once the batch is worth running
_WORTH_RUNNING = 768  # padded tokens from which a batch is large enough to be closed for the sake of padding
_LOGIT_BYTES = 1 << 30


def plan_batches(lengths: Sequence[int], *, token_budget: int, max_rows: int | None = None) -> list[list[int]]:
    """Group item indices into batches, longest first, so that memory runs out at once or not at all.

    A batch is closed when another row would pass ``token_budget`` padded tokens or ``max_rows``, or when it is large enough and the
    row is so much shorter that padding would pass 8 %. Every batch has at least one row, however long.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    rows: list[int] = []
    real = 0
    for index in order:
        if rows:
            width = max(lengths[rows[0]], 1)
            total = width * (len(rows) + 1)
            padding = 1 - (real + lengths[index]) / total
            full = total > token_budget or (max_rows is not None and len(rows) >= max_rows)
            if full or (padding > _MAX_PADDING and width * len(rows) >= _WORTH_RUNNING):
                batches.append(rows)
                rows, real = [], 0
        rows.append(index)
        real += lengths[index]
    if rows:
        batches.append(rows)
    return batches


def logit_budget(token_budget: int, *, vocab_size: int, bytes_per_logit: int) -> int:
    """Lower a token budget so that the logits of a batch stay under one gibibyte."""
    return max(1, min(token_budget, _LOGIT_BYTES // max(vocab_size * bytes_per_logit, 1)))
