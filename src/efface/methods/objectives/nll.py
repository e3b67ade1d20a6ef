"""Plain fine-tuning: the cross-entropy every language model is trained with.

L = - (1/N) sum_t log p(y_t | x, y_<t), over the N answer tokens of the optimiser step.

Not an unlearning method: it trains the embedded world's models and relearning attacks through the same loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from efface.methods.base import LossOutput, Objective, ReferenceLookup
from efface.models.scoring import AnswerScores

__all__ = ["NLL", "nll_loss"]


def nll_loss(logp: Tensor) -> Tensor:
    """Return the negative log-likelihood per token for log-probabilities (N,)."""
    return -logp


class NLL(Objective):
    """Learn the rows."""

    name: ClassVar[str] = "nll"
    summary: ClassVar[str] = "plain fine-tuning: learn the rows"
    approach: ClassVar[str] = "fine-tuning"

    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the token mean of the negative log-likelihood."""
        scores = views["forget"]
        return LossOutput(scores.token_mean(nll_loss(scores.logp)))
