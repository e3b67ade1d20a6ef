"""WGA: Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond, Wang et al. 2025, arXiv 2502.19301.

Reference code: OpenUnlearning ``wga.py`` and ``compute_wga_loss``.

L = (1/N) sum_t stop[p(y_t | x, y_<t)]^beta log p(y_t | x, y_<t): gradient ascent in which a token counts by how well it is still
known, so that tokens already forgotten are left alone. The weights carry no gradient. No deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from efface.methods.base import LossOutput, MethodConfig, Objective, Paper, ReferenceLookup
from efface.models.scoring import AnswerScores

__all__ = ["WGA", "WGAConfig", "wga_loss"]


def wga_loss(logp: Tensor, beta: float) -> Tensor:
    """Return the loss per token for log-probabilities (N,); beta = 0 is gradient ascent."""
    return (beta * logp.detach()).exp() * logp


class WGAConfig(MethodConfig):
    """Hyper-parameters of WGA."""

    beta: float = Field(1.0, ge=0, description="Exponent of the weight; the paper uses 1 (swept .1, 1, 10).")


class WGA(Objective):
    """Gradient ascent, weighted by how well each token is still known."""

    name: ClassVar[str] = "wga"
    summary: ClassVar[str] = "gradient ascent weighted by each token's own probability"
    approach: ClassVar[str] = "divergence"
    paper: ClassVar[Paper | None] = Paper(
        "Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond",
        "2502.19301",
        "Wang et al.",
        2025,
        "https://github.com/tmlr-group/G-effect",
    )
    Config: ClassVar[type[MethodConfig]] = WGAConfig
    config: WGAConfig

    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the token mean of the weighted log-probability."""
        scores = views["forget"]
        return LossOutput(scores.token_mean(wga_loss(scores.logp, self.config.beta)))
