"""A run: its plan, its folder, its stages, and the verbs that call them."""

from __future__ import annotations

from efface.run.execute import RunResult, execute
from efface.run.sequence import execute_in_turn, revoke
from efface.run.tasks import evaluate_on_tasks
from efface.run.verbs import evaluate, load, unlearn

__all__ = ["RunResult", "evaluate", "evaluate_on_tasks", "execute", "execute_in_turn", "load", "revoke", "unlearn"]
