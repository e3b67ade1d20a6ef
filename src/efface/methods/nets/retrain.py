"""Retraining: a fresh net, trained by the original's recipe on the rows that stay.

What every other method is compared with. The forget rows never influence the weights that remain, hence the intention ``exact``; it
differs from the retrained reference of a run in its seeds only.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from efface.methods.base import Need
from efface.methods.nets.base import LabelNeed, NetData, NetMethod, NetTools
from efface.results import Intention

__all__ = ["Retrain"]


class Retrain(NetMethod):
    """Train a fresh net without the forget rows."""

    name: ClassVar[str] = "retrain"
    summary: ClassVar[str] = "a fresh net trained on the retain rows by the original's recipe"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_SET})
    needs_labels: ClassVar[LabelNeed] = "retain"
    needs_recipe: ClassVar[bool] = True
    intention: ClassVar[Intention] = Intention.EXACT
    approach: ClassVar[str] = "retraining"

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Return a fresh net trained on the retain rows; ``net`` is not looked at."""
        fresh = tools.fresh()
        tools.fit_recipe(fresh, data.kept)
        return fresh
