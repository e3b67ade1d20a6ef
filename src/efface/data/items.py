"""What is asked of a model when it is measured, and what comes back, in text and NumPy only.

Items are text, so that a local model, a guarded one and a remote endpoint can all answer them; the model does its own templating.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["GenerateItem", "ScoreItem", "TokenRow"]


class _Hashed:
    @cached_property
    def hash(self) -> str:
        """First 32 hex digits of the SHA-256 of the content; the row id is not part of it."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "row_id"}  # type: ignore[arg-type]
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class ScoreItem(_Hashed):
    """One (prompt, continuation) pair to score.

    Attributes:
        row_id: Row it belongs to (not part of the item's identity: equal items are scored once).
        answer: Continuation whose tokens are scored.
        question: Question, put through the model's template.
        form: "qa" (question through the template), "completion" (``question`` is a raw prefix, joined as it is),
            "text" (``answer`` is a whole text; its first ``prefix_share`` of tokens is the prefix).
        shots: Few-shot (question, answer) pairs before the question.
        messages: Turns before the answer, in place of ``question``.
        prefix_share: For "text", in [0, 1).
    """

    row_id: str
    answer: str
    question: str = ""
    form: Literal["qa", "completion", "text"] = "qa"
    shots: tuple[tuple[str, str], ...] = ()
    messages: tuple[Mapping[str, str], ...] = ()
    prefix_share: float = 0.0


@dataclass(frozen=True)
class GenerateItem(_Hashed):
    """One prompt to continue greedily.

    Attributes:
        row_id: Row it belongs to (not part of the item's identity).
        question: Question, put through the model's template; for "completion" a raw prefix; for "text" a whole text whose first
            ``prefix_share`` of tokens is the prompt.
        form: As in :class:`ScoreItem`.
        max_new_tokens: Longest continuation.
        stop: Strings at whose first occurrence the continuation is cut.
        shots: Few-shot pairs before the question.
        messages: Turns before the answer, in place of ``question``.
        prefix_share: For "text", in [0, 1).
    """

    row_id: str
    question: str = ""
    form: Literal["qa", "completion", "text"] = "qa"
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    shots: tuple[tuple[str, str], ...] = ()
    messages: tuple[Mapping[str, str], ...] = ()
    prefix_share: float = 0.0


@dataclass(frozen=True, eq=False)
class TokenRow:
    """What a model says about each token of one continuation; all arrays have the continuation's n tokens (EOS included).

    Attributes:
        targets: Token ids, (n,), int64.
        logp: Log-probability of the token, (n,), float32.
        rank: Number of vocabulary entries with a strictly higher logit, (n,), int32; -1 where an endpoint does not tell it.
        mean: Mean over the vocabulary of log p under p (sum p log p), (n,), float32; NaN where an endpoint does not tell it.
        var: Variance of log p under p, (n,), float32, not clamped; NaN as ``mean``.
        hit: Whether the token is the argmax (ties: lowest id), (n,), bool.
        ends_in_eos: Whether the last token is EOS.
        text: The continuation decoded without special tokens (for zlib).
    """

    targets: NDArray[np.int64]
    logp: NDArray[np.float32]
    rank: NDArray[np.int32]
    mean: NDArray[np.float32]
    var: NDArray[np.float32]
    hit: NDArray[np.bool_]
    ends_in_eos: bool
    text: str

    @property
    def n(self) -> int:
        """Number of scored tokens."""
        return int(self.logp.shape[0])

    @cached_property
    def mean_nll(self) -> float:
        """Mean negative log-probability per token, which many metrics of one row start from; NaN without a token."""
        return float(-np.mean(self.logp, dtype=np.float64)) if self.n else math.nan
