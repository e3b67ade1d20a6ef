"""What objectives, retention terms and update rules share.

An objective is a small class around pure loss functions. It declares what it reads (``inputs``), which positions it needs and what
must be known of the reference model; the engine encodes, batches, runs the forward pass and hands over :class:`AnswerScores`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from efface.data.encoding import Encoded, Template
from efface.data.schema import Row
from efface.models.reference import ReferenceKind
from efface.models.scoring import AnswerScores
from efface.registry import config_error
from efface.results import Intention

__all__ = [
    "LossOutput",
    "MethodConfig",
    "Need",
    "Objective",
    "Paper",
    "Plug",
    "ReferenceKind",
    "ReferenceLookup",
    "Retention",
    "RetentionConfig",
    "TrainingData",
    "UpdateRule",
]


class Need(StrEnum):
    """What a method may ask for (DESIGN §10)."""

    RETAIN_SET = "retain_set"
    HOLDOUT_SET = "holdout_set"
    REFERENCE = "reference"
    ALTERNATE_ANSWERS = "alternate_answers"
    LABELS = "labels"
    HIDDEN_STATES = "hidden_states"
    GRADIENTS = "gradients"
    GENERATION = "generation"
    WEIGHTS = "weights"


class ReferenceLookup(Protocol):
    """Values of the reference model for the rows of an :class:`AnswerScores`, in its order."""

    def sequence_logp(self, scores: AnswerScores) -> Tensor:
        """Summed answer log-probability per row, (B,)."""

    def logits(self, scores: AnswerScores) -> Tensor:
        """Logits per answer token, (N, V), float32."""

    def activations(self, scores: AnswerScores, layer: int) -> Tensor:
        """Activations of ``layer`` per answer token, (N, d)."""


class MethodConfig(BaseModel):
    """Base of every plug's hyper-parameters: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method comes from."""

    title: str
    arxiv: str
    authors: str = ""
    year: int = 0
    code: str = ""

    @property
    def url(self) -> str:
        """Link to the abstract."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.code


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A scalar loss and the figures to log beside it (detached)."""

    loss: Tensor
    logs: Mapping[str, float | Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What :meth:`Objective.prepare` may read besides the model.

    Attributes:
        rows: Forget rows.
        forget: The same rows, encoded, in the same order.
        tokenizer: The model's tokenizer.
        template: How questions become prompts.
        pad_id: Filler id for batches.
        max_length: Longest sequence in tokens; None: no limit.
        seed: Unlearning seed.
    """

    rows: Sequence[Row]
    forget: Sequence[Encoded]
    tokenizer: Any
    template: Template
    pad_id: int = 0
    max_length: int | None = None
    seed: int = 0


class Plug(ABC):
    """Base of everything that is named and configured: ``NPO(beta=0.1)`` and ``{name: npo, beta: 0.1}`` are the same."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[Paper | None] = None
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, **hyperparameters: Any) -> None:
        try:
            self.config = self.Config(**hyperparameters)
        except ValidationError as error:
            raise config_error(self.name, self.Config, error) from None

    @classmethod
    def needs_of(cls, config: MethodConfig) -> frozenset[Need]:
        """Return what this plug needs under ``config``; most do not look at it."""
        return getattr(cls, "needs", frozenset())

    def resolved(self) -> dict[str, Any]:
        """Return ``{"name": ..., **hyper-parameters}`` with every default spelt out."""
        return {"name": self.name, **self.config.model_dump(mode="json")}


class Objective(Plug):
    """A forget loss.

    Class attributes:
        needs: What it needs besides the forget set.
        intention: What it sets out to do.
        inputs: Sequences it reads per forget row: "forget" (the row itself), "alternate" (same prompt, another answer).
        positions: "answer", "all" (every real token is labelled), or "dense" (padding too: published variants).
        reference: What it needs of the reference model.
        level: The SoK's level of access ("output", "weights", "representation").
        approach: The SoK's approach ("divergence", "preference", "representation misdirection", ...).
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    intention: ClassVar[Intention] = Intention.REMOVAL
    inputs: ClassVar[tuple[Literal["forget", "alternate"], ...]] = ("forget",)
    level: ClassVar[str] = "weights"
    approach: ClassVar[str] = ""

    @property
    def positions(self) -> Literal["answer", "all", "dense"]:
        """Which positions the loss reads."""
        return "answer"

    @property
    def reference(self) -> frozenset[ReferenceKind]:
        """What must be known of the reference model."""
        return frozenset()

    @property
    def layers(self) -> tuple[int, ...]:
        """Decoder layers whose activations the loss reads (negative counts from the end)."""
        return ()

    def trainable(self, model: Any) -> list[str] | None:
        """Names of the parameters to train, or None for whatever the adapter trains."""
        return None

    def prepare(self, model: Any, *, generator: torch.Generator, data: TrainingData | None = None) -> None:
        """Draw or measure what is settled once before training (RMU's control vector, AltPO's answers); most do nothing.

        A resumed run calls it again: the same seed, model and rows must give the same.
        """

    def alternates(self, row: Row) -> Sequence[str]:
        """Return the answers that the view "alternate" of a forget row is drawn from; by default its settings say which."""
        from efface.methods.refusals import AlternateConfig, alternates_of

        if not isinstance(self.config, AlternateConfig):
            raise TypeError(f"{self.name} says nothing of alternate answers. Its settings must name them. Inherit AlternateConfig.")
        return alternates_of(row, self.config)

    @abstractmethod
    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the forget loss of one batch; reductions go through the scores' ``token_mean`` and ``row_mean``."""


class RetentionConfig(MethodConfig):
    """What every retention term has."""

    weight: float = Field(1.0, ge=0, description="Factor of the retain loss (alpha in the field's code).")


class Retention(Plug):
    """A term on the retain rows that protects the rest of the model; ``NLL(1.0)`` is ``NLL(weight=1.0)``.

    Class attributes:
        needs: What it needs of the request.
        inputs: Sequences it reads per retain row: "retain" (the row itself), "retain_alternate" (same prompt, a refusal).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_SET})
    inputs: ClassVar[tuple[Literal["retain", "retain_alternate"], ...]] = ("retain",)
    Config: ClassVar[type[MethodConfig]] = RetentionConfig

    def __init__(self, weight: float | None = None, **hyperparameters: Any) -> None:
        super().__init__(**({} if weight is None else {"weight": weight}), **hyperparameters)

    @property
    def weight(self) -> float:
        """Factor of the retain loss; 1 where the term has no such setting."""
        return float(getattr(self.config, "weight", 1.0))

    @property
    def positions(self) -> Literal["answer", "all", "dense"]:
        """Which positions the loss reads."""
        return "answer"

    @property
    def reference(self) -> frozenset[ReferenceKind]:
        """What must be known of the reference model."""
        return frozenset()

    @property
    def layers(self) -> tuple[int, ...]:
        """Decoder layers whose activations the loss reads."""
        return ()

    def compute(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the retain loss of one batch; a term that reads more than the retain rows themselves overrides this one."""
        return self.loss(views["retain"], reference)

    @abstractmethod
    def loss(self, retain: AnswerScores, reference: ReferenceLookup | None) -> LossOutput:
        """Return the loss of the retain rows."""


class UpdateRule(Plug):
    """How the forget and retain losses become one update.

    Most rules need the two losses alone (:meth:`combine`). One with ``needs_separate_gradients`` is given both gradients of the
    whole optimiser step, over all trained parameters, micro-batches and processes, as lists of tensors in the same order; they
    are gradients of the unweighted losses, so that a rule says itself where the weights enter.

    Class attributes:
        needs_separate_gradients: Whether :meth:`combine_gradients` makes the update; ``combine`` is then only what is logged.
        needs_retain: Whether there is nothing to combine without a retain term.
    """

    needs_separate_gradients: ClassVar[bool] = False
    needs_retain: ClassVar[bool] = False

    def combine(self, forget: Tensor, retain: Tensor | None, *, forget_weight: float, retain_weight: float) -> Tensor:
        """Return the scalar to differentiate, ``forget_weight * forget + retain_weight * retain`` unless a rule says otherwise."""
        total = forget_weight * forget
        return total if retain is None else total + retain_weight * retain

    def displacement(self, forget: Sequence[Tensor]) -> list[Tensor] | None:
        """Return how far from the weights the forget gradient is taken anew, given the one at the weights; None: nowhere else."""
        return None

    def combine_gradients(
        self, forget: Sequence[Tensor], retain: Sequence[Tensor] | None, *, forget_weight: float, retain_weight: float
    ) -> list[Tensor]:
        """Return the step's gradient from the gradients of the two unweighted losses, one tensor per trained parameter."""
        if retain is None:
            return [forget_weight * f for f in forget]
        return [forget_weight * f + retain_weight * r for f, r in zip(forget, retain, strict=True)]

    def after_step(self, figures: Mapping[str, float], *, epoch: float) -> dict[str, float]:
        """Take note of an optimiser step's own losses ("loss_forget", "loss_retain") and return what to log beside them."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State to save with a checkpoint: numbers and tensors, possibly in lists."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """Restore :meth:`state_dict`."""
        return self
