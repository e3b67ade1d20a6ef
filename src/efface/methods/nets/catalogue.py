"""What ``efface methods`` shows of the methods for ordinary nets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from efface.methods.nets.base import NetMethod
from efface.registry import NETS

__all__ = ["describe_net", "net_methods"]


def net_methods(task: str | None = None) -> list[str]:
    """Return the names of the methods for a task, or of all of them."""
    return [name for name in NETS.names() if task is None or task in NETS.get(name).tasks]


def describe_net(name: str) -> dict[str, Any]:
    """Return everything ``efface methods NAME`` shows of a method for nets, as plain types.

    Raises:
        InputError: When nothing has that name.
    """
    kind: type[NetMethod] = NETS.get(name)
    method = kind()
    values = method.config.model_dump(mode="json")
    paper = kind.paper
    return {
        "name": kind.name,
        "summary": kind.summary,
        "intention": str(kind.intention),
        "level": kind.level,
        "approach": kind.approach,
        "tasks": sorted(kind.tasks),
        "needs": sorted(str(need) for need in kind.needs),
        "labels_read": method.labels_read,
        "needs_recipe": kind.needs_recipe,
        "batch_norm": method.mode,
        "paper": None if paper is None else {**asdict(paper), "url": paper.url},
        "hyperparameters": {
            field: {"default": values[field], "meaning": info.description or ""} for field, info in kind.Config.model_fields.items()
        },
    }
