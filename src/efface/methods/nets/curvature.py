"""Solving H k = v for a net's parameters without forming H: what influence-type methods share.

H is the damped empirical Fisher matrix of per-sample gradients g_i, the rows of G (N, P), or any symmetric matrix that is given by
its products with vectors. Sources:

- diagonal and exact Woodbury forms: Singh and Alistarh, WoodFisher, arXiv 2004.14340;
- LiSSA: Agarwal, Bullins and Hazan, arXiv 1602.03943; conjugate gradients: Martens 2010 (Hessian-free).

:func:`woodfisher_reference` repeats what the code of Unlearn-Saliency (OPTML-Group, ``Classification/unlearn/Wfisher.py``) does,
which is not the recursion of the paper: its running vector starts as the first sample's gradient and is only rescaled, so that the
answer differs from ``v`` along that one gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from efface.errors import InputError

__all__ = [
    "ABOVE_LARGEST",
    "conjugate_gradients",
    "diagonal_solve",
    "largest_eigenvalue",
    "lissa",
    "woodbury_solve",
    "woodfisher_reference",
]

ABOVE_LARGEST = 1.1
"""LiSSA's scale over the largest eigenvalue."""
Product = Callable[[Tensor], Tensor]
"""Vector (P,) -> H times it, (P,)."""


def diagonal_solve(v: Tensor, fisher: Tensor, *, damping: float) -> Tensor:
    """Return v / (F + damping) for a diagonal Fisher F, (P,)."""
    return v / (fisher + damping)


def woodbury_solve(v: Tensor, gradients: Tensor, *, damping: float = 1.0, count: int | None = None) -> Tensor:
    """Return k with (damping I + (1/N) G^T G) k = v, exactly, in the space of the N samples.

    k = (1 / l) (v - G^T (l N I + G G^T)^-1 G v), l the damping: an N x N system where N is far below P.

    Args:
        v: Right-hand side, (P,).
        gradients: Per-sample gradients G, (rows, P).
        damping: l > 0.
        count: N of the formula; None: the number of rows.
    """
    n = float(count or gradients.shape[0])
    small = gradients @ gradients.T
    small.diagonal().add_(damping * n)
    inner: Tensor = torch.linalg.solve(small, gradients @ v)
    solved: Tensor = (v - gradients.T @ inner) / damping
    return solved


def woodfisher_reference(v: Tensor, gradients: Iterable[Tensor], *, count: int = 1000) -> Tensor:
    """Return what Unlearn-Saliency calls WoodFisher; see the module's text.

    Args:
        v: Right-hand side, (P,).
        gradients: Per-sample gradients (P,), in order; at most ``count`` + 2 are read, as there.
        count: N, fixed to 1000 there.
    """
    k, running = v.clone(), None
    for index, gradient in enumerate(gradients):
        if running is None:
            running = gradient.clone()
        else:
            product = running @ gradient
            k = k - (k @ gradient) / (count + product) * running
            running = running - product / (count + product) * running
        if index > count:
            break
    return k


def conjugate_gradients(
    product: Product, v: Tensor, *, damping: float = 0.01, iterations: int = 100, tolerance: float = 1e-6
) -> Tensor:
    """Return x with (H + damping I) x = v; H + damping I must be positive definite.

    Args:
        product: Vector -> H times it, for a Hessian or Gauss-Newton matrix.
        v: Right-hand side, (P,).
        damping: Added to the diagonal; at least -lambda_min where H has negative eigenvalues.
        iterations: At most as many products.
        tolerance: Relative length of the residual at which to end.

    Raises:
        InputError: When a direction of negative curvature is met: the damping is too small.
    """
    x = torch.zeros_like(v)
    residual = v.clone()
    direction = residual.clone()
    square = residual @ residual
    goal = tolerance * float(v.norm())
    for _ in range(iterations):
        if float(square) ** 0.5 <= goal:
            break
        image = product(direction) + damping * direction
        curvature = direction @ image
        if not float(curvature) > 0:
            raise InputError(
                f"Conjugate gradients met a direction of curvature {float(curvature):.2g} at damping {damping:g}. The damped "
                "matrix must be positive definite. Raise the damping, or solve with the Gauss-Newton matrix."
            )
        step = square / curvature
        x = x + step * direction
        residual = residual - step * image
        previous, square = square, residual @ residual
        direction = residual + square / previous * direction
    return x


def lissa(
    product: Product,
    v: Tensor,
    *,
    damping: float = 0.01,
    scale: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Tensor:
    """Return x with (H + damping scale I) x = v as the limit of x_{j+1} = v + (1 - damping) x_j - H x_j / scale, over scale.

    Args:
        product: Vector -> H times it; a product over a fresh random batch each time makes it stochastic.
        v: Right-hand side, (P,).
        damping: Share by which the running vector shrinks in each step; the matrix that is inverted is H + damping * scale I.
        scale: Above the largest eigenvalue of H; None estimates it by power iteration and takes 1.1 times that.
        iterations: At most as many products.
        tolerance: Relative change at which to end.

    Raises:
        InputError: When the iteration diverges: the scale is below the largest eigenvalue.
    """
    scale = scale if scale is not None else ABOVE_LARGEST * largest_eigenvalue(product, v)
    x = v.clone()
    start = float(v.norm())
    for _ in range(iterations):
        following = v + (1 - damping) * x - product(x) / scale
        change = float((following - x).norm())
        x = following
        if not change < 1e12 * max(start, 1.0):
            raise InputError(
                f"LiSSA diverges at scale {scale:g}. It must lie above the largest eigenvalue. Raise scale, or leave it out."
            )
        if change <= tolerance * float(x.norm()):
            break
    return x / scale


def largest_eigenvalue(product: Product, like: Tensor, *, iterations: int = 30, seed: int = 0) -> float:
    """Return the largest absolute eigenvalue by power iteration from a seeded start."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)
    value = 0.0
    for _ in range(iterations):
        vector = vector / vector.norm().clamp_min(1e-30)
        image = product(vector)
        value = abs(float(vector @ image))
        vector = image
    return max(value, 1e-12)
