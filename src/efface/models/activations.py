"""Looking into an ordinary net without changing it: how it is called, its two halves, and its hidden activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.registry import closest

__all__ = ["Activations", "SplitNet", "as_in_use", "call_net", "device_of", "forward", "named_module", "on_device", "outputs_of"]

_NONLINEARITIES = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Softplus,
    nn.Tanh,
    nn.Sigmoid,
)


def call_net(net: nn.Module, x: Any) -> Any:
    """Call a net on a batch: a mapping by keyword, a tuple by position, a tensor alone."""
    if isinstance(x, Mapping):
        return net(**x)
    return net(*x) if isinstance(x, tuple | list) else net(x)


def outputs_of(answer: Any) -> Tensor:
    """Return the tensor a net answers with: itself, its ``logits``, or the first of a tuple.

    Raises:
        InputError: When there is none.
    """
    if isinstance(answer, Tensor):
        return answer
    logits = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(answer, tuple | list) and answer and isinstance(answer[0], Tensor):
        return answer[0]
    raise InputError(
        f"The net answers with a {type(answer).__name__}. A tensor, an object with logits, or a tuple that starts with a tensor "
        "can be read. Wrap the net so that it returns its outputs."
    )


def forward(net: nn.Module, x: Any) -> Tensor:
    """Return what a net says of a batch, as one tensor."""
    return outputs_of(call_net(net, x))


def on_device(tree: Any, device: torch.device | str) -> Any:
    """Return a nested batch with its tensors on ``device``; what is no tensor stays as it is."""
    if isinstance(tree, Tensor):
        return tree.to(device)
    if isinstance(tree, Mapping):
        return {key: on_device(value, device) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(on_device(value, device) for value in tree)
    return tree


def device_of(net: nn.Module) -> torch.device:
    """Return where a net's weights are."""
    parameter = next(net.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


class SplitNet:
    """A net as two halves: representation and head.

    The head is a module of the net; what it receives is the representation, read by a hook, so that gradients flow through it and
    the net's own forward pass stays what it is.

    Args:
        net: The net.
        head: Name of the head as in ``net.named_modules()``; None: the last ``nn.Linear`` that a forward pass reaches.
    """

    def __init__(self, net: nn.Module, *, head: str | None = None) -> None:
        self.net = net
        self._name = head

    def features(self, x: Any) -> Tensor:
        """Return the representations of a batch, (B, d)."""
        return self.both(x)[0]

    def both(self, x: Any) -> tuple[Tensor, Tensor]:
        """Return representations (B, d) and outputs of a batch, from one forward pass."""
        caught: list[Tensor] = []
        handle = self.head_module(x).register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            outputs = outputs_of(call_net(self.net, x))
        finally:
            handle.remove()
        if not caught:
            raise InputError(
                f"The head {self._name!r} was not reached by a forward pass. The head turns representations into outputs. Name "
                "another module."
            )
        return caught[-1].flatten(1), outputs

    def head_module(self, x: Any) -> nn.Module:
        """Return the head; where none was named it is found by a forward pass on ``x``, once.

        Raises:
            InputError: When there is no module of that name, or no linear layer.
        """
        if self._name is None:
            self._name = _last_linear(self.net, x)
        return named_module(self.net, self._name)

    def head_name(self, x: Any) -> str:
        """Return the head's name, found as in :meth:`head_module`."""
        self.head_module(x)
        return str(self._name)

    def on(self, net: nn.Module) -> SplitNet:
        """Return the same split of another net of the same architecture."""
        return SplitNet(net, head=self._name)


def named_module(net: nn.Module, name: str) -> nn.Module:
    """Return a net's module by name.

    Raises:
        InputError: When there is none; names the nearest.
    """
    modules: dict[str, nn.Module] = dict(net.named_modules())
    if not name or name not in modules:
        near = closest(name, [each for each in modules if each])
        guess = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise InputError(
            f"The net has no module named {name!r}.{guess} Names are those of net.named_modules(). Mend the name in the "
            "problem or the method's settings."
        )
    return modules[name]


def _last_linear(net: nn.Module, x: Any) -> str:
    linear: dict[nn.Module, str] = {module: name for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    if net in linear:
        raise InputError(
            "The net is a single linear layer and has no representation before it. A method that changes representations needs a "
            "net with a body and a head. Choose another method."
        )
    reached: list[nn.Module] = []
    with _observed(linear, lambda module, _: reached.append(module)):
        _trial(net, x)
    if not reached:
        raise InputError(
            f"The net ({type(net).__name__}) has no linear layer that could be its head. A split method takes the last nn.Linear, "
            "or a module that is named. Name it: head in the problem, or head= in Python."
        )
    return linear[reached[-1]]


@contextmanager
def as_in_use(net: nn.Module) -> Iterator[None]:
    """Put a net into evaluation mode without gradients, and every module back into its own mode afterwards."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _trial(net: nn.Module, x: Any) -> None:
    """Run a forward pass that leaves no trace: no gradients, no statistics of BatchNorm, no random draws."""
    with as_in_use(net):
        call_net(net, x)


@contextmanager
def _observed(modules: Any, note: Any) -> Iterator[None]:
    handles = [module.register_forward_hook(lambda m, _, out: note(m, out)) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Activations:
    """Hidden activations of named modules, read by hooks in the order in which a forward pass reaches them.

    Args:
        net: The net.
        names: Modules to read; None: every nonlinearity that is a module of its own, or where there is none, every layer with
            weights but the last.
    """

    def __init__(self, net: nn.Module, names: Sequence[str] | None = None) -> None:
        self.net = net
        self._names = None if names is None else tuple(names)

    def names(self, x: Any) -> tuple[str, ...]:
        """Return the modules that are read; found by a forward pass on ``x`` where none were named."""
        if self._names is None:
            self._names = _hidden(self.net, x)
        return self._names

    def both(self, x: Any) -> tuple[Tensor, list[Tensor]]:
        """Return the outputs of a batch and the activations, each (B, ...), from one forward pass."""
        modules = [named_module(self.net, name) for name in self.names(x)]
        caught: list[Tensor] = []
        with _observed(modules, lambda _, out: caught.append(_first_tensor(out))):
            outputs = outputs_of(call_net(self.net, x))
        return outputs, caught

    def on(self, net: nn.Module) -> Activations:
        """Return the same choice of modules on another net of the same architecture."""
        return Activations(net, self._names)


def _first_tensor(out: Any) -> Tensor:
    """Return a module's output; recurrent layers answer with a tuple whose first part is the sequence."""
    return outputs_of(out)


def _hidden(net: nn.Module, x: Any) -> tuple[str, ...]:
    names = {module: name for name, module in net.named_modules() if name}
    order: list[nn.Module] = []
    leaves = [module for module in names if not any(True for _ in module.children())]
    with _observed(leaves, lambda module, _: order.append(module)):
        _trial(net, x)
    reached = list(dict.fromkeys(order))
    nonlinear = [names[module] for module in reached if isinstance(module, _NONLINEARITIES)]
    if nonlinear:
        return tuple(nonlinear)
    weighted = [module for module in reached if any(p.dim() > 1 for p in module.parameters(recurse=False))]
    return tuple(names[module] for module in weighted[:-1])
