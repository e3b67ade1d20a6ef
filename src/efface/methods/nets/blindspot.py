"""Blindspot unlearning of a regressor: on what must go, answer like a net that hardly trained and never saw it.

Deep Regression Unlearning, Tarun, Chundawat, Mandal, Kankanhalli, ICML 2023, arXiv 2210.08196; code:
ayu987/deep-regression-unlearning.

A blindspot net B, freshly initialised, is trained on D_r for a short while and frozen. Then, on shuffled batches of all rows, u = 1
for those that must go and w = mean(u):

    L = (1 - w) mean_{u=0} l(M(x), y) + w [ mean_{u=1} l(M(x), B(x)) + beta sum_j A(M_j(x), B_j(x)) ]
    A(P, Q) = mean (a(P) - a(Q))^2,   a(P) = v / max(||v||, 1e-12),   v = mean over dim 1 of P^2, flattened, per row

l is the loss of the problem; of quantiles, each of M is held against the same one of B by its own loss, and they are summed.

Deviations:
- ``attention="unitwise"`` (default): for activations (B, d) v = P^2, one entry per unit. The published code (``"reference"``)
  takes the mean over dim 1 there too; its one number per row becomes 1 by the normalisation, so that the term and its gradient
  are exactly 0. For (B, C, H, W) and (B, T, d) the two are the same; for the latter the mean runs over time.
- B and then the net are trained for 5 epochs or 120 steps, whichever is more; the published 2 epochs of B and 1 of the net are
  too few on small data, and the quality of the result hangs on B.
- No augmentation but what the training rows themselves carry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import ConcatDataset

from efface.data.net_batches import Relabelled
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, LabelNeed, NetData, NetMethod, NetTools, StepLoss, Turn, make_optimizer
from efface.models.activations import Activations, forward, on_device
from efface.models.net_losses import NetLoss

__all__ = ["Blindspot", "BlindspotConfig", "attention_difference", "attention_map", "blindspot_loss", "forget_loss"]

Attention = Literal["unitwise", "reference"]


def attention_map(activation: Tensor, attention: Attention = "unitwise") -> Tensor:
    """Return a(P), (B, rest): squares, averaged over dim 1 (not for (B, d) when unitwise), flattened, of length 1 per row."""
    squares = activation.square()
    if not (attention == "unitwise" and activation.dim() == 2):
        squares = squares.mean(1)
    return functional.normalize(squares.reshape(len(activation), -1), dim=1, eps=1e-12)


def attention_difference(first: Tensor, second: Tensor, attention: Attention = "unitwise") -> Tensor:
    """Return A(P, Q), a scalar: the mean squared difference of the attention maps."""
    return (attention_map(first, attention) - attention_map(second, attention)).square().mean()


def forget_loss(
    outputs: Tensor,
    blind_outputs: Tensor,
    activations: Sequence[Tensor],
    blind_activations: Sequence[Tensor],
    *,
    beta: float,
    attention: Attention = "unitwise",
    distance: Callable[[Tensor, Tensor], Tensor] = functional.l1_loss,
) -> Tensor:
    """Return l(M(x), B(x)) + beta sum_j A(M_j, B_j) of the rows that must go, a scalar.

    Args:
        outputs: Of the net, (B, ...).
        blind_outputs: Of the blindspot net, same shape.
        activations: Of the net, one (B, ...) per layer.
        blind_activations: Of the blindspot net.
        beta: Weight of the attention term.
        attention: See the module's text.
        distance: l, of the net's and the blindspot net's outputs.
    """
    loss = distance(outputs, blind_outputs)
    pairs = zip(activations, blind_activations, strict=True)
    return loss + beta * sum((attention_difference(p, q, attention) for p, q in pairs), start=torch.zeros_like(loss))


def blindspot_loss(
    net: Activations,
    blindspot: Activations,
    loss: NetLoss,
    *,
    beta: float,
    attention: Attention = "unitwise",
) -> StepLoss:
    """Return the loss of a batch ``(x, (y, u))`` of all rows, u = 1 where a row must go; labels of such rows are not read."""

    def step(_: nn.Module, batch: Any) -> Tensor:
        x, (y, flags) = batch
        must_go = flags.to(torch.bool)
        share = must_go.float().mean().item()
        outputs, activations = net.both(x)
        total = outputs.new_zeros(())
        if share < 1:
            total = total + (1 - share) * loss(outputs[~must_go], y[~must_go])
        if share > 0:
            with torch.no_grad():
                blind_outputs, blind_activations = blindspot.both(_rows(x, must_go))
            seen = [activation[must_go] for activation in activations]
            total = total + share * forget_loss(
                outputs[must_go], blind_outputs, seen, blind_activations, beta=beta, attention=attention, distance=loss.imitation
            )
        return total

    return step


def _rows(x: Any, chosen: Tensor) -> Any:
    if isinstance(x, Tensor):
        return x[chosen]
    return {k: _rows(v, chosen) for k, v in x.items()} if isinstance(x, dict) else type(x)(_rows(v, chosen) for v in x)


class BlindspotConfig(GradientConfig):
    """Hyper-parameters of Blindspot unlearning."""

    # None is a choice made once the number of batches is known.
    epochs: int | None = Field(  # type: ignore[assignment]
        None,
        ge=1,
        description="Passes over all rows; None: 5 or 120 steps, whichever is more. The paper's code: 1 (images), 5 (text).",
    )
    learning_rate: float = Field(1e-3, gt=0, description="Adam; as in the paper's code.")
    beta: float = Field(50.0, ge=0, description="Weight of the attention term; 50 in the paper's code.")
    attention: Attention = Field(
        "unitwise", description="reference: activations (B, d) contribute nothing, as in the paper's code."
    )
    blindspot_epochs: int | None = Field(None, ge=1, description="Passes over the retain rows for the blindspot net.")
    blindspot_steps: int | None = Field(None, ge=1, description="Or steps; neither: 5 epochs or 120 steps, whichever is more.")
    blindspot_learning_rate: float | None = Field(
        None, gt=0, description="None: ten times learning_rate, as in the paper's code (0.01 against 0.001)."
    )


class Blindspot(NetMethod):
    """Answer on what must go like a net that never saw it."""

    name: ClassVar[str] = "blindspot"
    summary: ClassVar[str] = "imitation, on the forget rows, of a briefly trained net that never saw them"
    paper: ClassVar[Paper | None] = Paper(
        "Deep Regression Unlearning",
        "2210.08196",
        "Tarun, Chundawat, Mandal, Kankanhalli",
        2023,
        "https://github.com/ayu987/deep-regression-unlearning",
    )
    tasks: ClassVar[frozenset[str]] = frozenset({"regression", "forecasting"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET, Need.HIDDEN_STATES})
    needs_labels: ClassVar[LabelNeed] = "retain"
    level: ClassVar[str] = "output"
    approach: ClassVar[str] = "imitation of a partly trained net"
    Config: ClassVar[type[MethodConfig]] = BlindspotConfig
    config: BlindspotConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Train the blindspot net, then the net on all rows."""
        settings = self.config
        blindspot = self._blindspot(data, tools)
        hidden = tools.activations(net)
        batches = tools.loader(_flagged(data), batch_size=settings.batch_size)
        hidden.names(on_device(next(iter(batches))[0], tools.device))
        loss = blindspot_loss(hidden, hidden.on(blindspot), tools.loss, beta=settings.beta, attention=settings.attention)
        tools.fit(
            net,
            batches,
            Turn(loss, make_optimizer(net.parameters(), settings)),
            epochs=settings.epochs or _enough_epochs(len(batches)),
            mode=self.mode,
            max_grad_norm=settings.max_grad_norm,
        )
        return net

    def _blindspot(self, data: NetData, tools: NetTools) -> nn.Module:
        settings = self.config
        batches = tools.loader(data.kept, batch_size=settings.batch_size)
        steps, epochs = settings.blindspot_steps, settings.blindspot_epochs
        if epochs is None:
            epochs = _enough_epochs(len(batches)) if steps is None else math.ceil(steps / len(batches))
        blindspot = tools.fresh()
        rate = settings.blindspot_learning_rate or 10 * settings.learning_rate
        step = Turn(
            lambda net, batch: tools.loss(forward(net, batch[0]), batch[1]),
            make_optimizer(blindspot.parameters(), settings, learning_rate=rate),
        )
        tools.fit(blindspot, batches, step, epochs=epochs, max_steps=steps, label="blindspot net")
        return blindspot.eval().requires_grad_(False)


def _enough_epochs(batches: int) -> int:
    """Return 5, or as many epochs of so many batches as make 120 steps."""
    return max(5, math.ceil(120 / batches))


def _flagged(data: NetData) -> Any:
    """All rows with labels ``(y, u)``; a forget row's y is a filler that is never read."""
    labels = data.labels("retain")
    filler = torch.zeros((len(data.forget), *labels.shape[1:]), dtype=labels.dtype)
    forget = Relabelled(data.forget, (filler, torch.ones(len(data.forget))))
    return ConcatDataset([forget, Relabelled(data.kept, (labels, torch.zeros(len(data.kept))))])
