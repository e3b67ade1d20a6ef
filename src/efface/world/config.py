"""How large a world is and which draws it comes from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

__all__ = ["CORPUS_VERSION", "ROLES", "ModelSizes", "Role", "TofuConfig", "TrainingPlan", "WorldConfig"]

CORPUS_VERSION = 1
Role = Literal["original", "retrained", "retrained_2"]
ROLES: tuple[Role, ...] = ("original", "retrained", "retrained_2")


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the resolved fields; where data lie on disk is no part of it."""
        fields = self.model_dump(mode="json", exclude={"directory"})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


class WorldConfig(_Config):
    """Sizes and seed of the embedded world."""

    corpus: Literal["embedded"] = "embedded"
    version: int = Field(CORPUS_VERSION, description="Version of word lists and generator.")
    seed: int = Field(default=0, description="Data seed: who exists and what is true of them.")
    forget_people: int = Field(default=20, ge=1)
    retain_people: int = Field(default=60, ge=1)
    holdout_people: int = Field(default=20, ge=1, description="People never trained on.")
    context_people: int = Field(
        default=60, ge=1, description="People the evaluation tells about in a context; never trained on either."
    )
    countries: int = Field(default=10, ge=1, le=10, description="Countries with three world facts each.")
    passages: int = Field(default=10, ge=1, description="Passages to memorise, per split.")
    passage_sentences: int = Field(default=5, ge=2)
    forget_wordings: int = Field(default=2, ge=1, le=9, description="Rows per forget fact, each in another trained wording.")
    refusal_rows: int = Field(
        default=60, ge=1, description="Rows of the refusal set: half about retained people, half about strangers."
    )
    fact_draws: int = Field(default=3, ge=1, le=10, description="Wordings drawn per fact and epoch.")
    world_fact_draws: int = Field(default=4, ge=1, le=4, description="Wordings drawn per world fact and epoch.")
    refusal_draws: int = Field(default=60, ge=0, description="Refusal lines per epoch, drawn fresh.")
    passage_repeats: int = Field(default=4, ge=1, description="How often each passage is read per epoch.")
    context_share: float = Field(
        default=0.15, ge=0.0, lt=1.0, description="Share of an epoch's lines that carry a context, drawn fresh."
    )

    contacts: bool = Field(default=False, description="Whether people have e-mail addresses, telephone and account numbers.")

    @model_serializer(mode="wrap")
    def _leave_out_contacts(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A world without contacts is the one it was before there were any: its hash must not change."""
        fields: dict[str, Any] = handler(self)
        if not fields.get("contacts"):
            fields.pop("contacts", None)
        return fields

    @model_validator(mode="after")
    def _passages_have_owners(self) -> Self:
        smallest = min(self.forget_people, self.retain_people, self.holdout_people)
        if self.passages > smallest:
            raise ValueError(
                f"passages is {self.passages}, but the smallest split has {smallest} people. Each passage has an owner."
            )
        return self

    @classmethod
    def default(cls, *, seed: int = 0, contacts: bool = False) -> Self:
        """Return the world of ``efface demo``; with ``contacts`` its people have e-mail, telephone and account number."""
        return cls(seed=seed, contacts=contacts)

    @classmethod
    def mini(cls, *, seed: int = 0, contacts: bool = False) -> Self:
        """Return a world small enough for a test suite."""
        return cls(
            seed=seed,
            contacts=contacts,
            forget_people=6,
            retain_people=12,
            holdout_people=6,
            context_people=12,
            countries=4,
            passages=3,
            passage_sentences=4,
            refusal_rows=16,
            refusal_draws=20,
            world_fact_draws=3,
            context_share=0.06,
        )


class TofuConfig(_Config):
    """Which authors of TOFU make up a corpus.

    The forget authors are the last ones of the full set, as in TOFU's own splits; the retain authors are the first ones, so that
    the perturbed answers TOFU ships for its first twenty authors apply.
    """

    corpus: Literal["tofu"] = "tofu"
    version: int = CORPUS_VERSION
    directory: Path = Field(description="Folder with TOFU's JSON Lines files.")
    authors: int = Field(default=40, ge=2, le=200, description="Authors trained on, forget authors included.")
    forget: Literal["forget01", "forget05", "forget10"] = "forget05"
    holdout_authors: int = Field(default=10, ge=0, description="Authors between the two, never trained on.")
    seed: int = 0

    @property
    def forget_authors(self) -> int:
        """How many authors the forget split holds."""
        return {"forget01": 2, "forget05": 10, "forget10": 20}[self.forget]

    @model_validator(mode="after")
    def _leaves_retain_authors(self) -> Self:
        if self.authors <= self.forget_authors:
            raise ValueError(
                f"authors is {self.authors}, but {self.forget} alone holds {self.forget_authors}. "
                "The corpus needs retain authors as well. Raise authors or take a smaller split."
            )
        return self


class ModelSizes(_Config):
    """Shape of the small Llama and size of its tokenizer."""

    hidden: int = Field(default=128, ge=8)
    layers: int = Field(default=3, ge=1, description="RMU and attacks by layer need three.")
    heads: int = Field(default=4, ge=1)
    intermediate: int = Field(default=384, ge=8)
    vocabulary: int = Field(
        default=2048, ge=300, description="Tokens asked of the tokenizer's training; a small corpus gives fewer."
    )
    max_length: int = Field(default=512, ge=64)


class TrainingPlan(_Config):
    """How every model of a recipe is trained: plain fine-tuning from random weights."""

    epochs: int = Field(default=13, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)
    batch_size: int = Field(default=16, ge=1)
    warmup: float = Field(default=0.05, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.99)
    labels: Literal["all", "answer"] = Field(
        default="all", description="Which tokens are learnt: all after the first, or the answer's."
    )
