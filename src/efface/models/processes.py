"""Several processes that work on one job together, started by ``accelerate launch`` or ``torchrun``.

The launcher gives each process its rank in the environment. The main process (rank 0) writes files and reports; the others take
their share of the training and of the measuring. Where no launcher was used there is one process, which is the main one.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch

from efface.errors import EffaceError

__all__ = ["count", "gather", "is_main", "leave", "rank", "share"]

Value = TypeVar("Value")

_PATIENCE = timedelta(hours=6)
"""How long the others wait for the main process, which may build or load models meanwhile."""


def count() -> int:
    """Return the number of processes that work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number, 0 for the main one."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process writes and reports."""
    return rank() == 0


def share(make: Callable[[], Value]) -> Value:
    """Return what ``make`` returns in the main process, in every process; each of them must call this at the same point.

    An error of ``make`` is raised in every process alike, so that none is left waiting.
    """
    if count() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    _join()
    box: list[Any] = list(_outcome(make) if is_main() else (None, None))
    broadcast_object_list(box, from_process=0)
    if box[1] is not None:
        raise box[1]
    return cast("Value", box[0])


def gather(make: Callable[[], Value]) -> list[Value]:
    """Return what ``make`` returns in each process, by rank, in every process; each of them must call this at the same point.

    An error of one process is raised in every process alike (the lowest rank's, where several fail).
    """
    if count() == 1:
        return [make()]
    from accelerate.utils import gather_object

    _join()
    outcomes = gather_object([_outcome(make)])
    for _, error in outcomes:
        if error is not None:
            raise error
    return [cast("Value", value) for value, _ in outcomes]


def leave() -> None:
    """Disconnect this process from the others once its work is done; the connection's threads may abort an interpreter that ends.

    Not for the way out of an error: the others may wait for this process, which must end for its launcher to end them.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _outcome(make: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        return None, _sendable(error)


def _sendable(error: Exception) -> Exception:
    """Return an error that survives the way to another process: some cannot be taken apart, or put together again."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EffaceError(f"{type(error).__name__}: {error}")
    return error


def _join() -> None:
    """Connect this process with the others; the Trainer takes over the connection."""
    from accelerate import PartialState

    has_accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    PartialState(cpu=not has_accelerator, timeout=_PATIENCE)
