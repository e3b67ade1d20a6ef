"""KL to the reference model on the retain rows.

L_retain = (1/N) sum_t KL(p_ref(. | x, y_<t) || p(. | x, y_<t)), the reference first, gradients through the second argument only.

Deviation: the field's code averages over all B x T positions, prompt and padding included, so that its value depends on the
padding; ours reads the answer tokens, or every real token with ``positions="all"``. :func:`dense_kl_loss` is the published form.
MUSE's repository gives raw logits to ``kl_div``, which is no KL at all and is not offered.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from efface.methods.base import LossOutput, MethodConfig, Need, Paper, ReferenceKind, ReferenceLookup, Retention, RetentionConfig
from efface.models.scoring import AnswerScores

__all__ = ["RetainKL", "RetainKLConfig", "dense_kl_loss", "kl_loss"]


def kl_loss(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Return KL(reference || model) per position.

    Args:
        logits: Logits of the trained model, (..., V).
        reference_logits: Logits of the reference model, (..., V), without gradients.

    Returns:
        Values >= 0, (...), in float32 or wider.
    """
    logits, reference_logits = _wide(logits), _wide(reference_logits).detach()
    reference_logp = reference_logits.log_softmax(-1)
    return (reference_logp.exp() * (reference_logp - logits.log_softmax(-1))).sum(-1)


def dense_kl_loss(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Return the published retain KL of OpenUnlearning: the mean over all (B, T) positions of logits (B, T, V) -> scalar."""
    return kl_loss(logits, reference_logits).mean()


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


class RetainKLConfig(RetentionConfig):
    """Hyper-parameters of the KL term."""

    positions: Literal["answer", "all"] = Field(
        "answer", description='Tokens to compare: the answers\' own, or "all" real tokens, prompts included (needs no labels).'
    )


class RetainKL(Retention):
    """Keep the reference model's next-token distributions."""

    name: ClassVar[str] = "kl"
    summary: ClassVar[str] = "KL(reference || model) on the retain rows"
    paper: ClassVar[Paper | None] = Paper(
        "TOFU: A Task of Fictitious Unlearning for LLMs", "2401.06121", "Maini et al.", 2024, "https://github.com/locuslab/tofu"
    )
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_SET, Need.REFERENCE})
    Config: ClassVar[type[MethodConfig]] = RetainKLConfig
    config: RetainKLConfig

    @property
    def positions(self) -> Literal["answer", "all", "dense"]:
        """Answer tokens, or every real token."""
        return self.config.positions

    @property
    def reference(self) -> frozenset[ReferenceKind]:
        """The reference's final hidden states, from which its logits follow."""
        return frozenset({ReferenceKind.FINAL_HIDDEN})

    def loss(self, retain: AnswerScores, reference: ReferenceLookup | None) -> LossOutput:
        """Return the token mean of the divergence."""
        if reference is None:
            raise TypeError("The retention term kl has no reference values. It needs the reference model's logits. Pass a lookup.")
        return LossOutput(retain.token_mean(kl_loss(retain.logits, reference.logits(retain))))
