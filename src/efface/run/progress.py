"""How stages tell the caller how far they are."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "numbered", "within"]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, in all)."""


def within(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    """Return a (done, in all) callback that reports under ``stage``."""
    if progress is None:
        return None

    def report(done: int, total: int) -> None:
        progress(stage, done, total)

    return report


def numbered(progress: Progress | None, number: int) -> Progress | None:
    """Return a callback that reports the stages of a later run with its number; the first one's names stay as they are."""
    if progress is None or number == 1:
        return progress
    return lambda stage, done, total: progress(f"{stage} ({number})", done, total)
