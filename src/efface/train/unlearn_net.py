"""Unlearning with an ordinary net: what is checked first, what a method is handed, what comes out of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from efface.data.net_batches import Relabelled, RowBatches, label_tensor, rows_not_finite, tensors_in
from efface.data.problem import NetTraining
from efface.errors import InputError, MissingNeed
from efface.methods.base import Need
from efface.methods.nets.base import NetData, NetMethod
from efface.models.activations import as_in_use, device_of, forward, on_device
from efface.models.memory import peak_memory
from efface.models.net_losses import NetLoss
from efface.results import Cost, PathPoint
from efface.train.net import accelerator, seeded
from efface.train.net_recipe import mean_loss
from efface.train.net_tools import Tools

__all__ = ["NetJob", "NetOutcome", "check_job", "run_net_job"]

BATCH_SIZE = 64
_PROBED = 8
_MOVED, _MOVED_AT_LEAST = 0.1, 0.02
"""A change of the forget loss, as a share of it and in itself, below which it is worth a note."""
_PATH_ROWS = 512


@dataclass(frozen=True)
class NetJob:
    """A net, a method, and the rows.

    Attributes:
        net: The original; it is never changed.
        method: What to do.
        forget: Map-style rows that must go.
        retain: Map-style rows to keep, or None.
        task: "classification", "regression" or "forecasting".
        loss: The loss the net is judged by.
        validation: Rows the net never learned from.
        num_classes: Number of classes; None: as many as the net has outputs.
        make_model: Seed -> freshly initialised net.
        recipe: How the original was trained.
        head: Name of the head.
        activations: Names of the modules whose activations are compared.
        score: Score of a net, lower is better.
        seed: Unlearning seed.
    """

    net: nn.Module
    method: NetMethod
    forget: Any
    retain: Any
    task: str
    loss: NetLoss
    validation: Any = None
    num_classes: int | None = None
    make_model: Callable[[int], nn.Module] | None = None
    recipe: NetTraining | None = None
    head: str | None = None
    activations: tuple[str, ...] | None = None
    score: Callable[[nn.Module], float] | None = None
    seed: int = 0


@dataclass(frozen=True)
class NetOutcome:
    """The unlearned net and how it came about.

    Attributes:
        net: The net, in evaluation mode, where it was trained.
        history: Losses along the way, the forget and retain loss before and after.
        stopped: Why training ended.
        cost: Seconds of the method alone, memory, steps, parameters.
        notes: What a reader must know.
    """

    net: nn.Module
    history: tuple[PathPoint, ...]
    stopped: str
    cost: Cost
    notes: tuple[str, ...]


def check_job(job: NetJob) -> tuple[str, ...]:
    """Check rows, labels and net against what the method needs; nothing is trained.

    Returns:
        What a reader must know.

    Raises:
        InputError: When rows are missing, change from one reading to the next, are not finite, or do not fit the net.
        MissingNeed: When the method needs rows, labels, a recipe or a task that are not there.
    """
    method, name = job.method, job.method.name
    if job.task not in method.tasks:
        raise MissingNeed(
            f"{name} is no method for {job.task}. It works for {', '.join(sorted(method.tasks))}. Choose another method: "
            f"`efface methods` lists them."
        )
    if job.retain is None and Need.RETAIN_SET in method.needs:
        raise MissingNeed(
            f"{name} needs rows to keep and none were given. It trains on them. Pass retain=, or choose another method."
        )
    if method.needs_recipe and job.recipe is None:
        raise MissingNeed(
            f"{name} repeats the original's training and no recipe was given. A recipe says epochs, learning rate and so on. "
            "Pass training=NetTraining(...), or give the problem one."
        )
    if job.validation is None and Need.HOLDOUT_SET in method.needs:
        raise MissingNeed(
            f"{name} needs rows the net never learned from and there are none. It is chosen by them. Pass validation=, or choose "
            "another method."
        )
    for title, rows in (("forget", job.forget), ("retain", job.retain)):
        if rows is not None:
            _check_rows(job, title, rows)
    return _notes(job)


def _check_rows(job: NetJob, title: str, rows: Any) -> None:
    if len(rows) == 0:
        raise InputError(f"The {title} set is empty. Unlearning needs at least one row in it. Choose some rows.")
    _require_stable(rows, title)
    bad = rows_not_finite(rows)
    if bad:
        raise InputError(
            f"{len(bad)} {title} rows hold NaN or infinite values, such as row {bad[0]}. A net needs finite numbers. "
            "Fill these values or drop the rows."
        )
    labels = label_tensor(rows)
    if labels is None and job.method.labels_read in (title, "both"):
        raise MissingNeed(
            f"The {title} rows have no labels and {job.method.name} reads them. Rows are (x, y). Give labels, or take a method "
            "that reads none, such as laf."
        )
    _check_fit(job, title, rows, labels)


def _require_stable(rows: Any, title: str) -> None:
    """Refuse rows whose labels are others when they are read again: their numbers would mean nothing."""
    numbers = range(min(_PROBED, len(rows)))
    first, second = ([_label(rows[i]) for i in numbers] for _ in range(2))
    if any(_differ(a, b) for a, b in zip(first, second, strict=True)):
        raise InputError(
            f"The {title} rows give other labels when they are read again. Rows are counted, so that their order must stay; "
            "training shuffles by its own seed. Take the shuffling out of the data set."
        )


def _label(row: Any) -> Any:
    return row[1] if isinstance(row, tuple | list) and len(row) == 2 else None


def _differ(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return (a is None) != (b is None)
    return not torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def _check_fit(job: NetJob, title: str, rows: Any, labels: Tensor | None) -> None:
    """Put the first rows through the net, and check the labels against what it answers."""
    x, y = next(iter(RowBatches(rows, batch_size=2)))
    try:
        with as_in_use(job.net):
            outputs = forward(job.net, on_device(x, device_of(job.net)))
    except (RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        shapes = ", ".join(str(tuple(tensor.shape[1:])) for tensor in tensors_in(x))
        raise InputError(
            f"The net cannot take the {title} rows, whose inputs have the shape {shapes}: {str(error).splitlines()[0]}. Inputs "
            "have the shape and type the net was trained on. Convert them, or name the right net."
        ) from None
    if len(outputs) != len(tensors_in(x)[0]):
        raise InputError(
            f"The net answers {len(outputs)} values for a batch of {len(tensors_in(x)[0])} {title} rows. The first dimension of "
            "its outputs counts the rows. Mend its forward."
        )
    if y is None or labels is None:
        return
    if job.task == "classification" and not labels.is_floating_point():
        low, high = int(labels.min()), int(labels.max())
        if outputs.dim() == 2 and not 0 <= low <= high < outputs.shape[1]:
            raise InputError(
                f"The {title} labels run from {low} to {high} and the net tells {outputs.shape[1]} classes apart. Classes are "
                "numbered from zero. Renumber the labels, or give the net more outputs."
            )
    job.loss(outputs, on_device(y, outputs.device))


def _notes(job: NetJob) -> tuple[str, ...]:
    labels = label_tensor(job.forget)
    if job.task != "classification" or labels is None or len(labels.unique()) != 1:
        return ()
    note = f"All forget rows are of class {int(labels.reshape(-1)[0])}: this is class forgetting."
    kept = label_tensor(job.retain) if job.retain is not None else None
    if kept is not None and not bool((kept.reshape(-1) == labels.reshape(-1)[0]).any()):
        note += " No retain row is of this class, so that plain fine-tuning may erase it as well."
    return (note,)


def run_net_job(job: NetJob, *, progress: Callable[[str, int, int], None] | None = None) -> NetOutcome:
    """Check the job, let the method change a copy of the net, and return it; global random states are left as they were.

    Raises:
        InputError: See :func:`check_job`.
        TrainingStopped: When a loss is not a finite number.
    """
    notes = check_job(job)
    settings = job.method.config
    tools = Tools(
        seed=job.seed,
        generator=torch.Generator().manual_seed(job.seed),
        batch_size=getattr(settings, "batch_size", None) or (job.recipe.batch_size if job.recipe else BATCH_SIZE),
        loss=job.loss,
        make_model=job.make_model,
        recipe=job.recipe,
        validation=job.validation,
        head=job.head,
        activation_names=job.activations,
        score=job.score,
        progress=progress,
    )
    net = copy.deepcopy(job.net).to(accelerator().device)
    net.requires_grad_(True)
    data = _data(job, net)
    before = _losses(job, net)
    tools.diary.path.append(PathPoint(0, 0.0, before))
    with seeded(job.seed):
        started = time.perf_counter()
        made = job.method.run(net, data, tools)
        seconds = time.perf_counter() - started
    made.eval()
    diary = tools.diary
    after = _losses(job, made)
    diary.path.append(PathPoint(diary.steps, float(len(diary.path)), after))
    trained = sum(parameter.numel() for parameter in made.parameters())
    cost = Cost(seconds, peak_memory(), diary.steps, trained)
    return NetOutcome(made, tuple(diary.path), diary.stopped, cost, (*notes, *diary.notes, *_unmoved(before, after)))


def _unmoved(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[str, ...]:
    """Say so where the loss on what must go is practically what it was."""
    old, new = before.get("forget_loss"), after.get("forget_loss")
    if old is None or new is None or abs(new - old) > max(_MOVED * abs(old), _MOVED_AT_LEAST):
        return ()
    return (
        f"The loss on the forget rows hardly moved ({old:.3g} before, {new:.3g} after): the net answers on them as it did. "
        "More epochs, a higher learning rate or another method may forget more.",
    )


def _data(job: NetJob, net: nn.Module) -> NetData:
    """Return the rows as the method may see them: without the labels that it says it does not read."""
    read = job.method.labels_read
    forget = job.forget if read in ("forget", "both") else Relabelled(job.forget, None)
    retain = job.retain if read in ("retain", "both") or job.retain is None else Relabelled(job.retain, None)
    return NetData(
        forget=forget,
        retain=retain,
        task=job.task,
        validation=job.validation,
        num_classes=_classes(job, net),
        forget_labels=label_tensor(forget),
        retain_labels=None if retain is None else label_tensor(retain),
    )


def _classes(job: NetJob, net: nn.Module) -> int | None:
    if job.task != "classification":
        return None
    if job.num_classes is not None:
        return job.num_classes
    x, _ = next(iter(RowBatches(job.forget, batch_size=2)))
    with as_in_use(net):
        return int(forward(net, on_device(x, device_of(net))).shape[-1])


def _losses(job: NetJob, net: nn.Module) -> dict[str, float]:
    """Return the loss on at most so many rows of each labelled set, for the two ends of the path."""
    found = {}
    for name, rows in (("forget", job.forget), ("retain", job.retain)):
        if rows is None or label_tensor(rows) is None:
            continue
        part = torch.utils.data.Subset(rows, range(min(len(rows), _PATH_ROWS)))
        found[f"{name}_loss"] = mean_loss(net, part, job.loss)
    return found
