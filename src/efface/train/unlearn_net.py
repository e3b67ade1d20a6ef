"""Unlearning with an ordinary net: what is checked first, what a method is handed, what comes out of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from efface.data.net_batches import Relabelled, RowBatches, label_tensor, labelled_rows
from efface.data.net_sets import as_rows
from efface.data.problem import NetTraining, as_training
from efface.errors import EffaceError, InputError, TrainingStopped
from efface.methods.nets.base import NetData, NetMethod
from efface.models.activations import as_in_use, device_of, forward, on_device
from efface.models.memory import peak_memory
from efface.models.net_losses import NetLoss
from efface.models.seeding import seeded
from efface.results import Cost, PathPoint
from efface.train.net import accelerator
from efface.train.net_checks import examined, frozen_in_part, has_lazy_layers, in_dtype_of_net, private_copy
from efface.train.net_recipe import mean_loss
from efface.train.net_tools import Tools

__all__ = ["NetJob", "NetOutcome", "check_job", "run_net_job"]

BATCH_SIZE = 64
_MOVED, _MOVED_AT_LEAST = 0.1, 0.02
"""A change of the forget loss, as a share of it and in itself, below which it is worth a note."""
_PATH_ROWS = 512
_NOTHING_TO_TRAIN = ("cannot be empty", "empty parameter list", "does not require grad")
"""What torch says to an optimiser, or to a gradient, of no parameters."""


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
        recipe: How the original was trained; a mapping of its settings becomes one.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", as_training(self.recipe))


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
    """Check rows, labels and net against what the method needs; nothing is trained, and global random states stay as they were.

    Returns:
        What a reader must know.

    Raises:
        InputError: When rows are missing, change from one reading to the next, are not finite, or do not fit the net.
        MissingNeed: When the method needs rows, labels, a recipe or a task that are not there.
    """
    with seeded(job.seed):
        return examined(replace(job, net=private_copy(job.net)) if has_lazy_layers(job.net) else job)[1]


def run_net_job(job: NetJob, *, progress: Callable[[str, int, int], None] | None = None) -> NetOutcome:
    """Check the job, let the method change a copy of the net, and return it; global random states are left as they were.

    Raises:
        InputError: See :func:`check_job`.
        TrainingStopped: When a loss or a weight is not a finite number.
    """
    given, net = job.net, private_copy(job.net).to(accelerator().device)
    with seeded(job.seed):
        job, notes = examined(in_dtype_of_net(_as_sets(replace(job, net=net))))
    if not frozen_in_part(net):
        net.requires_grad_(True)
    tools = _tools(job, given, progress)
    with seeded(job.seed):
        data = _data(job, net)
    before = _losses(job, net)
    tools.diary.path.append(PathPoint(0, 0.0, before))
    with seeded(job.seed):
        started = time.perf_counter()
        made = _run(job.method, net, data, tools)
        seconds = time.perf_counter() - started
    made.eval()
    diary = tools.diary
    after = _losses(job, made)
    _require_finite(made, given, before, after)
    diary.path.append(PathPoint(diary.steps, float(len(diary.path)), after))
    every = not frozen_in_part(made)
    trained = sum(parameter.numel() for parameter in made.parameters() if every or parameter.requires_grad)
    cost = Cost(seconds, peak_memory(), diary.steps, trained)
    frozen = _frozen_notes(made, given) if frozen_in_part(given) else ()
    _put_back_flags(made, given)
    return NetOutcome(made, tuple(diary.path), diary.stopped, cost, (*notes, *diary.notes, *frozen, *_unmoved(before, after)))


def _tools(job: NetJob, given: nn.Module, progress: Callable[[str, int, int], None] | None) -> Tools:
    """Return what the method is handed to work with; ``given`` is the caller's own net."""
    batch_size = getattr(job.method.config, "batch_size", None)
    return Tools(
        seed=job.seed,
        generator=torch.Generator().manual_seed(job.seed),
        batch_size=batch_size or (job.recipe.batch_size if job.recipe else BATCH_SIZE),
        loss=job.loss,
        make_model=None if job.make_model is None else _fresh(job.make_model, given),
        recipe=job.recipe,
        validation=job.validation,
        head=job.head,
        activation_names=job.activations,
        score=job.score,
        progress=progress,
    )


def _fresh(make_model: Callable[[int], nn.Module], given: nn.Module) -> Callable[[int], nn.Module]:
    """Return ``make_model`` with what it draws anew free to be trained; a part that is frozen and equal in both nets stays so."""

    def fresh(seed: int) -> nn.Module:
        made, known = make_model(seed), dict(given.named_parameters())
        for name, parameter in made.named_parameters():
            old = known.get(name)
            kept = old is not None and not old.requires_grad and torch.equal(old.cpu(), parameter.cpu())
            if not parameter.requires_grad and not kept and parameter.is_floating_point():
                parameter.requires_grad_(True)
        return made

    return fresh


def _run(method: NetMethod, net: nn.Module, data: NetData, tools: Tools) -> nn.Module:
    """Run the method; where all it would change is frozen, say so."""
    try:
        return method.run(net, data, tools)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, EffaceError) or not (frozen_in_part(net) and any(text in str(error) for text in _NOTHING_TO_TRAIN)):
            raise
        raise InputError(
            f"All that {method.name} would change is frozen in the net. It changes the parameters that take gradients. Unfreeze "
            "some (requires_grad_), or choose another method."
        ) from error


def _as_sets(job: NetJob) -> NetJob:
    sets = {title: getattr(job, title) for title in ("forget", "retain", "validation")}
    return replace(job, **{title: as_rows(rows, name=f"the {title} set") for title, rows in sets.items() if rows is not None})


def _require_finite(made: nn.Module, given: nn.Module, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """Refuse a net that diverged: a weight or a loss that was finite before and is no longer."""
    original = given.state_dict()
    for name, tensor in made.state_dict().items():
        was = original.get(name)
        if _is_finite(tensor) or (was is not None and not is_lazy(was) and not _is_finite(was)):
            continue
        raise TrainingStopped(
            f"The method left values in {name} that are NaN or infinite. A net of use holds finite numbers. Lower the learning "
            "rate, clip the gradients (max_grad_norm), or take fewer epochs."
        )
    for name, value in after.items():
        if not math.isfinite(value) and math.isfinite(before.get(name, 0.0)):
            raise TrainingStopped(
                f"The method left a {name.replace('_', ' ')} of {value}. A net of use answers with finite numbers. Lower the "
                "learning rate, clip the gradients (max_grad_norm), or take fewer epochs."
            )


def _is_finite(tensor: Any) -> bool:
    return not (isinstance(tensor, Tensor) and tensor.is_floating_point()) or bool(tensor.isfinite().all())


def _frozen_notes(made: nn.Module, given: nn.Module) -> tuple[str, ...]:
    """Say what became of the parameters that are frozen in the net that was given."""
    found = dict(made.named_parameters())
    frozen = {name: parameter for name, parameter in given.named_parameters() if not parameter.requires_grad}
    moved = [name for name, old in frozen.items() if name in found and not torch.equal(old.cpu(), found[name].cpu())]
    if moved:
        return (
            f"{len(moved)} of the {len(frozen)} parameters that are frozen in the net were changed, such as {moved[0]}: the method "
            "trains more than the parameters that take gradients.",
        )
    return (f"{len(frozen)} parameters are frozen in the net and stayed as they were; only the others were trained.",)


def _put_back_flags(made: nn.Module, given: nn.Module) -> None:
    """Let the parameters take gradients where those of the caller's net do."""
    flags = {name: parameter.requires_grad for name, parameter in given.named_parameters()}
    for name, parameter in made.named_parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(flags.get(name, parameter.requires_grad))


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
    x, _ = next(iter(RowBatches(Relabelled(job.forget, None), batch_size=2)))
    with as_in_use(net):
        return int(forward(net, on_device(x, device_of(net))).shape[-1])


def _losses(job: NetJob, net: nn.Module) -> dict[str, float]:
    """Return the loss on at most so many labelled rows of each set, for the two ends of the path."""
    found = {}
    with seeded(job.seed):  # a data set may augment
        for name, rows in (("forget", job.forget), ("retain", job.retain)):
            labelled = () if rows is None else labelled_rows(rows)[:_PATH_ROWS].tolist()
            if labelled:
                found[f"{name}_loss"] = mean_loss(net, torch.utils.data.Subset(rows, labelled), job.loss)
    return found
