"""Influence functions as an unlearning step: Understanding Black-box Predictions via Influence Functions, Koh and Liang 2017.

arXiv 1703.04730 (the influence of a row); used for unlearning as "IU" in arXiv 2304.04934 and by Unlearn-Saliency's ``Wfisher``.

v = (1/n) sum_f grad l - n_f / (n n_r) sum_r grad l;    theta <- theta_0 + alpha H^-1 v

At a stationary point v is minus the mean gradient over the retain rows, so that alpha = 1 is Newton's step towards the optimum
without the forget rows. H: ``diagonal`` (empirical Fisher), ``woodfisher`` (empirical Fisher over ``samples`` rows, exact through
the Woodbury identity), ``cg`` and ``lissa`` (Gauss-Newton matrix or Hessian over all retain rows, by products), ``exact`` (the same
matrix, formed and factorised: small nets), ``kfac`` (Kronecker factors through curvlinops, an extra), ``woodfisher_reference``
(what published code computes; see :func:`efface.methods.nets.curvature.woodfisher_reference`).

By default only the last layer changes (``last_layer``): its problem is convex, and the step is worth something there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from efface.errors import InputError
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import NetConfig, NetData, NetMethod, NetTools
from efface.methods.nets.curvature import (
    ABOVE_LARGEST,
    conjugate_gradients,
    diagonal_solve,
    largest_eigenvalue,
    lissa,
    woodbury_solve,
    woodfisher_reference,
)
from efface.methods.nets.gradients import (
    Batches,
    Loss,
    chunks,
    curvature_product,
    diagonal_fisher,
    flatten,
    mean_gradient,
    per_sample_gradients,
    placed,
    size,
    trained,
    unflatten,
)
from efface.models.activations import as_in_use

__all__ = ["Influence", "InfluenceConfig", "influence_direction", "mean_curvature_product"]

LARGEST_EXACT = 5_000
"""Parameters up to which the matrix is formed."""
CHUNK = 64
SOLVED = 0.01
"""Relative residual up to which a solution by products is one."""


def influence_direction(retain: Tensor, forget: Tensor, *, retain_rows: int, forget_rows: int) -> Tensor:
    """Return v from the mean gradients over the retain and the forget rows, each (P,)."""
    share = forget_rows / (forget_rows + retain_rows)
    return share * (forget - retain)


def mean_curvature_product(net: nn.Module, batches: Batches, loss: Loss, *, gauss_newton: bool) -> Callable[[Tensor], Tensor]:
    """Return v (P,) -> H v (P,), H of the mean loss over all rows of ``batches``; memory is that of one batch."""
    parts = [(size(x), curvature_product(net, x, y, loss, gauss_newton=gauss_newton)) for x, y in placed(batches, net)]
    rows = sum(count for count, _ in parts)

    def product(vector: Tensor) -> Tensor:
        return torch.stack([count / rows * part(vector) for count, part in parts]).sum(0)

    return product


class InfluenceConfig(NetConfig):
    """Hyper-parameters of influence unlearning."""

    solver: Literal["diagonal", "woodfisher", "woodfisher_reference", "cg", "lissa", "exact", "kfac"] = "woodfisher"
    matrix: Literal["gauss_newton", "hessian"] = Field(
        "gauss_newton", description="For cg, lissa and exact; the first is never indefinite."
    )
    alpha: float = Field(1.0, description="Length of the step; 1 is Newton's.")
    damping: float = Field(
        0.01, ge=0, description="Added to the matrix's diagonal; above 0 for diagonal and woodfisher, whose matrix may be singular."
    )
    samples: int = Field(1000, ge=1, description="Retain rows of woodfisher's matrix; N of published code.")
    iterations: int = Field(200, ge=1, description="Products of cg and lissa.")
    last_layer: bool = Field(True, description="Change the last layer only.")

    @model_validator(mode="after")
    def _invertible(self) -> Self:
        if self.damping == 0 and self.solver in ("diagonal", "woodfisher"):
            raise ValueError(f"damping is 0, and the matrix of {self.solver} may be singular. Give a damping above 0, such as 0.01")
        return self


class Influence(NetMethod):
    """One Newton step away from the forget rows."""

    name: ClassVar[str] = "influence"
    summary: ClassVar[str] = "one Newton-like step that takes the forget rows' influence out"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    batch_norm: ClassVar[Literal["train", "eval"]] = "eval"
    approach: ClassVar[str] = "influence"
    paper: ClassVar[Paper | None] = Paper(
        "Understanding Black-box Predictions via Influence Functions", "1703.04730", "Koh and Liang", 2017
    )
    Config: ClassVar[type[MethodConfig]] = InfluenceConfig
    config: InfluenceConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Take v, solve for the step, and make it."""
        net.train(self.mode == "train")
        forget: Any = tools.loader(data.forget, shuffle=False, batch_size=self.config.batch_size)
        retain: Any = tools.loader(data.kept, shuffle=False, batch_size=self.config.batch_size)
        changed = net
        if self.config.last_layer:
            changed, forget, retain = last_layer(net, forget, retain, tools)
        parameters = trained(changed)
        v = influence_direction(
            flatten(mean_gradient(changed, retain, tools.loss)),
            flatten(mean_gradient(changed, forget, tools.loss)),
            retain_rows=len(data.kept),
            forget_rows=len(data.forget),
        )
        step = unflatten(self._solve(changed, v, retain, tools), parameters)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.add_(self.config.alpha * step[name])
        return net

    def _solve(self, net: nn.Module, v: Tensor, retain: Batches, tools: NetTools) -> Tensor:
        config, loss = self.config, tools.loss
        if config.solver == "diagonal":
            return diagonal_solve(v, flatten(diagonal_fisher(net, retain, loss)), damping=config.damping)
        if config.solver == "woodfisher":
            rows = torch.cat(list(first_gradients(net, retain, loss, config.samples)))
            return woodbury_solve(v, rows, damping=config.damping)
        if config.solver == "woodfisher_reference":
            every = (row for part in first_gradients(net, retain, loss, config.samples + 2) for row in part)
            return woodfisher_reference(v, every, count=config.samples)
        if config.solver == "kfac":
            from efface.methods.nets.kfac import kfac_solve

            return kfac_solve(net, v, retain, damping=config.damping, loss=tools.loss.name)
        product = mean_curvature_product(net, retain, loss, gauss_newton=config.matrix == "gauss_newton")
        if config.solver == "exact":
            return exact_solve(product, v, damping=config.damping)
        if config.solver == "cg":
            solved = conjugate_gradients(product, v, damping=config.damping, iterations=config.iterations)
        else:
            scale = ABOVE_LARGEST * largest_eigenvalue(product, v) + config.damping
            solved = lissa(product, v, damping=config.damping / scale, scale=scale, iterations=config.iterations)
        left = float((product(solved) + config.damping * solved - v).norm() / v.norm().clamp_min(1e-30))
        if left > SOLVED:
            tools.note(
                f"The solver {config.solver} ended after {config.iterations} products with {left:.0%} of the right-hand side "
                "unexplained: the step is not the Newton step. Raise iterations or damping."
            )
        return solved


def first_gradients(net: nn.Module, batches: Batches, loss: Loss, count: int) -> Iterator[Tensor]:
    """Yield the per-sample gradients of the first ``count`` rows, in parts (b, P)."""
    left = count
    for x, y in (part for batch in placed(batches, net) for part in chunks(batch, CHUNK)):
        found = per_sample_gradients(net, x, y, loss)
        rows = torch.cat([gradient.reshape(size(x), -1) for gradient in found.values()], dim=1)[:left]
        yield rows
        left -= len(rows)
        if left <= 0:
            return


def exact_solve(product: Callable[[Tensor], Tensor], v: Tensor, *, damping: float) -> Tensor:
    """Return (H + damping I)^-1 v by forming H, column by column.

    Raises:
        InputError: When there are more than ``LARGEST_EXACT`` parameters.
    """
    if len(v) > LARGEST_EXACT:
        raise InputError(
            f"The exact solver would form a matrix of {len(v)} x {len(v)}. It takes up to {LARGEST_EXACT} parameters. "
            "Choose solver: cg, or last_layer: true."
        )
    basis = torch.eye(len(v), dtype=v.dtype, device=v.device)
    matrix = torch.stack([product(column) for column in basis], dim=1)
    solved: Tensor = torch.linalg.solve(matrix + damping * basis, v)
    return solved


def last_layer(net: nn.Module, forget: Any, retain: Any, tools: NetTools) -> tuple[nn.Module, Any, Any]:
    """Return the head as a net of its own, and both sets as batches of (representation, label).

    Raises:
        InputError: When something comes after the head, so that it alone does not give the outputs.
    """
    split = tools.split(net)
    head = split.head_module(next(placed(forget, net))[0])
    represented = []
    with as_in_use(net):
        for batches in (forget, retain):
            found = []
            for x, y in placed(batches, net):
                features, outputs = split.both(x)
                answers = head(features)
                if answers.numel() != outputs.numel() or not torch.allclose(answers.reshape(outputs.shape), outputs, atol=1e-5):
                    raise InputError(
                        "The outputs are not those of the last linear layer alone. A last-layer step changes a head that ends the "
                        "net. Set last_layer: false, or name the right head."
                    )
                found.append((features, y))
            represented.append(found)
    return head, represented[0], represented[1]
