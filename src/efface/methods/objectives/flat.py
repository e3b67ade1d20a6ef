"""FLAT: LLM Unlearning via Loss Adjustment with Only Forget Data, Wang et al. 2024, arXiv 2410.11143.

Reference code: github.com/UCSC-REAL/FLAT (``get_contrastive_loss``, ``ProbLossStable``).

P(x, y) = (1/|y|) sum_t p(y_t | x, y_<t), the mean token probability of an answer (probabilities, not log-probabilities).
L = mean_b [ - g(P(x_b, e_b)) + f*(g(P(x_b, y_b))) ], y_b the forget answer, e_b a template answer (a refusal); f* is the conjugate
of an f-divergence and g its activation:

    tv       g = tanh(v) / 2            f*(u) = u
    kl       g = v                      f*(u) = exp(u - 1)
    js       g = ln 2 - ln(1 + e^-v)    f*(u) = - ln(2 - e^u)
    pearson  g = v                      f*(u) = u^2 / 4 + u
    jeffrey  g = v                      f*(u) as its Taylor polynomial u + u^2/4 + u^3/16 (the code's)

Deviations. The code divides the summed probabilities by all B (T - 1) positions and applies g and f* to that one number, so that
the loss shrinks with padding; the paper's form, one value per row, is the default and ``variant="reference"`` the code's. With the
code's activations, reverse KL, squared Hellinger and Neyman lower the template instead of raising it: the method refuses them, and
:func:`flat_loss` computes them only as ``variant="reference"`` (Neyman with the code's missing activation).
The gradient of P vanishes where the template is implausible: below 1e-3 at the first step a warning says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from efface.errors import InputError
from efface.methods.base import LossOutput, MethodConfig, Need, Objective, Paper, ReferenceLookup
from efface.methods.refusals import AlternateConfig, alternate_needs
from efface.models.scoring import AnswerScores

__all__ = [
    "DIVERGENCES",
    "FLAT",
    "IMPLAUSIBLE",
    "FLATConfig",
    "check_first_step",
    "flat_loss",
    "mean_probability",
    "padded_probability",
]

IMPLAUSIBLE = 1e-3
"""Template probability below which FLAT has nothing to hold on to."""

_PUBLISHED = {
    "total_variation": "tv",
    "jenson_shannon": "js",
    "jensen_shannon": "js",
    "reverse_kl": "reverse_kl",
    "squared_hellinger": "squared_hellinger",
}
_LN2 = math.log(2.0)

# name -> (g(P_template), f*(g(P_forget))), both as functions of the probability v
_TERMS: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tv": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "kl": (lambda v: v, lambda v: (v - 1).exp()),
    "js": (lambda v: _LN2 - F.softplus(-v), lambda v: F.softplus(v) - _LN2),
    "pearson": (lambda v: v, lambda v: v**2 / 4 + v),
    "jeffrey": (lambda v: v, lambda v: v + v**2 / 4 + v**3 / 16),
    "reverse_kl": (lambda v: -v.exp(), lambda v: -1 - v),
    "squared_hellinger": (lambda v: 1 - v.exp(), lambda v: (1 - v.exp()) / v.exp()),
    "neyman": (lambda v: 1 - v.exp(), lambda v: 2 - 2 * (1 - v).sqrt()),
}
DIVERGENCES = ("kl", "tv", "js", "pearson", "jeffrey")
"""Divergences whose gradient raises the template and lowers the forget answer everywhere."""


def _canonical(divergence: str) -> str:
    name = divergence.strip().lower().replace("-", "_").replace(" ", "_")
    return _PUBLISHED.get(name, name)


def flat_loss(template: Tensor, forget: Tensor, divergence: str, *, variant: Literal["default", "reference"] = "default") -> Tensor:
    """Return ``-g(template) + f*(g(forget))``, element by element.

    Args:
        template: Mean token probability of the template answers, in [0, 1], any shape.
        forget: Mean token probability of the forget answers, same shape.
        divergence: One of :data:`DIVERGENCES`; the paper's own names are understood.
        variant: "reference" also computes the three divergences that push the wrong way.

    Raises:
        InputError: When the divergence is not known, or pushes the wrong way and is not asked for as a reference.
    """
    name = _canonical(divergence)
    if name not in _TERMS or (name not in DIVERGENCES and variant != "reference"):
        raise InputError(_refusal(divergence, name))
    activation, composite = _TERMS[name]
    return composite(forget) - activation(template)


def mean_probability(scores: AnswerScores) -> Tensor:
    """Return the paper's P of each row, the mean probability of its own answer tokens -> (B,)."""
    return scores.sequence_mean(scores.logp.exp())


def padded_probability(scores: AnswerScores) -> Tensor:
    """Return the code's P of a whole batch, the summed probability over B (T - 1) positions -> scalar; needs dense labels."""
    if scores.dense_labels is None:
        raise TypeError("FLAT's reference variant has no padding to count. It needs dense scores. Score with dense=True.")
    positions = scores.num_rows * (scores.dense_labels.shape[1] - 1)
    return scores.logp.exp().sum() / max(positions, 1)


def _refusal(divergence: str, name: str) -> str:
    accepted = f"Accepted are {', '.join(DIVERGENCES)}."
    if name in _TERMS:
        return (
            f"FLAT with the divergence {divergence!r} lowers the template answer's probability instead of raising it. {accepted} "
            "Choose kl or tv."
        )
    return f"FLAT knows no divergence {divergence!r}. {accepted} Choose kl or tv."


def check_first_step(logs: Mapping[str, float]) -> str | None:
    """Return a warning when the template answers were too implausible at the first step for FLAT to learn them, else None."""
    probability = logs.get("template_probability")
    if probability is None or float(probability) >= IMPLAUSIBLE:
        return None
    return (
        f"The template answers had a mean token probability of {float(probability):.1e} at the first step, below {IMPLAUSIBLE:g}: "
        "FLAT's gradient towards them vanishes and it acts as undirected ascent. Use refusals the model already knows, run a few "
        "steps of idk first, or set probability: geometric."
    )


class FLATConfig(AlternateConfig):
    """Hyper-parameters of FLAT."""

    divergence: str = Field("kl", description="kl, tv, js or pearson as in the paper; jeffrey as in its code.")
    probability: Literal["mean", "geometric"] = Field(
        "mean",
        description='"mean": the paper\'s mean token probability; "geometric": exp of the mean log-probability, not in the paper.',
    )
    variant: Literal["default", "reference"] = Field("default", description='"reference": the code\'s padding-diluted batch value.')

    @field_validator("divergence")
    @classmethod
    def _known(cls, value: str) -> str:
        name = _canonical(value)
        if name not in DIVERGENCES:
            raise ValueError(_refusal(value, name))
        return name


class FLAT(Objective):
    """Maximise an f-divergence between a template answer and the forget answer; no retain data, no reference model."""

    name: ClassVar[str] = "flat"
    summary: ClassVar[str] = "raise a template answer and lower the forget answer, from forget data alone"
    inputs: ClassVar[tuple[Literal["forget", "alternate"], ...]] = ("forget", "alternate")
    approach: ClassVar[str] = "divergence"
    paper: ClassVar[Paper | None] = Paper(
        "LLM Unlearning via Loss Adjustment with Only Forget Data",
        "2410.11143",
        "Wang et al.",
        2024,
        "https://github.com/UCSC-REAL/FLAT",
    )
    Config: ClassVar[type[MethodConfig]] = FLATConfig
    config: FLATConfig

    @classmethod
    def needs_of(cls, config: MethodConfig) -> frozenset[Need]:
        """Rows' own alternates are a need; refusals come with the package."""
        return alternate_needs(config)

    @property
    def positions(self) -> Literal["answer", "all", "dense"]:
        """Answer tokens; the code's value depends on the padding."""
        return "dense" if self.config.variant == "reference" else "answer"

    def loss(self, views: Mapping[str, AnswerScores], reference: ReferenceLookup | None) -> LossOutput:
        """Return the row mean of the loss, and the two mean probabilities to log."""
        forget, alternate = views["forget"], views["alternate"]
        if self.config.variant == "reference":
            value = flat_loss(padded_probability(alternate), padded_probability(forget), self.config.divergence)
            loss = forget.row_mean(value.expand(forget.num_rows))  # one value per micro-batch, weighted by its rows
        else:
            loss = forget.row_mean(flat_loss(self._probability(alternate), self._probability(forget), self.config.divergence))
        logs = {
            "template_probability": alternate.row_mean(mean_probability(alternate).detach()),
            "forget_probability": forget.row_mean(mean_probability(forget).detach()),
        }
        return LossOutput(loss, logs)

    def check_first_step(self, logs: Mapping[str, float]) -> str | None:
        """Return a warning when the first step found the templates too implausible to be learnt."""
        return check_first_step(logs)

    def _probability(self, scores: AnswerScores) -> Tensor:
        if self.config.probability == "geometric":
            return scores.sequence_mean(scores.logp).exp()
        return mean_probability(scores)
