"""efface: make a trained model forget, prove how far it forgot, and report it.

The public verbs are ``unlearn``, ``evaluate`` and ``load``; a request is a :class:`ForgetRequest`. Importing this package imports
neither torch nor transformers: names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efface.data.problem import NetTraining, Problem
    from efface.request import ForgetRequest
    from efface.results import Metric, Results, Unlearned
    from efface.run import RunResult, evaluate, load, unlearn

__version__ = "0.1.0"

_LAZY = {
    "ForgetRequest": "efface.request",
    "Metric": "efface.results",
    "NetTraining": "efface.data.problem",
    "Problem": "efface.data.problem",
    "Results": "efface.results",
    "RunResult": "efface.run",
    "Unlearned": "efface.results",
    "evaluate": "efface.run",
    "load": "efface.run",
    "unlearn": "efface.run",
}

__all__ = [
    "ForgetRequest",
    "Metric",
    "NetTraining",
    "Problem",
    "Results",
    "RunResult",
    "Unlearned",
    "__version__",
    "evaluate",
    "load",
    "unlearn",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'efface' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
