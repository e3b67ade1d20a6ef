"""Evaluation of ordinary nets: figures as pure functions of outputs, and the suite that puts them together."""

from __future__ import annotations

from efface.evals.nets.relearned import Relearning
from efface.evals.nets.sets import NetMeasured, NetSets, measure_net
from efface.evals.nets.suite import SUITE, evaluate_nets, untrained_of

__all__ = ["SUITE", "NetMeasured", "NetSets", "Relearning", "evaluate_nets", "measure_net", "untrained_of"]
