"""Certified Data Removal from Machine Learning Models, Guo, Goldstein, Hannun and van der Maaten, ICML 2020, arXiv 1911.03030.

Linear classifiers only, labels +-1, rows with ||x|| <= 1, written from the paper:

train    w = argmin  sum_i l(y_i w.x_i) + (lambda n / 2) ||w||^2 + b.w,   b ~ N(0, sigma^2 I) drawn once,   l logistic
remove   w <- w + H^-1 Delta,   Delta = sum over removed rows (grad l + lambda w),   H the Hessian of the SUM over the rows left
bound   += gamma ||X_r||_2 ||H^-1 Delta|| ||X_r H^-1 Delta||,   gamma = 1/4: how far the gradient over the rows left can be from 0

(epsilon, delta)-certified while the bound is at most sigma epsilon / c with delta = 1.5 exp(-c^2 / 2) (Theorem 3). The bound of an
empty history is the gradient training ended with, not 0 as in the paper, which assumes an exact minimiser. Several rows at once
use the summed gradient. With K > 2 classes there is one classifier per class against the rest, each with a b of its own: together
they are one model whose gradient is theirs in a row, and its bound the root of the sum of the squares of theirs.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from efface.errors import InputError
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import NetConfig, NetData, NetMethod, NetTools
from efface.results import Intention

__all__ = [
    "CertifiedLinear",
    "CertifiedRemoval",
    "CertifiedRemovalConfig",
    "allowed_bound",
    "newton_removal",
    "residual_bound",
    "row_gradient",
]

GAMMA = 0.25
"""Lipschitz constant of the logistic loss's second derivative."""


def row_gradient(w: Tensor, x: Tensor, y: Tensor, lam: float) -> Tensor:
    """Return sum over rows of grad l(y w.x) + lambda w, (d,), for rows x (m, d) and labels y of +-1, (m,)."""
    slope = torch.sigmoid(y * (x @ w)) - 1
    return x.T @ (slope * y) + lam * len(x) * w


def newton_removal(w: Tensor, x: Tensor, y: Tensor, gradient: Tensor, lam: float) -> Tensor:
    """Return H^-1 ``gradient``, H = X^T D X + lambda n I over the rows left, x (n, d) and y (n,)."""
    probability = torch.sigmoid(y * (x @ w))
    hessian = x.T @ (x * (probability * (1 - probability))[:, None])
    hessian.diagonal().add_(lam * len(x))
    solved: Tensor = torch.linalg.solve(hessian, gradient)
    return solved


def residual_bound(x: Tensor, delta: Tensor) -> Tensor:
    """Return gamma ||X||_2 ||delta|| ||X delta||, what one removal adds to the bound; x are the rows left, (n, d)."""
    bound: Tensor = GAMMA * torch.linalg.matrix_norm(x, 2) * delta.norm() * (x @ delta).norm()
    return bound


def allowed_bound(sigma: float, epsilon: float, delta: float) -> float:
    """Return sigma epsilon / c, c = sqrt(2 ln(1.5 / delta)): the largest bound that is still (epsilon, delta)-certified."""
    return sigma * epsilon / math.sqrt(2 * math.log(1.5 / delta))


class CertifiedLinear(nn.Module):
    """A linear classifier that rows can be removed from with a certificate; made by :meth:`trained_on`.

    Args:
        features: d, the length of a row.
        classes: K; two classes share one classifier.
        lam: lambda, the strength of the regularisation per row.
        sigma: Standard deviation of the perturbation b.
    """

    weight: Tensor
    perturbation: Tensor
    bound: Tensor

    def __init__(self, features: int, classes: int = 2, *, lam: float = 1e-3, sigma: float = 10.0) -> None:
        super().__init__()
        self.classes, self.lam, self.sigma = classes, lam, sigma
        rows = 1 if classes == 2 else classes
        self.weight = nn.Parameter(torch.zeros(rows, features, dtype=torch.float64))
        self.register_buffer("perturbation", torch.zeros(rows, features, dtype=torch.float64))
        self.register_buffer("bound", torch.full((rows,), math.inf, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K) for rows (B, d)."""
        scores = x.flatten(1).to(self.weight) @ self.weight.T
        return torch.cat([torch.zeros_like(scores), scores], dim=1) if self.classes == 2 else scores

    @classmethod
    def trained_on(cls, x: Tensor, y: Tensor, *, classes: int = 2, lam: float = 1e-3, sigma: float = 10.0, seed: int = 0) -> Self:
        """Train on rows of length at most 1, (n, d), with class numbers, (n,).

        Raises:
            InputError: When a row is longer than 1: the guarantee would be void.
        """
        rows = checked_rows(x)
        made = cls(rows.shape[1], classes, lam=lam, sigma=sigma)
        generator = torch.Generator().manual_seed(seed)
        made.perturbation.copy_(sigma * torch.randn(made.weight.shape, generator=generator, dtype=torch.float64))
        for index in range(len(made.weight)):
            made._minimise(index, rows, made.signs(y, index))
        return made

    def signs(self, y: Tensor, index: int) -> Tensor:
        """Return the labels of one classifier, +-1, (n,)."""
        positive = 1 if self.classes == 2 else index
        return torch.where(y.reshape(-1) == positive, 1.0, -1.0).to(self.weight)

    def gradient(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of one classifier's objective over the rows x with labels y of +-1, (d,)."""
        w = self.weight[index].detach()
        return row_gradient(w, x, y, self.lam) + self.perturbation[index]

    def _minimise(self, index: int, x: Tensor, y: Tensor) -> None:
        w = self.weight[index].detach().clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([w], max_iter=1000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            optimizer.zero_grad()
            fit = F.softplus(-y * (x @ w)).sum()
            # Per row, so that the tolerance means the same for every number of rows.
            value: Tensor = (fit + 0.5 * self.lam * len(x) * w.square().sum() + self.perturbation[index] @ w) / len(x)
            torch.autograd.backward(value)
            return value

        optimizer.step(objective)
        with torch.no_grad():
            self.weight[index] = w.detach()
            self.bound[index] = self.gradient(index, x, y).norm()


class CertifiedRemovalConfig(NetConfig):
    """Hyper-parameters of certified removal."""

    epsilon: float = Field(1.0, gt=0, description="epsilon of the certificate.")
    delta: float = Field(1e-4, gt=0, lt=1, description="delta of the certificate.")
    exceed: Literal["refuse", "note"] = Field(
        "refuse",
        description="What to do when the bound is used up: refuse (retrain instead), or go on and say that nothing is certified.",
    )


class CertifiedRemoval(NetMethod):
    """Take rows out of a perturbed linear classifier by a Newton step, and keep count of what is still certified."""

    name: ClassVar[str] = "certified_removal"
    summary: ClassVar[str] = "a Newton step on a perturbed linear classifier, with an (epsilon, delta) certificate"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    intention: ClassVar[Intention] = Intention.REMOVAL
    batch_norm: ClassVar[Literal["train", "eval"]] = "eval"
    approach: ClassVar[str] = "certified"
    paper: ClassVar[Paper | None] = Paper(
        "Certified Data Removal from Machine Learning Models", "1911.03030", "Guo, Goldstein, Hannun and van der Maaten", 2020
    )
    Config: ClassVar[type[MethodConfig]] = CertifiedRemovalConfig
    config: CertifiedRemovalConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Remove the forget rows from every classifier.

        Raises:
            InputError: When the net is no :class:`CertifiedLinear`, a row is too long, or the bound is used up.
        """
        if not isinstance(net, CertifiedLinear):
            raise InputError(
                f"The net is a {type(net).__name__}. Certified removal holds for linear classifiers of a perturbed objective. "
                "Train one with CertifiedLinear.trained_on, or choose another method."
            )
        x, y = (part.to(net.weight.device) for part in all_rows(data.kept, tools))
        removed, labels = (part.to(net.weight.device) for part in all_rows(data.forget, tools))
        for index in range(len(net.weight)):
            signs = net.signs(y, index)
            w = net.weight[index].detach()
            step = newton_removal(w, x, signs, row_gradient(w, removed, net.signs(labels, index), net.lam), net.lam)
            with torch.no_grad():
                net.weight[index] += step
                net.bound[index] += residual_bound(x, step)
        self._account(net, tools)
        return net

    def _account(self, net: CertifiedLinear, tools: NetTools) -> None:
        allowed = allowed_bound(net.sigma, self.config.epsilon, self.config.delta)
        used = float(net.bound.norm())
        tools.record({"bound": used, "allowed_bound": allowed}, label="certificate")
        if used <= allowed:
            tools.note(
                f"Certified for epsilon {self.config.epsilon:g} and delta {self.config.delta:g}: gradient bound {used:.3g} of "
                f"{allowed:.3g}."
            )
            return
        problem = (
            f"The removals so far leave a gradient bound of {used:.3g}, and epsilon {self.config.epsilon:g} with delta "
            f"{self.config.delta:g} allows {allowed:.3g}"
        )
        if self.config.exceed == "refuse":
            raise InputError(
                f"{problem}. Beyond it nothing is certified. Retrain without the rows, raise epsilon, or train with a larger sigma."
            )
        tools.note(f"Not certified. {problem}.")


def checked_rows(x: Any) -> Tensor:
    """Return rows as (n, d) in float64.

    Raises:
        InputError: When one is longer than 1.
    """
    rows: Tensor = x.flatten(1).to(torch.float64)
    longest = float(rows.norm(dim=1).max())
    if longest > 1 + 1e-6:
        raise InputError(
            f"The longest row has length {longest:.3g}. The certificate holds for rows of length at most 1. Divide each row by its "
            "length, or all by the largest."
        )
    return rows


def all_rows(dataset: Any, tools: NetTools) -> tuple[Tensor, Tensor]:
    """Return all inputs (n, d) and labels (n,) of a set."""
    parts = list(tools.loader(dataset, shuffle=False))
    return checked_rows(torch.cat([x for x, _ in parts])), torch.cat([y.reshape(-1) for _, y in parts])
