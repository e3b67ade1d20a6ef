"""Figures as people read them. One place, so that the sentences, the table and the plots round alike."""

from __future__ import annotations

import math

__all__ = ["MINUS", "bytes_text", "count", "duration", "figure", "interval_text", "percent"]

MINUS = "\N{MINUS SIGN}"


def percent(value: float) -> str:
    """Return a share as a percentage; a share that is not quite 0 or 1 never rounds to it.

    >>> percent(0.5), percent(0.9996), percent(1.0), percent(0.004)
    ('50%', '>99.9%', '100%', '0.4%')
    """
    hundred = 100 * value
    if 0 < hundred < 0.1:
        return "<0.1%"
    if 99.9 < hundred < 100:
        return ">99.9%"
    digits = 1 if (0 < hundred < 1 or 99 < hundred < 100) else 0
    return f"{hundred:.{digits}f}%".replace("-", MINUS)


def figure(value: float | None, scale: str) -> str:
    """Return a value as it is shown: a percentage for a share, two digits for a score.

    >>> figure(0.25, "share"), figure(0.25, "score"), figure(0.0123, "score"), figure(None, "score")
    ('25%', '0.25', '0.01', 'not available')
    """
    if value is None or not math.isfinite(value):
        return "not available"
    if scale == "share":
        return percent(value)
    if scale in {"score", "test"}:
        if 0 < abs(value) < 0.0005:
            return "<0.001" if value > 0 else f">{MINUS}0.001"
        return f"{value:.{2 if abs(value) >= 0.00995 or value == 0 else 3}f}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def interval_text(low: float | None, high: float | None, scale: str) -> str:
    """Return an interval without its unit where both ends share it.

    >>> interval_text(0.2, 0.3, "share")
    '20–30%'
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    ends = [figure(low, scale), figure(high, scale)]
    if scale == "share":
        ends[0] = ends[0].removesuffix("%")
    return "\N{EN DASH}".join(ends)


def count(number: int | None, one: str, many: str = "") -> str:
    """Return a number with its noun.

    >>> count(1, "row"), count(1200, "row"), count(2, "entity", "entities")
    ('1 row', '1,200 rows', '2 entities')
    """
    if number is None:
        return f"an unknown number of {many or one + 's'}"
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Return seconds as people say them.

    >>> duration(0.04), duration(5.25), duration(83), duration(7300)
    ('0.04 s', '5.2 s', '1 min 23 s', '2 h 1 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return "not available"
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def bytes_text(number: int | None) -> str:
    """Return a memory size in binary units.

    >>> bytes_text(3 * 2**20), bytes_text(None)
    ('3.0 MiB', 'not available')
    """
    if number is None:
        return "not available"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
