"""Tasks of the lm-evaluation-harness on a model by its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efface.evals.harness import evaluate_tasks
from efface.models.language_model import load_language_model
from efface.results import Results, Unlearned
from efface.run.progress import Progress, within

__all__ = ["evaluate_on_tasks"]


def evaluate_on_tasks(
    model: str | Path | Unlearned | Any,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    shots: int | None = None,
    include: str | Path | None = None,
    seed: int = 0,
    template: str | None = None,
    role: str = "model",
    progress: Progress | None = None,
) -> Results:
    """Run tasks of the harness on a model; arguments as in :func:`efface.evals.harness.evaluate_tasks`.

    Args:
        model: Directory, hub id, what ``unlearn`` returned, or anything that speaks the two verbs.
        tasks: Names of tasks or groups.
        limit: Use only so many questions per task.
        shots: Examples before each question; None takes the task's.
        include: Folder with task files of your own.
        seed: Seed of the choice of examples.
        template: Template of a model given by its place; tasks bring prompts of their own.
        role: What the model is called.
        progress: Told of (stage, done, in all).
    """
    place = model.path if isinstance(model, Unlearned) else model
    loaded = load_language_model(place, template=template) if isinstance(place, str | Path) else place
    told = within(progress, "tasks of lm-eval")
    return evaluate_tasks(loaded, tasks, limit=limit, shots=shots, include=include, seed=seed, role=role, progress=told)
