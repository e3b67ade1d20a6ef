"""What is checked before an ordinary net unlearns: that method, net, rows and labels fit each other. Nothing is trained here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Subset

from efface.data.net_batches import (
    InDtype,
    Relabelled,
    RowBatches,
    input_digests,
    label_tensor,
    labelled_rows,
    reader_of,
    rows_not_finite,
)
from efface.data.net_sets import FetchedRows, Part, as_rows, columns_of
from efface.data.net_survey import pair_of, tensors_in
from efface.data.problem import check_columns, require_validation
from efface.errors import InputError, MissingNeed
from efface.methods.base import Need
from efface.models.activations import as_in_use, device_of, forward, on_device

if TYPE_CHECKING:
    from efface.models.net_losses import NetLoss
    from efface.train.unlearn_net import NetJob

__all__ = [
    "answered",
    "examined",
    "frozen_in_part",
    "has_lazy_layers",
    "in_dtype_of_net",
    "private_copy",
    "require_finite",
    "require_fitting_labels",
]

_PROBED, _READINGS = 8, 8
_KNOWN, _ITSELF = 0.5, 0.25
"""Share of readings that are some row of the set above which, and that are the row itself below which, rows are shuffled."""


def private_copy(net: nn.Module) -> nn.Module:
    """Return a copy of the net.

    Raises:
        InputError: When it cannot be copied, or has no weights.
    """
    if not any(True for _ in net.parameters()):
        raise InputError(
            f"The net ({type(net).__name__}) has no weights. Unlearning changes weights. Pass a net with trained parameters."
        )
    # What a forward pass left (pruning, weight_norm) is no leaf, which deepcopy refuses; the next pass makes it anew.
    left = [value for module in net.modules() for value in vars(module).values() if isinstance(value, Tensor) and not value.is_leaf]
    try:
        return copy.deepcopy(net, {id(value): value.detach().clone() for value in left})
    except Exception as error:
        raise InputError(
            f"The net cannot be copied ({type(error).__name__}: {_said(error)}). A copy of it is changed, never itself. Take out "
            "what copy.deepcopy cannot copy, such as results of a forward pass kept in attributes."
        ) from error


def _said(error: Exception) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def frozen_in_part(net: nn.Module) -> bool:
    """Say whether some parameters of the net are frozen, but not all: those of a net that is merely in use tell nothing."""
    flags = [parameter.requires_grad for parameter in net.parameters()]
    return any(flags) and not all(flags)


def examined(job: NetJob) -> tuple[NetJob, tuple[str, ...]]:
    """Check a job.

    Returns:
        The job with its rows as methods may see them (tensors, class numbers as whole numbers), and what a reader must know.

    Raises:
        InputError: When rows are missing, change from one reading to the next, are not finite, or do not fit the net.
        MissingNeed: When the method needs rows, labels, a recipe or a task that are not there.
    """
    _check_needs(job)
    given = {"forget": job.forget, "retain": job.retain, "validation": job.validation}
    sets = {title: as_rows(rows, name=f"the {title} set") for title, rows in given.items() if rows is not None}
    check_columns({f"The {title} set": rows for title, rows in sets.items()})
    notes: list[str] = []
    for title, rows in sets.items():
        sets[title] = _checked_rows(job, title, rows, notes)
    if "retain" in sets:
        notes += _overlap(sets["forget"], sets["retain"])
    job = replace(job, forget=sets["forget"], retain=sets.get("retain"), validation=sets.get("validation"))
    return job, (*notes, *_class_notes(job))


def _check_needs(job: NetJob) -> None:
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
    if method.needs_recipe:
        require_validation(job.recipe, job.validation)
    if job.validation is None and Need.HOLDOUT_SET in method.needs:
        raise MissingNeed(
            f"{name} needs rows the net never learned from and there are none. It is chosen by them. Pass validation=, or choose "
            "another method."
        )


def _checked_rows(job: NetJob, title: str, rows: Any, notes: list[str]) -> Any:
    """Check the rows of one set and return them as methods may see them."""
    require_finite(rows, title)
    _require_stable(rows, title)
    outputs, y = answered(partial(_in_use, job.net), rows, title, task=job.task, loss=job.loss)
    if bool(outputs.isnan().any()):
        raise InputError(
            f"The net answers NaN for the {title} rows. Unlearning starts from a net that works. Look for NaN in its weights, or "
            "train it again."
        )
    if job.method.labels_read in (title, "both") or title == "validation":
        _require_labels(job, title, rows)
        return _with_class_numbers(job, title, rows, outputs, y)
    try:
        return _with_class_numbers(job, title, rows, outputs, y)
    except InputError as error:
        notes.append(f"{job.method.name} does not read the labels of the {title} rows, and no loss of theirs is shown: {error}")
        return Relabelled(rows, None)


def require_finite(rows: Any, title: str) -> None:
    """Refuse a set without rows, or with values that are not finite.

    Raises:
        InputError: Names the first such row.
    """
    if len(rows) == 0:
        raise InputError(f"The {title} set is empty. A set has at least one row in it. Choose some rows.")
    bad = rows_not_finite(rows)
    if bad:
        raise InputError(
            f"{len(bad)} {title} rows hold NaN or infinite values, such as row {bad[0]}. A net needs finite numbers. "
            "Fill these values or drop the rows."
        )


def _require_stable(rows: Any, title: str) -> None:
    """Refuse rows that are others when they are read again: their numbers would mean nothing.

    An input that changes tells nothing by itself, since a data set may augment. One that comes back in another row's place does.
    """
    labels = [pair_of(rows[i])[1] for i in range(min(_PROBED, len(rows)))]
    if any(_differ(a, pair_of(rows[i])[1]) for i, a in enumerate(labels)):
        raise InputError(
            f"The {title} rows give other labels when they are read again. Rows are counted, so that their order must stay; "
            "training shuffles by its own seed. Take the shuffling out of the data set."
        )
    if reader_of(rows) is not None:
        return
    if _come_back_elsewhere(rows):
        raise InputError(
            f"The {title} rows stand in another place when they are read again. Rows are counted, so that their order must stay; "
            "training shuffles by its own seed. Take the shuffling out of the data set."
        )


def _come_back_elsewhere(rows: Any) -> bool:
    """Whether rows that are read again are mostly rows of the set, and seldom themselves.

    A row that augmentation flips looks like another one now and then; a shuffled one nearly always does.
    """
    before, probed = input_digests(rows), range(min(_PROBED, len(rows)))
    own, known, itself = before[: len(probed)], [], []
    if len(np.unique(before)) <= len(before) / 2:  # among so many equal rows, places tell nothing
        return False
    for _ in range(_READINGS):
        again = input_digests(as_rows([rows[i] for i in probed]))
        if (again == own).all():
            return False
        known.append(np.isin(again, before).mean())
        itself.append((again == own).mean())
    return bool(np.mean(known) > _KNOWN and np.mean(itself) < _ITSELF)


def _differ(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return (a is None) != (b is None)
    return not torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def _in_use(net: nn.Module, x: Any) -> Tensor:
    with as_in_use(net):
        return forward(net, on_device(x, device_of(net)))


def answered(
    predict: Callable[[Any], Tensor], rows: Any, title: str, *, task: str, loss: NetLoss, whose: str = "net"
) -> tuple[Tensor, Any]:
    """Put two rows through a net and return what it answers, and their labels; rows with labels where there are some.

    Raises:
        InputError: When it cannot take them, or its answer has the wrong form for the task.
    """
    labelled = labelled_rows(rows)
    x, y = next(iter(RowBatches(Part(rows, labelled[:2] if len(labelled) else np.arange(min(2, len(rows)))), batch_size=2)))
    try:
        outputs = predict(x)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The {whose} cannot take the {title} rows, whose inputs have {_form(x)}: {_said(error)}. Inputs "
            f"have the shape and type the net was trained on. {_hint(rows, x)}Convert them, or name the right net."
        ) from None
    if outputs.dim() == 0 or len(outputs) != len(tensors_in(x)[0]):
        raise InputError(
            f"The {whose} answers {outputs.numel()} values for a batch of {len(tensors_in(x)[0])} {title} rows. The first "
            "dimension of its outputs counts the rows. Mend its forward."
        )
    if task == "classification" and loss.function is None and outputs.dim() != 2:
        raise InputError(
            f"The {whose} answers {tuple(outputs.shape)} for {len(outputs)} {title} rows. A classifier gives logits, one row per "
            "item: (rows, classes). Change the net's output, or give a loss function of your own."
        )
    return outputs, y


def _form(x: Any) -> str:
    tensors = tensors_in(x)
    shapes = ", ".join(str(tuple(tensor.shape[1:])) for tensor in tensors)
    types = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))
    return f"the shape {shapes} and the type {types}"


def _hint(rows: Any, x: Any) -> str:
    """Return what is wrong in most cases with rows of this kind that a net cannot take."""
    columns = columns_of(rows)
    if columns is not None:
        return f"The inputs are {len(columns)} columns, the last {columns[-1]}; one that holds labels is named by target=. "
    if isinstance(x, Tensor):
        numbers = x.dim() == 1 and not x.is_floating_point()
        return "Row numbers are no rows: pass the rows themselves. " if numbers else ""
    return "Rows are (x, y); an item of another form is taken for inputs alone. "


def _require_labels(job: NetJob, title: str, rows: Any) -> None:
    """Refuse rows without labels where they are read, and rows of which some have none unless the method takes these."""
    known = len(labelled_rows(rows))
    name = job.method.name
    if known == len(rows) or (known and title != "validation" and job.method.some_labels_suffice):
        return
    if title == "validation":
        raise MissingNeed(
            f"{len(rows) - known} of {len(rows)} validation rows have no label. The net is judged by them. Give labels, or leave "
            "validation out."
        )
    if known:
        raise MissingNeed(
            f"{len(rows) - known} of {len(rows)} {title} rows have no label and {name} reads them all. Rows are (x, y). Label or "
            "drop them, or take laf, which reads no label, or laf_r, which repairs with the retain labels there are."
        )
    named = " Name the column of the frame that holds them: target=." if columns_of(rows) is not None else ""
    raise MissingNeed(
        f"The {title} rows have no labels and {name} reads them.{named} Rows are (x, y). Give labels, or take a method "
        "that reads none, such as laf."
    )


def _with_class_numbers(job: NetJob, title: str, rows: Any, outputs: Tensor, y: Any) -> Any:
    """Check labels against what the net answers, and return the rows with class numbers as whole numbers of one type."""
    if y is None:
        return rows
    require_fitting_labels(rows, outputs, y, title, task=job.task, loss=job.loss)
    if job.task != "classification" or job.loss.function is not None:
        return rows
    if job.num_classes is not None and job.num_classes != outputs.shape[1]:
        raise InputError(
            f"num_classes is {job.num_classes} and the net tells {outputs.shape[1]} classes apart. They are the same number. Mend "
            "num_classes, or leave it out."
        )
    labels = label_tensor(rows)
    return rows if labels is None or labels.dtype == torch.int64 else Relabelled(rows, labels.long())


def require_fitting_labels(rows: Any, outputs: Tensor, y: Any, title: str, *, task: str, loss: NetLoss, whose: str = "net") -> None:
    """Refuse labels that a net's answer cannot be held against.

    Args:
        rows: The set.
        outputs: What the net answers for some of its rows.
        y: The labels of these.
        title: How the set is called.
        task: "classification", "regression" or "forecasting".
        loss: What answer and labels are compared by.
        whose: How the net is called.

    Raises:
        InputError: When they are no class numbers of the net, or the loss cannot take them.
    """
    if task == "classification" and loss.function is None:  # a function of the caller's may mean anything by its labels
        _require_classes(title, _known_labels(rows), outputs.shape[1], whose)
    try:
        loss(outputs, on_device(y, outputs.device))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The loss {loss.name} fails on the {title} rows: {_said(error)}. It takes outputs "
            f"{tuple(outputs.shape)} and the labels of a batch. Mend the loss or the labels."
        ) from error


def _known_labels(rows: Any) -> Tensor:
    labels = label_tensor(rows)
    return labels if labels is not None else torch.stack([torch.as_tensor(rows[int(i)][1]) for i in labelled_rows(rows)])


def _require_classes(title: str, labels: Tensor, classes: int, whose: str) -> None:
    if labels.is_floating_point() and bool((labels != labels.round()).any()):
        odd = float(labels[labels != labels.round()][0])
        raise InputError(
            f"The {title} labels hold values such as {odd:g}. A class is a whole number, counted from zero. Number the classes, or "
            'take task="regression".'
        )
    low, high = int(labels.min()), int(labels.max())
    if not 0 <= low <= high < classes:
        unknown = " Where -1 stands for a label that is not known, give None in its place." if low == -1 else ""
        raise InputError(
            f"The {title} labels run from {low} to {high} and the {whose} tells {classes} classes apart. Classes are "
            f"numbered from zero.{unknown} Renumber the labels, or give the net more outputs."
        )


def _overlap(forget: Any, retain: Any) -> tuple[str, ...]:
    """Refuse a retain set that holds all that must go; say so where it holds some of it, since data have duplicates."""
    shared = _shared(forget, retain)
    if shared == len(forget) and len(np.unique(input_digests(forget))) > 1:  # a single row may have a twin
        raise InputError(
            f"All {shared} forget rows also stand in the retain set. A row is forgotten or kept, not both. Take them out of the "
            "retain set."
        )
    if not shared:
        return ()
    return (
        f"{shared} of {len(forget)} forget rows also stand in the retain set (same input, same label): training on it keeps them. "
        "Take them out unless they are duplicates that may stay.",
    )


def _shared(forget: Any, retain: Any) -> int:
    """Return how many forget rows stand in the retain set."""
    (source, chosen), (other, kept_rows) = _source(forget), _source(retain)
    if source is other and chosen is not None and kept_rows is not None:
        return int(np.isin(chosen, kept_rows).sum())
    equal = np.isin(input_digests(forget), input_digests(retain))
    if not equal.any():
        return 0
    first, second = label_tensor(forget), label_tensor(retain)
    if first is None or second is None:
        return int(equal.sum())
    kept: dict[int, list[Tensor]] = {}
    for digest, label in zip(input_digests(retain).tolist(), second, strict=True):
        kept.setdefault(digest, []).append(label)
    digests = input_digests(forget).tolist()
    return sum(any(first[i].tolist() == label.tolist() for label in kept[digests[i]]) for i in np.flatnonzero(equal))


def _source(rows: Any) -> tuple[Any, NDArray[np.int64] | None]:
    """Return the whole set and the numbers of the rows chosen from it, None where the rows are no choice."""
    if isinstance(rows, FetchedRows | Relabelled | InDtype):
        return _source(rows.rows)
    if isinstance(rows, Part):
        return rows.rows, rows.indices
    return (rows.dataset, np.asarray(rows.indices)) if isinstance(rows, Subset) else (rows, None)


def _class_notes(job: NetJob) -> tuple[str, ...]:
    labels = label_tensor(job.forget)
    if job.task != "classification" or labels is None or len(labels.unique()) != 1:
        return ()
    note = f"All forget rows are of class {int(labels.reshape(-1)[0])}: this is class forgetting."
    kept = label_tensor(job.retain) if job.retain is not None else None
    if kept is not None and not bool((kept.reshape(-1) == labels.reshape(-1)[0]).any()):
        note += " No retain row is of this class, so that plain fine-tuning may erase it as well."
    return (note,)


def has_lazy_layers(net: nn.Module) -> bool:
    """Say whether the net has weights that are drawn by its first forward pass only."""
    return any(is_lazy(parameter) for parameter in net.parameters())


def in_dtype_of_net(job: NetJob) -> NetJob:
    """Return the job with inputs of the type of the net's weights, where the net cannot take them as they are.

    A net that takes them gets what the caller gave: it may convert them itself, and better.
    """
    types = {parameter.dtype for parameter in job.net.parameters() if parameter.is_floating_point()}
    if len(types) != 1:
        return job
    dtype = types.pop()

    def fitted(rows: Any) -> Any:
        if rows is None or len(rows) == 0:
            return rows
        x, cast = _first(rows), InDtype(rows, dtype)
        given = {tensor.dtype for tensor in tensors_in(x) if tensor.is_floating_point()}
        return rows if given <= {dtype} or _takes(job.net, x) or not _takes(job.net, _first(cast)) else cast

    return replace(job, forget=fitted(job.forget), retain=fitted(job.retain), validation=fitted(job.validation))


def _first(rows: Any) -> Any:
    """Return the inputs of the first row as a batch."""
    return next(iter(RowBatches(Relabelled(Part(rows, np.arange(1)), None), batch_size=1)))[0]


def _takes(net: nn.Module, x: Any) -> bool:
    try:
        with as_in_use(net):
            forward(net, on_device(x, device_of(net)))
    except Exception:  # why not is found and told by the checks
        return False
    return True
