"""Cross-entropy on the retain rows: the "GD" of GradDiff, NPO+GD and the like.

L_retain = - (1/N) sum over the answer tokens of log p(y_t | x, y_<t), a mean over tokens, not over sequences.
"""

from __future__ import annotations

from typing import ClassVar

from efface.methods.base import LossOutput, Paper, ReferenceLookup, Retention
from efface.methods.objectives.nll import nll_loss
from efface.models.scoring import AnswerScores

__all__ = ["RetainNLL"]


class RetainNLL(Retention):
    """Keep answering the retain rows as they are written."""

    name: ClassVar[str] = "nll"
    summary: ClassVar[str] = "cross-entropy on the retain rows"
    paper: ClassVar[Paper | None] = Paper("Continual Learning and Private Unlearning", "2203.12817", "Liu, Liu and Stone", 2022, "")

    def loss(self, retain: AnswerScores, reference: ReferenceLookup | None) -> LossOutput:
        """Return the token mean of the negative log-likelihood."""
        return LossOutput(retain.token_mean(nll_loss(retain.logp)))
