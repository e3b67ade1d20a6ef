"""Gradients of a net's loss over whole sets: sums, means, squares and one per sample, in memory that does not grow with the set.

Everything is a dictionary of tensors by parameter name, or one flat vector in the order of ``parameters()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.activations import as_in_use, device_of, forward, on_device, outputs_of

__all__ = [
    "Batches",
    "Gradients",
    "Loss",
    "batch_gradients",
    "chunks",
    "curvature_product",
    "diagonal_fisher",
    "flatten",
    "mean_gradient",
    "mean_loss",
    "per_sample_gradients",
    "placed",
    "size",
    "sum_squared_batch_gradients",
    "trained",
    "unflatten",
]

Gradients = dict[str, Tensor]
Loss = Callable[[Tensor, Any], Tensor]
"""(outputs, targets) -> the batch MEAN of the loss, a scalar."""
Batches = Iterable[tuple[Any, Any]]


def trained(net: nn.Module) -> Gradients:
    """Return the parameters that get a gradient, by name, in order."""
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


def flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return one vector of all entries, (P,)."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> Gradients:
    """Return ``vector`` in the shapes of ``like``."""
    parts = vector.split([tensor.numel() for tensor in like.values()])
    return {name: part.view_as(tensor) for (name, tensor), part in zip(like.items(), parts, strict=True)}


def placed(batches: Batches, net: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Yield batches where the net's weights are."""
    device = device_of(net)
    for x, y in batches:
        yield on_device(x, device), on_device(y, device)


def batch_gradients(net: nn.Module, batches: Batches, loss: Loss) -> Iterator[tuple[int, Gradients]]:
    """Yield (rows, gradient of the batch mean) per batch; a parameter the loss does not reach gets zeros."""
    parameters = trained(net)
    for x, y in placed(batches, net):
        value = loss(forward(net, x), y)
        found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        filled = (torch.zeros_like(p) if g is None else g for p, g in zip(parameters.values(), found, strict=True))
        yield size(x), dict(zip(parameters, filled, strict=True))


def mean_gradient(net: nn.Module, batches: Batches, loss: Loss) -> Gradients:
    """Return the gradient of the mean loss over all rows, each row counted once whatever the batches are.

    Raises:
        InputError: When there are no rows.
    """
    total: Gradients = {}
    rows = 0
    for count, gradient in batch_gradients(net, batches, loss):
        rows += count
        for name, value in gradient.items():
            total[name] = total[name] + count * value if name in total else count * value
    if not rows:
        raise InputError("There are no rows to take a gradient of. At least one is needed. Give a set that is not empty.")
    return {name: value / rows for name, value in total.items()}


def sum_squared_batch_gradients(net: nn.Module, batches: Batches, loss: Loss) -> tuple[Gradients, int]:
    """Return the sum over batches of (batch-mean gradient)^2, and the number of batches."""
    total: Gradients = {}
    number = 0
    for _, gradient in batch_gradients(net, batches, loss):
        number += 1
        for name, value in gradient.items():
            total[name] = total[name] + value.pow(2) if name in total else value.pow(2)
    return total, number


def per_sample_gradients(net: nn.Module, x: Any, y: Tensor, loss: Loss) -> Gradients:
    """Return one gradient per row, (B, *shape) by parameter name, in one batched pass (torch.func).

    Args:
        net: In evaluation mode: batch statistics would mix rows.
        x: Inputs of B rows.
        y: Targets of B rows.
        loss: Mean loss of a batch; it is given batches of one.
    """
    fixed = {name: tensor for name, tensor in net.named_parameters() if not tensor.requires_grad}
    buffers = dict(net.named_buffers())

    def one(parameters: Gradients, x_row: Any, y_row: Tensor) -> Tensor:
        outputs = torch.func.functional_call(net, {**parameters, **fixed, **buffers}, *_call(_batched(x_row)))
        return loss(outputs_of(outputs), y_row[None])

    parameters = {name: tensor.detach() for name, tensor in trained(net).items()}
    found: Gradients = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(parameters, x, y)
    return found


def mean_loss(net: nn.Module, batches: Batches, loss: Loss) -> float:
    """Return the mean loss over all rows of ``batches``."""
    total, rows = 0.0, 0
    with as_in_use(net):
        for x, y in placed(batches, net):
            total += float(loss(forward(net, x), y)) * size(x)
            rows += size(x)
    return total / rows


def diagonal_fisher(net: nn.Module, batches: Batches, loss: Loss, *, chunk: int = 64) -> Gradients:
    """Return the mean over rows of the squared gradient of each row's loss (the empirical Fisher's diagonal)."""
    total: Gradients = {}
    rows = 0
    for x, y in (part for batch in placed(batches, net) for part in chunks(batch, chunk)):
        rows += size(x)
        for name, gradient in per_sample_gradients(net, x, y, loss).items():
            square = gradient.square().sum(0)
            total[name] = total[name] + square if name in total else square
    return {name: value / rows for name, value in total.items()}


def chunks(batch: tuple[Any, Tensor], length: int) -> Iterator[tuple[Any, Tensor]]:
    """Yield a batch in parts of at most ``length`` rows."""
    x, y = batch
    for start in range(0, size(x), length):
        yield rows_of(x, start, start + length), y[start : start + length]


def rows_of(x: Any, start: int, end: int) -> Any:
    """Return rows ``start`` to ``end`` of a tensor, tuple or mapping of inputs."""
    if isinstance(x, Mapping):
        return {name: value[start:end] for name, value in x.items()}
    return tuple(value[start:end] for value in x) if isinstance(x, tuple | list) else x[start:end]


def curvature_product(net: nn.Module, x: Any, y: Any, loss: Loss, *, gauss_newton: bool = False) -> Callable[[Tensor], Tensor]:
    """Return v (P,) -> H v (P,), H the Hessian of the mean loss over the rows, or its Gauss-Newton part (never indefinite).

    Args:
        net: The net; its trained parameters are what H is over.
        x: Inputs.
        y: Targets.
        loss: Mean loss; convex in the outputs for ``gauss_newton``.
        gauss_newton: J^T (d^2 loss / d outputs^2) J in place of the whole Hessian.
    """
    parameters = trained(net)
    names, point = list(parameters), tuple(tensor.detach() for tensor in parameters.values())
    other = {**dict(net.named_buffers()), **{n: p for n, p in net.named_parameters() if not p.requires_grad}}

    def outputs(*values: Tensor) -> Tensor:
        made = torch.func.functional_call(net, {**dict(zip(names, values, strict=True)), **other}, *_call(x))
        return outputs_of(made)

    def product(vector: Tensor) -> Tensor:
        direction = tuple(unflatten(vector, dict(zip(names, point, strict=True))).values())
        if gauss_newton:
            made, tangent = _jvp(outputs, point, direction)
            _, bent = _jvp(torch.func.grad(_of(loss, y)), (made,), (tangent,))
            pull = cast("tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]", torch.func.vjp(outputs, *point))[1]
            image = pull(bent)
        else:
            gradient = torch.func.grad(lambda *values: loss(outputs(*values), y), argnums=tuple(range(len(point))))
            _, image = _jvp(gradient, point, direction)
        return torch.cat([part.reshape(-1) for part in image]).detach()

    return product


def _jvp(function: Callable[..., Any], point: Any, direction: Any) -> tuple[Any, Any]:
    """Return a function's value and its derivative along ``direction``."""
    return cast("tuple[Any, Any]", torch.func.jvp(function, point, direction))


def _of(loss: Loss, y: Any) -> Callable[[Tensor], Tensor]:
    """Return the loss as a function of the outputs alone."""
    return lambda outputs: loss(outputs, y)


def size(x: Any) -> int:
    """Return the number of rows of a tensor, tuple or mapping of inputs."""
    first = x
    while not isinstance(first, Tensor):
        first = next(iter(first.values() if isinstance(first, Mapping) else first))
    return int(first.shape[0])


def _call(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and named arguments of the forward pass."""
    if isinstance(x, Mapping):
        return (), dict(x)
    return (tuple(x) if isinstance(x, tuple | list) else (x,)), {}


def _batched(x: Any) -> Any:
    """Return a row's inputs as a batch of one."""
    if isinstance(x, Mapping):
        return {name: value[None] for name, value in x.items()}
    return tuple(value[None] for value in x) if isinstance(x, tuple | list) else x[None]
