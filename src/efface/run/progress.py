"""How stages tell the caller how far they are."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "within"]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, in all)."""


def within(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    """Return a (done, in all) callback that reports under ``stage``."""
    if progress is None:
        return None

    def report(done: int, total: int) -> None:
        progress(stage, done, total)

    return report
