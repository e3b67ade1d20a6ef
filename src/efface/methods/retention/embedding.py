"""Keep the activations of one layer where the reference model has them: RMU's retain term.

L_retain = mean over rows of the row's mean over answer tokens of ||h_t - h_t^ref||^2 / d.

Deviations: the original code averages over all positions including padding. OpenUnlearning sums over tokens and then divides a
[B] by a [B, 1] tensor, which broadcasts to [B, B]; ``variant="reference"`` computes that value, the default the intended one.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from efface.errors import InputError
from efface.methods.base import LossOutput, MethodConfig, Need, ReferenceKind, ReferenceLookup, Retention, RetentionConfig
from efface.methods.objectives.rmu import RMU, reduce_squares, squared_distance
from efface.models.scoring import AnswerScores

__all__ = ["RetainEmbedding", "RetainEmbeddingConfig"]


class RetainEmbeddingConfig(RetentionConfig):
    """Hyper-parameters of the activation term."""

    layer: int | None = Field(None, description="Decoder layer, 0 = first, negative from the end; None: the objective's own layer.")
    variant: Literal["default", "reference"] = Field("default", description='"reference": OpenUnlearning\'s broadcast mean.')


class RetainEmbedding(Retention):
    """Keep one layer's activations on the retain rows."""

    name: ClassVar[str] = "embedding"
    summary: ClassVar[str] = "mean squared distance of one layer's activations to the reference's"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_SET, Need.REFERENCE, Need.HIDDEN_STATES})
    paper = RMU.paper
    Config: ClassVar[type[MethodConfig]] = RetainEmbeddingConfig
    config: RetainEmbeddingConfig

    @property
    def layer(self) -> int:
        """The layer that is compared.

        Raises:
            InputError: When none was given; a method that reads a layer itself fills it in.
        """
        if self.config.layer is None:
            raise InputError(
                "The retention term embedding has no layer. It takes the objective's where that reads one (rmu), else its own. "
                "Set retention: {name: embedding, layer: 7}, for example."
            )
        return self.config.layer

    @property
    def reference(self) -> frozenset[ReferenceKind]:
        """The reference's activations."""
        return frozenset({ReferenceKind.ACTIVATIONS})

    @property
    def layers(self) -> tuple[int, ...]:
        """The one layer."""
        return (self.layer,)

    def loss(self, retain: AnswerScores, reference: ReferenceLookup | None) -> LossOutput:
        """Return the mean squared distance to the reference's activations."""
        if reference is None:
            raise TypeError("The retention term embedding has no reference values. It needs activations. Pass a lookup.")
        squares = squared_distance(retain.hidden[self.layer], reference.activations(retain, self.layer))
        return LossOutput(reduce_squares(retain, squares, variant=self.config.variant))
