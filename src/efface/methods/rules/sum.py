"""The plain weighted sum, L = gamma * L_forget + alpha * L_retain: what nearly every published method does."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from efface.methods.base import UpdateRule

__all__ = ["Sum"]


class Sum(UpdateRule):
    """Add the two losses; one forward pass serves both."""

    name: ClassVar[str] = "sum"
    summary: ClassVar[str] = "weighted sum of the two losses"

    def combine(self, forget: Tensor, retain: Tensor | None, *, forget_weight: float, retain_weight: float) -> Tensor:
        """Return ``forget_weight * forget + retain_weight * retain``."""
        total = forget_weight * forget
        return total if retain is None else total + retain_weight * retain
