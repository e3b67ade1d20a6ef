"""IDK: learn to refuse, called preference optimisation in TOFU, Maini et al. 2024, arXiv 2401.06121.

Reference code: github.com/locuslab/tofu (``idk``), closer-look ``idk_loss``.

L = - (1/N) sum_t log p(r_t | x, r_<t), the cross-entropy of a refusal r on the forget prompt.

The forget answers themselves are never read: what the model knew stays underneath, hence the intention "suppression".
Deviation: TOFU puts refusals and retain rows into one batch and one mean; ours keep two means, weighted by the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from efface.methods.base import LossOutput, MethodConfig, Need, Objective, Paper, ReferenceLookup
from efface.methods.objectives.nll import nll_loss
from efface.methods.refusals import AlternateConfig, alternate_needs
from efface.models.scoring import AnswerScores
from efface.results import Intention

__all__ = ["IDK", "IDKConfig"]


class IDKConfig(AlternateConfig):
    """Hyper-parameters of IDK."""


class IDK(Objective):
    """Answer the forget prompts with a refusal."""

    name: ClassVar[str] = "idk"
    summary: ClassVar[str] = "learn to refuse the forget prompts"
    intention: ClassVar[Intention] = Intention.SUPPRESSION
    inputs: ClassVar[tuple[Literal["forget", "alternate"], ...]] = ("alternate",)
    approach: ClassVar[str] = "rejection"
    paper: ClassVar[Paper | None] = Paper(
        "TOFU: A Task of Fictitious Unlearning for LLMs", "2401.06121", "Maini et al.", 2024, "https://github.com/locuslab/tofu"
    )
    Config: ClassVar[type[MethodConfig]] = IDKConfig
    config: IDKConfig

    @classmethod
    def needs_of(cls, config: MethodConfig) -> frozenset[Need]:
        """Rows' own alternates are a need; refusals come with the package."""
        return alternate_needs(config)

    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the token mean of the refusals' negative log-likelihood."""
        scores = views["alternate"]
        return LossOutput(scores.token_mean(nll_loss(scores.logp)))
