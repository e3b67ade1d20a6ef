"""Tasks of the lm-evaluation-harness (extra ``lm-eval``) as results of ours: MMLU, GSM8K, WMDP and whatever else it knows."""

from __future__ import annotations

import importlib.util
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efface.errors import InputError, MissingNeed
from efface.registry import closest
from efface.results import Aim, Interval, Metric, Results

if TYPE_CHECKING:
    from efface.models.protocol import LanguageModel, Progress

__all__ = ["evaluate_tasks", "has_harness"]

_NORMAL = 1.959964  # two-sided 95 %
_METHOD = "normal approximation with lm-eval's standard error"
_FORGOTTEN = ("wmdp",)  # tasks on which a higher score is more of what should be gone


def has_harness() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("lm_eval") is not None


def evaluate_tasks(
    model: LanguageModel,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    shots: int | None = None,
    include: str | Path | None = None,
    seed: int = 0,
    role: str = "model",
    progress: Progress | None = None,
) -> Results:
    """Run tasks of the harness on a model.

    Args:
        model: Anything that speaks the two verbs: local, guarded, unlearned, attacked.
        tasks: Names of tasks or groups.
        limit: Use only so many questions per task; such figures are for trying things out.
        shots: Examples before each question; None takes the task's.
        include: Folder with task files of your own.
        seed: Seed of the choice of examples.
        role: What the model is called.
        progress: Told of items done.

    Returns:
        One figure per task and metric (``mmlu_acc``), with the harness's standard error as interval; the figures of a group's parts
        stand in its details. A task that needs scores the model cannot give is not available.

    Raises:
        MissingNeed: When the extra is not installed.
        InputError: When a task is not known, its data cannot be read, or it asks for samples.
    """
    if not has_harness():
        raise MissingNeed(
            "Tasks of the lm-evaluation-harness were asked for, and it is not installed. It comes as an extra. "
            "Run pip install 'efface[lm-eval]'."
        )
    import lm_eval

    from efface.evals.harness_model import HarnessModel

    manager = _manager(tasks, include)
    asked = HarnessModel(model, progress=progress)
    metrics: dict[str, Metric] = {}
    notes = [f"Definitions: lm-eval {lm_eval.__version__}, chat template not applied, greedy."]
    for task in tasks:
        try:
            with _random_state():
                found = lm_eval.simple_evaluate(
                    asked,
                    tasks=[task],
                    num_fewshot=shots,
                    limit=limit,
                    bootstrap_iters=1000,
                    log_samples=False,
                    task_manager=manager,
                    random_seed=seed,
                    numpy_random_seed=seed,
                    torch_random_seed=seed,
                    fewshot_random_seed=seed,
                )
        except NotImplementedError as error:
            metrics[f"{_snake(task)}_score"] = Metric(f"{_snake(task)}_score", None, "higher", "original", reason=str(error))
            continue
        except (OSError, ValueError) as error:  # what the readers of its data raise, with or without a network
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"The task {task} cannot be run: {reason}. Its data come from the hub or from files its YAML names. Check the "
                "name, connect, or name a folder of your own tasks."
            ) from None
        metrics |= _metrics(task, found or {}, is_limited=limit is not None)
        notes.append(_said(task, found or {}))
    if asked.cut:
        notes.append(f"{asked.cut} contexts were longer than the model takes and were cut at their beginning.")
    return Results(role, "lm_eval", metrics, fingerprint=model.fingerprint, notes=tuple(notes))


def _manager(tasks: Sequence[str], include: str | Path | None) -> Any:
    """Return the index of tasks: that of the folder alone where it has them all, since the harness's own takes long to read."""
    from lm_eval.tasks import TaskManager

    if include is not None:
        if not Path(include).is_dir():
            raise InputError(f"There is no folder {include}. Tasks of your own are YAML files in a folder. Check the path.")
        own = TaskManager(include_path=str(include), include_defaults=False)
        if set(tasks) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=None if include is None else str(include))
    _require_known(tasks, manager.all_tasks)
    return manager


def _require_known(tasks: Sequence[str], known: Sequence[str]) -> None:
    for task in tasks:
        if task not in known:
            near = closest(task, list(known))
            guess = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
            raise InputError(
                f"There is no task named {task!r} among the {len(known)} that lm-eval knows.{guess} `lm-eval ls tasks` lists "
                "them, and a folder adds your own (--lm-eval-tasks)."
            )


def _metrics(task: str, found: Mapping[str, Any], *, is_limited: bool) -> dict[str, Metric]:
    """Return the figures of a task or group; those of a group's parts stand in its details."""
    results = found.get("results", {})
    parts = [name for name in results if name != task]
    metrics: dict[str, Metric] = {}
    for key, value in results.get(task, {}).items():
        metric, _, kept = key.partition(",")
        if metric.endswith("_stderr") or not kept or not isinstance(value, int | float):
            continue
        name = _snake("_".join([task, metric, *([] if kept == "none" else [kept])]))
        error = results[task].get(f"{metric}_stderr,{kept}")
        count = int(_samples(task, found))
        details = {part: results[part].get(key) for part in parts if isinstance(results[part].get(key), int | float)}
        metrics[name] = Metric(
            name,
            float(value),
            _aim(task, metric, found),
            "original",
            interval=_interval(float(value), error, count),
            n=count,
            reason="only a part of the questions was asked" if is_limited else "",
            details=details,
        )
    return metrics


def _samples(task: str, found: Mapping[str, Any]) -> float:
    counts = found.get("n-samples", {})
    names = [task] if task in counts else found.get("group_subtasks", {}).get(task) or list(counts)
    return float(sum(counts.get(name, {}).get("effective", 0) for name in names))


def _interval(value: float, error: Any, count: int) -> Interval | None:
    if not isinstance(error, int | float):
        return None
    return Interval(value - _NORMAL * error, value + _NORMAL * error, method=_METHOD, n_entities=count)


def _aim(task: str, metric: str, found: Mapping[str, Any]) -> Aim:
    said = found.get("higher_is_better", {}).get(task, {})
    is_higher = said.get(metric, True) if isinstance(said, Mapping) else True
    if task.startswith(_FORGOTTEN):
        is_higher = not is_higher
    return "higher" if is_higher is not False else "lower"


def _said(task: str, found: Mapping[str, Any]) -> str:
    shots = found.get("n-shot", {}).get(task)
    version = found.get("versions", {}).get(task)
    said = f", task version {version:g}" if isinstance(version, int | float) else ""
    return f"{task}: {shots if shots is not None else 'its own number of'} examples before each question{said}."


def _snake(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@contextmanager
def _random_state() -> Iterator[None]:
    """Leave the global random states as they were: the harness seeds them."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
