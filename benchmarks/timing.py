"""Two sides timed in turns, so that a machine that slows down slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

__all__ = ["Clock", "Ratio", "Spent"]


@dataclass(frozen=True)
class Spent:
    """Seconds of one piece of work.

    Attributes:
        wall: On the wall clock.
        cpu: Of this process on all cores; what another user of the machine takes does not count.
    """

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def per(self, count: int) -> Spent:
        """Return the mean over ``count`` pieces."""
        return Spent(self.wall / count, self.cpu / count)


@dataclass(frozen=True)
class Clock:
    """Both clocks at one moment."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Self:
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def spent(self) -> Spent:
        """Return what has passed since."""
        now = type(self).now()
        return Spent(now.wall - self.wall, now.cpu - self.cpu)


@dataclass(frozen=True)
class Ratio:
    """Ratios baseline / ours of several rounds.

    Attributes:
        median: The figure that is reported.
        low: Smallest round.
        high: Largest round.
        rounds: How many.
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, baseline: Sequence[float], ours: Sequence[float]) -> Self:
        """Pair the two sides round by round."""
        values = [theirs / mine for theirs, mine in zip(baseline, ours, strict=True)]
        return cls(statistics.median(values), min(values), max(values), len(values))

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"
