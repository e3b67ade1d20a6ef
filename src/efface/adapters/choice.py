"""Adapters by name, and what ``adapter: auto`` means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from efface.adapters.base import Adapter
from efface.errors import InputError
from efface.registry import ADAPTERS, unknown_name

__all__ = ["AUTO", "choose_adapter", "make_adapter"]

AUTO = "auto"


def choose_adapter(estimate_bytes_full: int, available_bytes: int) -> Literal["full", "lora"]:
    """Return what ``auto`` stands for: full weights where training them fits into memory, else LoRA.

    Args:
        estimate_bytes_full: Estimated peak of training all weights (weights, gradients, optimiser state, activations).
        available_bytes: Memory of the device that is free.
    """
    return "full" if estimate_bytes_full <= available_bytes else "lora"


def make_adapter(adapter: str | Mapping[str, Any] | Adapter) -> Adapter:
    """Return the adapter behind a name, a ``{"name": ..., **settings}`` mapping or an object.

    Raises:
        InputError: When the name or a setting is not known; also for "auto", which must be chosen first.
    """
    if isinstance(adapter, Adapter):
        return adapter
    settings = {"name": adapter} if isinstance(adapter, str) else dict(adapter)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"The adapter {adapter!r} has no name. It is a name or a mapping with one. Add name: lora, for example.")
    if name == AUTO:
        raise InputError(
            "The adapter auto is not decided yet. It stands for full or lora, by the memory there is. Call choose_adapter first."
        )
    if name not in ADAPTERS:
        raise unknown_name("adapter", name, [*ADAPTERS.names(), AUTO])
    made: Adapter = ADAPTERS.get(name)(**settings)
    return made
