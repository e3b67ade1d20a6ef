"""Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning, Zhang et al. 2024, arXiv 2404.05868.

Reference code: github.com/licong-lin/negative-preference-optimization, OpenUnlearning ``npo.py``.

L = - (2 / beta) mean_b log sigmoid(- beta log(pi(y_b | x_b) / pi_ref(y_b | x_b))),  log pi = SUM over the answer tokens.

Its gradient is gradient ascent's, each row weighted by 2 pi^beta / (pi^beta + pi_ref^beta), which falls to 0 as the row is
forgotten; beta -> 0 gives gradient ascent back. No deviation. MUSE's repository calls another loss NPO (raw logits, averaged
over every B x T x V entry): its numbers are not NPO's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from efface.methods.base import LossOutput, MethodConfig, Need, Objective, Paper, ReferenceKind, ReferenceLookup
from efface.models.scoring import AnswerScores

__all__ = ["NPO", "NPOConfig", "npo_loss"]


def npo_loss(logp: Tensor, reference_logp: Tensor, beta: float) -> Tensor:
    """Return the loss per row.

    Args:
        logp: Summed log-probability of each forget answer, (B,).
        reference_logp: The same under the reference model, (B,).
        beta: Inverse temperature; smaller is closer to gradient ascent.
    """
    return -2.0 / beta * F.logsigmoid(-beta * (logp - reference_logp))  # Eq. (3)


class NPOConfig(MethodConfig):
    """Hyper-parameters of NPO."""

    beta: float = Field(0.1, gt=0, description="Inverse temperature; the paper uses 0.1.")


class NPO(Objective):
    """Push the forget answers below what the reference model gives them, ever more gently."""

    name: ClassVar[str] = "npo"
    summary: ClassVar[str] = "negative preference optimisation: ascent that fades as a row is forgotten"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE})
    approach: ClassVar[str] = "preference"
    paper: ClassVar[Paper | None] = Paper(
        "Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning",
        "2404.05868",
        "Zhang, Lin, Bai and Mei",
        2024,
        "https://github.com/licong-lin/negative-preference-optimization",
    )
    Config: ClassVar[type[MethodConfig]] = NPOConfig
    config: NPOConfig

    @property
    def reference(self) -> frozenset[ReferenceKind]:
        """One summed log-probability per row."""
        return frozenset({ReferenceKind.SEQUENCE_LOGP})

    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the row mean of the loss."""
        if reference is None:
            raise TypeError("NPO has no reference values. It needs the reference model's log-probabilities. Pass a lookup.")
        scores = views["forget"]
        logp = scores.sequence_sum(scores.logp)
        reference_logp = reference.sequence_logp(scores).to(logp)
        loss = scores.row_mean(npo_loss(logp, reference_logp, self.config.beta))
        return LossOutput(loss, {"log_ratio": scores.row_mean((logp - reference_logp).detach())})
