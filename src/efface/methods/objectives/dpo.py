"""DPO for unlearning: Direct Preference Optimization, Rafailov et al. 2023, arXiv 2305.18290, as TOFU and OpenUnlearning use it.

L = - (2 / beta) mean_b log sigmoid(beta [log pi(a_b)/pi_ref(a_b) - log pi(y_b)/pi_ref(y_b)]), both SUMS over answer tokens; y_b is
the forget answer, a_b another answer to the same prompt (a refusal in IdkDPO, a plausible false answer otherwise).

The factor 2 / beta is OpenUnlearning's: without the preferred answer the loss is then NPO's. The DPO paper has none, so learning
rates differ by that factor from other libraries. No other deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from efface.methods.base import LossOutput, MethodConfig, Need, Objective, Paper, ReferenceKind, ReferenceLookup
from efface.methods.refusals import AlternateConfig, alternate_needs
from efface.models.scoring import AnswerScores
from efface.results import Intention

__all__ = ["DPO", "DPOConfig", "dpo_loss"]


def dpo_loss(
    logp: Tensor,
    reference_logp: Tensor,
    beta: float,
    *,
    alternate_logp: Tensor | None = None,
    alternate_reference_logp: Tensor | None = None,
) -> Tensor:
    """Return the loss per row; without an alternate it is NPO's.

    Args:
        logp: Summed log-probability of each forget answer, (B,).
        reference_logp: The same under the reference model, (B,).
        beta: Inverse temperature.
        alternate_logp: Summed log-probability of each preferred answer, (B,).
        alternate_reference_logp: The same under the reference model, (B,).
    """
    margin = -(logp - reference_logp)
    if alternate_logp is not None and alternate_reference_logp is not None:
        margin = margin + (alternate_logp - alternate_reference_logp)
    return -2.0 / beta * F.logsigmoid(beta * margin)


class DPOConfig(AlternateConfig):
    """Hyper-parameters of DPO."""

    beta: float = Field(0.1, gt=0, description="Inverse temperature; 0.1 in TOFU and OpenUnlearning.")


class DPO(Objective):
    """Prefer another answer to the forget answer."""

    name: ClassVar[str] = "dpo"
    summary: ClassVar[str] = "prefer another answer to the forget answer"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE})
    intention: ClassVar[Intention] = Intention.SUPPRESSION
    inputs: ClassVar[tuple[Literal["forget", "alternate"], ...]] = ("forget", "alternate")
    approach: ClassVar[str] = "preference"
    paper: ClassVar[Paper | None] = Paper(
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", "2305.18290", "Rafailov et al.", 2023
    )
    Config: ClassVar[type[MethodConfig]] = DPOConfig
    config: DPOConfig

    @classmethod
    def needs_of(cls, config: MethodConfig) -> frozenset[Need]:
        """Rows' own alternates are a need; refusals come with the package."""
        return cls.needs | alternate_needs(config)

    @property
    def reference(self) -> frozenset[ReferenceKind]:
        """One summed log-probability per sequence."""
        return frozenset({ReferenceKind.SEQUENCE_LOGP})

    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the row mean of the loss."""
        if reference is None:
            raise TypeError("DPO has no reference values. It needs the reference model's log-probabilities. Pass a lookup.")
        forget, alternate = views["forget"], views["alternate"]
        logp, alternate_logp = forget.sequence_sum(forget.logp), alternate.sequence_sum(alternate.logp)
        loss = dpo_loss(
            logp,
            reference.sequence_logp(forget).to(logp),
            self.config.beta,
            alternate_logp=alternate_logp,
            alternate_reference_logp=reference.sequence_logp(alternate).to(logp),
        )
        return LossOutput(forget.row_mean(loss))
