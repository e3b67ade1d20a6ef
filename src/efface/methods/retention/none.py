"""No protection: the published form of GA and FLAT."""

from __future__ import annotations

from typing import ClassVar

from efface.methods.base import LossOutput, MethodConfig, Need, ReferenceLookup, Retention
from efface.models.scoring import AnswerScores

__all__ = ["NoRetention"]


class NoRetention(Retention):
    """Contributes nothing and needs nothing; the engine makes no retain pass for it."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "nothing protects the rest of the model"
    needs: ClassVar[frozenset[Need]] = frozenset()
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    @property
    def weight(self) -> float:
        """Always 0."""
        return 0.0

    def loss(self, retain: AnswerScores, reference: ReferenceLookup | None) -> LossOutput:
        """Return a zero that is connected to the scores, so that it can be added to anything."""
        return LossOutput(retain.logits.sum() * 0.0)
