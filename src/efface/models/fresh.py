"""A freshly initialised net of an architecture that is known by an example only."""

from __future__ import annotations

import copy

import torch
from torch import nn

from efface.errors import InputError

__all__ = ["reinitialised"]


def reinitialised(net: nn.Module, seed: int) -> nn.Module:
    """Return a copy of ``net`` with freshly drawn weights.

    A Hugging Face model is built anew from its configuration; of any other net every module draws by its own
    ``reset_parameters``. An initialisation that the net's constructor adds to these is not repeated.

    Args:
        net: The net; it is not changed.
        seed: Of the draws; the global generators are left as they were.

    Raises:
        InputError: When a parameter belongs to a module that cannot reset itself.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = getattr(net, "config", None)
        if config is not None and hasattr(type(net), "_from_config"):
            built: nn.Module = type(net)(copy.deepcopy(config))
            return built.train(net.training)
        fresh = copy.deepcopy(net)
        for name, module in fresh.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise InputError(
                    f"The module {name or type(net).__name__!r} has weights and no reset_parameters(), so that it cannot be drawn "
                    "anew. A method that trains a second net needs a fresh one. Pass make_model=, a function of a seed."
                )
    return fresh
