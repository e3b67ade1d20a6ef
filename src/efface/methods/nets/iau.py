"""Influence Approximation Unlearning (IAU), Liu et al. 2025, arXiv 2507.23257.

Removing rows is treated as adding virtual ones with the opposite gradient, so that an ordinary step stands in for the influence
step (1/n) H^-1 grad l; a descent on the retain rows corrects it:

g = w grad L_r - grad L_f;   theta <- theta_0 - lr d(g)

It works best on a net trained with gradient restriction (GR): CE + alpha ||grad CE||, alpha = 0.005 (``gradient_penalty`` of the
recipe; :func:`gradient_norm` is the norm). Reference code: Lolo1222/IAU (no licence; formulas only). What it does that the paper
leaves open, and what is offered beside it:

- L_r and L_f are MEANS over their own set (``scale="mean"``); sums divided by the same n (``"sum_over_n"``) are nearer to the
  derivation, and then the forget term has the weight n_f / n.
- The step is the first of a fresh Adam, d(g) = g / (|g| + 1e-8): every weight moves by lr (``step="adam_sign"``); ``"sgd"`` is
  d(g) = g, ``"diag_fisher"`` is g over the damped diagonal of the retain rows' Fisher matrix.
- lr is fixed to 1e-3 there, and it is the whole method; the default takes the largest one at which the retain loss rises by at
  most ``tolerance``.
- The norm of GR is a SUM of one norm per tensor there (``per_tensor``), one norm in the paper (``global``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import NetConfig, NetData, NetMethod, NetTools
from efface.methods.nets.gradients import Gradients, diagonal_fisher, mean_gradient, mean_loss, trained

__all__ = ["IAU", "IAUConfig", "combined_gradient", "direction", "gradient_norm"]

ADAM_EPSILON = 1e-8
ROOT_FLOOR = 1e-12
"""Under the root of a norm, which has no gradient at 0."""
RATES = tuple(10 ** (exponent / 4) for exponent in range(-24, 5))
"""Learning rates of the search: 1e-6 to 10, four per decade."""


def gradient_norm(gradients: Sequence[Tensor], *, kind: Literal["per_tensor", "global"] = "per_tensor") -> Tensor:
    """Return the length of a gradient given as one tensor per parameter, a differentiable scalar.

    Args:
        gradients: Gradient of the batch-mean loss per parameter tensor, made with ``create_graph``.
        kind: "per_tensor" adds one length per tensor (the reference code), "global" takes one over all (the paper).
    """
    squares = torch.stack([gradient.square().sum() for gradient in gradients])
    if kind == "global":
        return (squares.sum() + ROOT_FLOOR).sqrt()
    return (squares + ROOT_FLOOR).sqrt().sum()


def combined_gradient(retain: Tensor, forget: Tensor, *, weight: float = 1.0, forget_share: float | None = None) -> Tensor:
    """Return g of one parameter.

    Args:
        retain: Gradient of the mean loss over the retain rows.
        forget: The same over the forget rows.
        weight: w.
        forget_share: n_f / n for sums divided by n; None for the two means as they are.
    """
    if forget_share is None:
        return weight * retain - forget
    return weight * (1 - forget_share) * retain - forget_share * forget


def direction(gradient: Tensor, step: str, *, fisher: Tensor | None = None, damping: float = 0.01) -> Tensor:
    """Return d(g) of one parameter for "sgd", "adam_sign" or "diag_fisher" (with the diagonal ``fisher``)."""
    if step == "adam_sign":
        return gradient / (gradient.abs() + ADAM_EPSILON)
    if step == "diag_fisher" and fisher is not None:
        return gradient / (fisher + damping)
    return gradient


class IAUConfig(NetConfig):
    """Hyper-parameters of IAU."""

    step: Literal["sgd", "adam_sign", "diag_fisher"] = Field("adam_sign", description="adam_sign: as published.")
    scale: Literal["mean", "sum_over_n"] = Field("mean", description="mean: as published.")
    learning_rate: float | Literal["search"] = Field("search", description="1e-3 in the reference code.")
    tolerance: float = Field(0.05, ge=0, description="Rise of the mean retain loss (in its own unit) that the search accepts.")
    retain_weight: float = Field(1.0, ge=0, description="w.")
    steps: int = Field(1, ge=1, description="Gradients and steps; one in the paper.")
    damping: float = Field(0.01, gt=0, description="Of the diagonal Fisher matrix.")


class IAU(NetMethod):
    """One first-order step up on the forget rows and down on the retain rows."""

    name: ClassVar[str] = "iau"
    summary: ClassVar[str] = "one first-order step in place of an influence step"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    batch_norm: ClassVar[Literal["train", "eval"]] = "eval"
    approach: ClassVar[str] = "influence"
    paper: ClassVar[Paper | None] = Paper(
        "Efficient Machine Unlearning via Influence Approximation",
        "2507.23257",
        "Liu et al.",
        2025,
        "https://github.com/Lolo1222/IAU",
    )
    Config: ClassVar[type[MethodConfig]] = IAUConfig
    config: IAUConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Take the gradients over both sets in chunks and make the step, ``steps`` times."""
        config = self.config
        share = len(data.forget) / (len(data.forget) + len(data.kept)) if config.scale == "sum_over_n" else None
        forget = tools.loader(data.forget, shuffle=False, batch_size=config.batch_size)
        retain = tools.loader(data.kept, shuffle=False, batch_size=config.batch_size)
        for _ in range(config.steps):
            net.train(self.mode == "train")
            of_retain, of_forget = mean_gradient(net, retain, tools.loss), mean_gradient(net, forget, tools.loss)
            fisher = diagonal_fisher(net, retain, tools.loss) if config.step == "diag_fisher" else {}
            moves = {
                name: direction(
                    combined_gradient(of_retain[name], of_forget[name], weight=config.retain_weight, forget_share=share),
                    config.step,
                    fisher=fisher.get(name),
                    damping=config.damping,
                )
                for name in of_retain
            }
            rate = self._search(net, moves, retain, tools) if config.learning_rate == "search" else config.learning_rate
            move(net, moves, rate)
        return net

    def _search(self, net: nn.Module, moves: Gradients, retain: Any, tools: NetTools) -> float:
        """Return the largest learning rate before the retain loss has risen by more than the tolerance."""
        before, best = mean_loss(net, retain, tools.loss), 0.0
        for rate in RATES:
            move(net, moves, rate)
            after = mean_loss(net, retain, tools.loss)
            move(net, moves, -rate)
            if not after <= before + self.config.tolerance:
                break
            best = rate
        tools.note(f"IAU's search took the learning rate {best:.3g} (retain loss {before:.3g} before).")
        return best


def move(net: nn.Module, moves: Gradients, rate: float) -> None:
    """Subtract ``rate`` times ``moves`` from the net's parameters."""
    with torch.no_grad():
        for name, parameter in trained(net).items():
            parameter.sub_(rate * moves[name])
