"""SimNPO: Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning, Fan et al. 2024, arXiv 2410.07163.

Reference code: github.com/OPTML-Group/Unlearn-Simple, OpenUnlearning ``simnpo.py``.

L = - (2 / beta) mean_b log sigmoid(beta (NLL_b / |y_b| - delta)),  NLL_b summed over the |y_b| answer tokens of row b.

No reference model. ``delta`` is the paper's reward margin gamma (its sign as in the code); the code's gamma is the weight of the
forget loss. Deviation: the code divides by the number of unshifted labels, one more than it scores where the first token is
labelled; ours divides by the tokens scored. ``variant="reference"`` has the published count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from efface.data.collate import IGNORE
from efface.methods.base import LossOutput, MethodConfig, Objective, Paper, ReferenceLookup
from efface.models.scoring import AnswerScores

__all__ = ["SimNPO", "SimNPOConfig", "simnpo_loss"]


def simnpo_loss(nll: Tensor, lengths: Tensor, beta: float, delta: float = 0.0) -> Tensor:
    """Return the loss per row.

    Args:
        nll: Summed negative log-likelihood of each answer, (B,).
        lengths: Tokens to divide by, (B,).
        beta: Inverse temperature; the gradient vanishes once ``beta * nll / lengths`` is well above 1.
        delta: Margin the mean NLL is asked to exceed.
    """
    return -2.0 / beta * F.logsigmoid(beta * (nll / lengths - delta))


class SimNPOConfig(MethodConfig):
    """Hyper-parameters of SimNPO."""

    beta: float = Field(2.5, gt=0, description="Inverse temperature; the paper uses 2.5 (TOFU forget05) and 4.5 (forget10).")
    delta: float = Field(0.0, description="Margin of the mean NLL; 0 in the paper's TOFU runs.")
    variant: Literal["default", "reference"] = Field("default", description='"reference": divide by the unshifted label count.')


class SimNPO(Objective):
    """NPO without a reference model, on the mean NLL of the answer."""

    name: ClassVar[str] = "simnpo"
    summary: ClassVar[str] = "NPO without a reference model, normalised by the answer's length"
    approach: ClassVar[str] = "preference"
    paper: ClassVar[Paper | None] = Paper(
        "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning",
        "2410.07163",
        "Fan et al.",
        2024,
        "https://github.com/OPTML-Group/Unlearn-Simple",
    )
    Config: ClassVar[type[MethodConfig]] = SimNPOConfig
    config: SimNPOConfig

    @property
    def positions(self) -> Literal["answer", "all", "dense"]:
        """Answer tokens; the published count needs the whole label row."""
        return "dense" if self.config.variant == "reference" else "answer"

    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the row mean of the loss."""
        scores = views["forget"]
        lengths = scores.lengths
        if self.config.variant == "reference":
            if scores.dense_labels is None:
                raise TypeError("SimNPO's reference variant has no labels to count. It needs dense scores. Score with dense=True.")
            lengths = (scores.dense_labels != IGNORE).sum(-1)
        nll = -scores.sequence_sum(scores.logp)
        loss = simnpo_loss(nll, lengths.clamp(min=1).to(nll.dtype), self.config.beta, self.config.delta)
        return LossOutput(scores.row_mean(loss))
