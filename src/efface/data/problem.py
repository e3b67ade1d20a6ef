"""A problem for an ordinary net: what it predicts, what it is trained on and how, and which of its rows must go.

A problem file holds one function, ``problem() -> Problem``; a package declares such a function in the entry-point group
``efface.problems``. A problem is to nets what rows are to language models, and it brings the recipe by which the original and the
retrained nets are trained.

Example:
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> rows = TensorDataset(torch.randn(20, 3), torch.arange(20) % 2)
    >>> problem = Problem(
    ...     task="classification", make_model=lambda seed: torch.nn.Linear(3, 2), train=rows, test=rows, forget=[0, 2, 4]
    ... )
    >>> problem.forget_rows().tolist()
    [0, 2, 4]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from efface.data.net_sets import FetchedRows, columns_of
from efface.errors import InputError, MissingNeed
from efface.registry import config_error

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = [
    "LossName",
    "NetTraining",
    "Problem",
    "RowChoice",
    "Task",
    "as_training",
    "check_columns",
    "chosen_rows",
    "require_validation",
]

Task = Literal["classification", "regression", "forecasting"]
LossName = Literal["cross_entropy", "l1", "mse", "quantile"]
RowChoice = Sequence[int] | Sequence[bool] | np.ndarray | Callable[[Any, Any], bool]
"""Row numbers, one true or false per row, or a function of a row's ``(x, y)`` that says whether it is one of them."""


class NetTraining(BaseModel):
    """How the original and the retrained nets are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(20, ge=1, description="Passes over the training rows.")
    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: float = Field(0.0, ge=0, lt=1, description="Of SGD.")
    weight_decay: float = Field(0.0, ge=0)
    scheduler: Literal["constant", "linear", "cosine", "plateau"] = Field(
        "constant", description="plateau: a tenth of the learning rate after ten epochs without a lower validation loss."
    )
    max_grad_norm: float = Field(0.0, ge=0, description="Gradient norm to clip at; 0 does not clip.")
    keep: Literal["last", "best"] = Field("last", description="Which epoch's weights to keep; best: the lowest validation loss.")
    patience: int | None = Field(None, ge=1, description="End after so many epochs without a lower validation loss.")
    gradient_penalty: float = Field(0.0, ge=0, description="Weight of the gradient norm in the loss (IAU's alpha; 0.005 there).")
    gradient_norm: Literal["per_tensor", "global"] = Field(
        "per_tensor", description="per_tensor: a sum of one norm per weight tensor (IAU's code); global: one norm (its paper)."
    )

    if not TYPE_CHECKING:  # the fields stay what a type checker and an editor see

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise config_error("the training recipe", NetTraining, error) from error

    @property
    def watches_validation(self) -> bool:
        """Whether a validation set decides something."""
        return self.keep == "best" or self.patience is not None or self.scheduler == "plateau"


def as_training(value: Any) -> NetTraining | None:
    """Return a recipe that is given as one, as a mapping of its settings, or not at all.

    Raises:
        InputError: When it is something else, or a setting is not known.
    """
    if value is None or isinstance(value, NetTraining):
        return value
    if isinstance(value, Mapping):
        return NetTraining(**{str(key): setting for key, setting in value.items()})
    raise InputError(
        f"The training recipe is a {type(value).__name__}. A recipe is a NetTraining or a mapping of its settings. Pass "
        "training=NetTraining(epochs=20)."
    )


def require_validation(training: NetTraining | None, validation: Any) -> None:
    """Refuse a recipe that watches a validation set where there is none.

    Raises:
        MissingNeed: When it does and there is none.
    """
    if training is not None and training.watches_validation and validation is None:
        raise MissingNeed(
            "The training recipe watches a validation set (keep: best, patience or the plateau scheduler) and there is none. "
            "It takes rows that are neither trained nor tested on. Give validation=, or keep the last epoch."
        )


@dataclass(frozen=True)
class Problem:
    """What a net is for, the data it learns from, and the rows it must forget.

    Attributes:
        task: What it predicts.
        make_model: Seed -> freshly initialised net.
        train: Training rows, a map-style data set of ``(x, y)``; ``x`` is a tensor, or a tuple or mapping of tensors.
        test: Rows it never learns from.
        forget: Which training rows must go.
        validation: Rows for early stopping and for methods that choose a checkpoint.
        training: The recipe, or a mapping of its settings; None: there is none, and the original must be given as a checkpoint.
        loss: A name, or ``(outputs, y) -> loss per row or their mean``; None: cross entropy, L1, or the quantile loss by task.
        quantiles: Which quantiles the outputs are, for the quantile loss.
        test_forget: Test rows of the kind that must go; None: those ``forget`` chooses, where it is a function.
        train_as_tested: The training rows without augmentation, in the same order; None: ``train`` is not augmented.
        num_classes: Number of classes; None: one more than the largest label.
        class_names: A name per class, for the report.
        target_name: What is predicted, with its unit, for the report.
        head: Name of the module that turns representations into outputs; None: the last linear layer.
        activations: Names of the modules whose outputs Blindspot compares; None: the net's nonlinearities.
        name: What the problem is called.
    """

    task: Task
    make_model: Callable[[int], Module]
    train: Any
    test: Any
    forget: RowChoice
    validation: Any = None
    training: NetTraining | None = field(default_factory=NetTraining)
    loss: LossName | Callable[[Any, Any], Any] | None = None
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    test_forget: RowChoice | None = None
    train_as_tested: Any = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    target_name: str = ""
    head: str | None = None
    activations: tuple[str, ...] | None = None
    name: str = "problem"

    def __post_init__(self) -> None:
        if self.task not in ("classification", "regression", "forecasting"):
            raise InputError(
                f"The task is {self.task!r}. A problem is one of classification, regression and forecasting. Choose one of these."
            )
        object.__setattr__(self, "training", as_training(self.training))
        self._check_sets()
        require_validation(self.training, self.validation)
        tested, trained = _count(self.train_as_tested), _count(self.train)
        if tested is not None and trained is not None and tested != trained:
            raise InputError(
                f"train_as_tested has {tested} rows and train has {trained}. They are the same rows, "
                "with and without augmentation. Give both the same rows in the same order."
            )

    def _check_sets(self) -> None:
        sets = {name: getattr(self, name) for name in ("train", "test", "validation", "train_as_tested")}
        for name, rows in sets.items():
            if _count(rows) == 0:
                raise InputError(
                    f"{name} holds no rows. A set of rows has at least one. Give it rows, or leave it out if it may be."
                )
        check_columns(sets)

    @property
    def measured_train(self) -> Any:
        """The training rows as they are measured: without augmentation."""
        return self.train if self.train_as_tested is None else self.train_as_tested

    def forget_rows(self) -> np.ndarray:
        """Return the numbers of the training rows that must go, ascending."""
        rows = chosen_rows(self.forget, self.measured_train, name="forget")
        if len(rows) == len(self.train):
            raise InputError(
                f"All {len(rows)} training rows must go. Unlearning keeps what is not to be forgotten. Choose a part of the rows."
            )
        return rows

    def retain_rows(self) -> np.ndarray:
        """Return the numbers of the training rows that stay, ascending."""
        return np.setdiff1d(np.arange(len(self.train)), self.forget_rows())

    def test_forget_rows(self) -> np.ndarray | None:
        """Return the numbers of the test rows of the kind that must go, or None where nothing says which they are."""
        choice = self.test_forget if self.test_forget is not None else self.forget if callable(self.forget) else None
        return None if choice is None else chosen_rows(choice, self.test, name="test_forget", may_be_empty=True)


def check_columns(sets: Mapping[str, Any]) -> None:
    """Refuse sets from data frames whose columns are others, or in another order: a net knows its inputs by their place.

    Args:
        sets: Rows by name; what comes from no data frame is passed over.

    Raises:
        InputError: Names the columns that one of two sets lacks.
    """
    named = [(name, columns) for name, rows in sets.items() if (columns := columns_of(rows)) is not None]
    for (first, expected), (name, columns) in pairwise(named):
        missing, more = ([str(c) for c in a if c not in b] for a, b in ((expected, columns), (columns, expected)))
        if missing or more:
            parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(more)} besides"] * bool(more)
            raise InputError(
                f"{name} has other columns than {first}: it {' and '.join(parts)}. All sets have the same columns. Give them these."
            )
        if columns != expected:
            place = next(i for i, (a, b) in enumerate(zip(expected, columns, strict=True)) if a != b)
            raise InputError(
                f"{name} has its columns in another order than {first}: {columns[place]} stands for {expected[place]}. A net knows "
                f"its inputs by their place. Order them alike, such as frame[list(other.columns)]."
            )


def _count(rows: Any) -> int | None:
    """Return the number of rows of what can be indexed by row; None for a pair ``(x, y)`` and what has no length."""
    if rows is None or isinstance(rows, tuple) or not hasattr(rows, "__getitem__") or not hasattr(rows, "__len__"):
        return None
    return len(rows)


def chosen_rows(choice: RowChoice, dataset: Any, *, name: str, may_be_empty: bool = False) -> np.ndarray:
    """Turn row numbers, a mask or a function of ``(x, y)`` into ascending row numbers.

    Args:
        choice: What was given.
        dataset: The rows it speaks of.
        name: How it is called in an error.
        may_be_empty: Whether no row at all is fine.

    Raises:
        InputError: When it is out of range, names a row twice, is of another length than the data, or chooses nothing.
    """
    size = len(dataset)
    if callable(choice):
        # A function is handed what the caller's own data set gives: a set of class numbers holds no tensor.
        items = dataset.rows if isinstance(dataset, FetchedRows) else dataset
        rows = np.array([i for i in range(size) if _says(choice, items[i], i, name)], dtype=np.int64)
    else:
        rows = _numbers(np.asarray(choice), size, name)
    if len(rows) == 0 and not may_be_empty:
        raise InputError(f"{name} chooses none of the {size} rows. At least one row must be chosen. Check the choice.")
    return rows


def _says(choice: Callable[[Any, Any], bool], item: Any, number: int, name: str) -> bool:
    x, y = _pair(item, number, name)
    try:
        return bool(choice(x, y))
    except Exception as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"{name}, a function, failed on row {number} ({type(error).__name__}: {said}). It takes a row's x and y and says "
            "true or false. Mend it, or give row numbers or a mask."
        ) from error


def _numbers(given: np.ndarray, size: int, name: str) -> np.ndarray:
    if given.ndim == 0:
        raise InputError(
            f"{name} is {given.item()!r}. It is a list of row numbers, one true or false per row, or a function of (x, y)."
        )
    if given.ndim != 1:
        raise InputError(
            f"{name} has {given.ndim} dimensions. It is a list of row numbers, or of one true or false per row. Flatten it."
        )
    if given.dtype == bool:
        if len(given) != size:
            raise InputError(
                f"{name} has {len(given)} entries for {size} rows. A mask has one true or false per row. Make it as long."
            )
        return np.flatnonzero(given)
    if len(given) and not np.issubdtype(given.dtype, np.integer):
        raise InputError(f"{name} holds {given.dtype} values. Rows are chosen by whole numbers or a mask. Convert them.")
    outside = given[(given < 0) | (given >= size)]
    if len(outside):
        raise InputError(
            f"{name} holds {len(outside)} row numbers that do not exist, such as {int(outside[0])}. "
            f"The data have rows 0 to {size - 1}. Drop these or count from zero."
        )
    rows = np.unique(given.astype(np.int64))
    if len(rows) != len(given):
        raise InputError(f"{name} names {len(given) - len(rows)} rows twice. Each row is named once. Drop the repetitions.")
    return rows


def _pair(item: Any, number: int, name: str) -> tuple[Any, Any]:
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    raise InputError(
        f"Row {number} is no pair of input and label, and {name} is a function of both. Rows are (x, y). "
        "Choose rows by number instead."
    )
