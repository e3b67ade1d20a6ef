"""Errors a user can act on.

Every message has three sentences: what is wrong with the value received, what is accepted, and the fix or the flag.
The command line turns any :class:`EffaceError` into one line on standard error and its ``exit_code``.
"""

from __future__ import annotations

__all__ = ["EffaceError", "InputError", "MissingNeed", "TrainingStopped"]


class EffaceError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line exits with."""

    exit_code = 1


class InputError(EffaceError, ValueError):
    """A file, row, key or value that the caller can mend."""

    exit_code = 2


class MissingNeed(InputError):
    """A method needs something (a retain set, labels, ...) that the request does not give."""


class TrainingStopped(EffaceError, RuntimeError):
    """Training could not go on (a loss that is not a number); the last good checkpoint is kept."""
