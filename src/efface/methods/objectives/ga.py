"""Gradient ascent: Knowledge Unlearning for Mitigating Privacy Risks in Language Models, Jang et al. 2022, arXiv 2210.01504.

Reference code: OpenUnlearning ``grad_ascent.py``.

L = (1/N) sum_t log p(y_t | x, y_<t), minus the cross-entropy of the forget answers; N counts the answer tokens of the whole
optimiser step (a mean over tokens, not over sequences).

The loss has no lower bound: without a stop rule it never ends, and the model collapses soon after the answers are gone.
No deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from efface.methods.base import LossOutput, Objective, Paper, ReferenceLookup
from efface.models.scoring import AnswerScores

__all__ = ["GradientAscent", "ga_loss"]


def ga_loss(logp: Tensor) -> Tensor:
    """Return the loss per token, which is the log-probability itself, for log-probabilities (N,)."""
    return logp


class GradientAscent(Objective):
    """Raise the negative log-likelihood of the forget answers."""

    name: ClassVar[str] = "ga"
    summary: ClassVar[str] = "gradient ascent on the forget answers"
    approach: ClassVar[str] = "divergence"
    paper: ClassVar[Paper | None] = Paper(
        "Knowledge Unlearning for Mitigating Privacy Risks in Language Models",
        "2210.01504",
        "Jang et al.",
        2022,
        "https://github.com/joeljang/knowledge-unlearning",
    )

    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the token mean of the log-probability."""
        scores = views["forget"]
        return LossOutput(scores.token_mean(ga_loss(scores.logp)))
