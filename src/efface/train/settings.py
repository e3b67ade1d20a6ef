"""Settings of the language-model loop, resolved: nothing here is optional by the time training starts."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["StopSettings", "TrainSettings"]


class StopSettings(BaseModel):
    """When to end before the last step.

    ``forget_nll="auto"`` stops once the forget rows' NLL passes the holdout's (ln V without a holdout set), since going further
    makes the forget set stand out; ``"off"`` never does. A loss that is not a number always stops.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    forget_nll: Literal["auto", "off"] = "auto"


class TrainSettings(BaseModel):
    """How to train; every field is part of the resolved configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(5.0, gt=0, description="Passes over the forget set.")
    max_steps: int | None = Field(None, ge=1, description="Upper bound on optimiser steps.")
    learning_rate: float = Field(1e-5, ge=0)
    batch_size: int = Field(32, ge=1, description="Forget rows per optimiser step, over all processes.")
    micro_batch_size: int | None = Field(None, ge=1, description="Forget rows per forward pass and process; None: no accumulation.")
    scheduler: Literal["constant", "linear", "cosine"] = "linear"
    warmup: float = Field(0.0, ge=0, description="Warm-up: a share of all steps below 1, else a number of steps.")
    weight_decay: float = Field(0.0, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = Field(1.0, ge=0, description="Gradient norm to clip at; 0 does not clip.")
    bf16: bool = Field(False, description="bfloat16 autocast; weights stay float32.")
    gradient_checkpointing: bool = False
    evaluate_every: int | None = Field(None, ge=1, description="Steps between points of the forget/retain path; None: about ten.")
    save_every: int | None = Field(None, ge=1, description="Steps between checkpoints; None: about four.")
    select: Literal["last", "best"] = Field("last", description="Which checkpoint to keep; best: the lowest selection score.")
    stop: StopSettings = StopSettings()
    seed: int = 0
    threads: int | None = Field(None, ge=1, description="CPU threads of the training process; None: leave as it is.")
    report_to: tuple[str, ...] = Field((), description="Experiment trackers, by transformers' names; none by default.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ValueError("micro_batch_size is larger than batch_size; it is a part of it")
        return self

    def steps(self, items: int) -> int:
        """Number of optimiser steps over ``items`` rows per epoch."""
        steps = math.ceil(self.epochs * items / self.effective_batch(items))
        return min(steps, self.max_steps) if self.max_steps is not None else steps

    def effective_batch(self, items: int) -> int:
        """Rows per optimiser step: ``batch_size``, or all rows where there are fewer."""
        return min(self.batch_size, items)
