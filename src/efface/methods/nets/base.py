"""What methods for ordinary nets share.

A method gets a private copy of the net, its data and a set of tools, and returns the net to keep. What it must train (the net, a
second one, LAF's VAEs) it trains through :meth:`NetTools.fit`, the one training loop; it loads no data, moves nothing between
devices, saves, seeds and prints nothing, and draws from ``tools.generator`` alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from efface.methods.base import MethodConfig, Need, Plug
from efface.models.activations import Activations, SplitNet
from efface.models.net_losses import NetLoss
from efface.results import Intention

__all__ = [
    "Batches",
    "Fitted",
    "GradientConfig",
    "LabelNeed",
    "Mode",
    "NetConfig",
    "NetData",
    "NetMethod",
    "NetTools",
    "OptimizerName",
    "StepLoss",
    "Turn",
    "make_optimizer",
]

LabelNeed = Literal["none", "forget", "retain", "both"]
OptimizerName = Literal["adam", "adamw", "sgd"]
Mode = Literal["train", "eval"]
StepLoss = Callable[[nn.Module, Any], Tensor]
"""``(net, batch) -> scalar to minimise``; what a batch is, the batches say."""


class NetConfig(MethodConfig):
    """Hyper-parameters every net method has."""

    batch_size: int | None = Field(None, ge=1, description="Rows per batch; None: as in the training recipe.")
    batch_norm: Mode | None = Field(
        None,
        description="train: BatchNorm counts on, dropout is on; eval: the net runs as in use. None: the method's default.",
    )


class GradientConfig(NetConfig):
    """Hyper-parameters of methods that take optimiser steps at one learning rate."""

    epochs: int = Field(1, ge=1, description="Passes over the rows.")
    learning_rate: float = Field(1e-3, gt=0)
    optimizer: OptimizerName = "adam"
    momentum: float = Field(0.0, ge=0, lt=1, description="Of SGD.")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(0.0, ge=0, description="Gradient norm to clip at; 0 does not clip.")


@dataclass(frozen=True)
class NetData:
    """The rows a method may read: map-style data sets of ``(x, y)``, ``y`` None where there are no labels.

    Attributes:
        forget: Rows that must go.
        retain: Rows to keep; None where there are none.
        task: "classification", "regression" or "forecasting".
        validation: Rows the net never learned from.
        num_classes: Number of classes.
        forget_labels: The labels of the forget rows, (n_f, ...); None where they are missing.
        retain_labels: The labels of the retain rows, (n_r, ...); None where they are missing.
    """

    forget: Any
    retain: Any
    task: str
    validation: Any = None
    num_classes: int | None = None
    forget_labels: Tensor | None = None
    retain_labels: Tensor | None = None

    @property
    def kept(self) -> Any:
        """The retain rows, for a method that needs them (the engine has made sure of them)."""
        if self.retain is None:
            raise TypeError("There are no retain rows. A method that reads them must declare the need retain_set. Declare it.")
        return self.retain

    def labels(self, rows: Literal["forget", "retain"]) -> Tensor:
        """Return the labels of a set, for a method that declares that it reads them (the engine has made sure of them)."""
        labels = self.forget_labels if rows == "forget" else self.retain_labels
        if labels is None:
            raise TypeError(
                f"There are no labels of the {rows} rows. A method that reads them must say so in needs_labels. Say so."
            )
        return labels


class Batches(Protocol):
    """Batches of ``(x, y)`` that can be gone through again and again, in another order each time where they are shuffled."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of one epoch."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""


@dataclass(frozen=True)
class Turn:
    """One loss with the optimiser that descends on it; several are taken in turn on every batch.

    Attributes:
        loss: What to minimise.
        optimizer: A torch optimiser over the parameters to change; it keeps its state from one ``fit`` to the next.
    """

    loss: StepLoss
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Fitted:
    """What a call of ``fit`` did.

    Attributes:
        steps: Optimiser steps, over all turns.
        losses: Mean loss per epoch (mean over batches), one list per turn.
        stopped: Why it ended: "completed", or what ``stop`` said.
    """

    steps: int
    losses: tuple[tuple[float, ...], ...]
    stopped: str = "completed"


class NetTools(Protocol):
    """What the engine hands to a method."""

    @property
    def seed(self) -> int:
        """Unlearning seed."""

    @property
    def generator(self) -> torch.Generator:
        """Where a method draws from, on the CPU."""

    @property
    def device(self) -> torch.device:
        """Where nets are trained."""

    @property
    def batch_size(self) -> int:
        """Rows per batch where a method does not say."""

    @property
    def loss(self) -> NetLoss:
        """The loss of the problem."""

    @property
    def score(self) -> Callable[[nn.Module], float] | None:
        """Score of a net, lower is better, for methods that choose among several; None where none was given."""

    def loader(self, dataset: Any, *, shuffle: bool = True, batch_size: int | None = None, drop_last: bool = False) -> Batches:
        """Return batches of ``(x, y)``, the order of every epoch a function of the seed.

        Args:
            dataset: Rows.
            shuffle: Whether each epoch has an order of its own.
            batch_size: Rows per batch; None takes ``batch_size`` of the tools.
            drop_last: Leave out a last batch that is not full.
        """

    def fit(
        self,
        net: nn.Module,
        batches: Iterable[Any],
        turns: Turn | Sequence[Turn],
        *,
        epochs: int = 1,
        max_steps: int | None = None,
        mode: Mode = "train",
        max_grad_norm: float = 0.0,
        schedule: Callable[[float], float] | None = None,
        after_backward: Callable[[nn.Module], None] | None = None,
        stop: Callable[[int, float], str | None] | None = None,
        after_epoch: Callable[[int], str | None] | None = None,
        label: str = "unlearning",
    ) -> Fitted:
        """Train ``net`` in place, the only loop there is.

        Args:
            net: The net whose mode is set; put back afterwards.
            batches: Gone through once per epoch; batches of any nesting of tensors.
            turns: On every batch, each turn computes its loss, its gradients and a step of its optimiser, in order.
            epochs: Passes over ``batches``.
            max_steps: Batches after which to end.
            mode: "train", or "eval" for a net that runs as in use (see ``NetConfig.batch_norm``).
            max_grad_norm: Gradient norm to clip at; 0 does not clip.
            schedule: Share of all batches done, in [0, 1) -> factor of the learning rates.
            after_backward: Called between the gradients and the step, to change the gradients.
            stop: (batches done, loss of the last turn) -> reason to end, or None to go on.
            after_epoch: Number of epochs done -> reason to end, or None to go on.
            label: What the progress and the history call it.
        """

    def masked(self, masks: Mapping[Tensor, Tensor]) -> Self:
        """Return tools whose ``fit`` leaves weights alone where the mask of their parameter is 0, whatever the optimiser does."""

    def fresh(self, offset: int = 0) -> nn.Module:
        """Return a freshly initialised net of the same architecture, on ``device``; another one per ``offset``."""

    def fit_recipe(self, net: nn.Module, dataset: Any, *, label: str = "unlearning") -> Fitted:
        """Train a fresh net on ``dataset`` by the recipe the original was trained by; ``MissingNeed`` where there is none."""

    def split(self, net: nn.Module) -> SplitNet:
        """Return the net as representation and head."""

    def activations(self, net: nn.Module) -> Activations:
        """Return the net's hidden activations, of the modules the problem names."""

    def note(self, text: str) -> None:
        """Tell the reader of the report something."""

    def record(self, values: Mapping[str, float], *, label: str = "unlearning") -> None:
        """Add a point to the path that is drawn in the report."""


class NetMethod(Plug):
    """A method for ordinary nets: ``Blindspot(beta=10)`` and ``{name: blindspot, beta: 10}`` are the same.

    Class attributes:
        tasks: Tasks it works for.
        needs: What it needs besides the net and the forget rows.
        needs_labels: Whose labels it reads: "none", "forget", "retain" or "both"; the others are never handed to it.
        some_labels_suffice: Whether rows of which some have no label will do where it reads labels.
        needs_recipe: Whether it trains a fresh net by the original's recipe.
        intention: What it sets out to do.
        batch_norm: How the net runs while it is changed, unless the settings say otherwise.
        level: The SoK's level of access.
        approach: In a few words.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({"classification", "regression", "forecasting"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})
    needs_labels: ClassVar[LabelNeed] = "both"
    some_labels_suffice: ClassVar[bool] = False
    needs_recipe: ClassVar[bool] = False
    intention: ClassVar[Intention] = Intention.REMOVAL
    batch_norm: ClassVar[Mode] = "train"
    level: ClassVar[str] = "weights"
    approach: ClassVar[str] = ""
    Config: ClassVar[type[MethodConfig]] = NetConfig

    @property
    def labels_read(self) -> LabelNeed:
        """Whose labels it reads under its settings."""
        return self.needs_labels

    @property
    def mode(self) -> Mode:
        """How the net runs while it is changed."""
        return getattr(self.config, "batch_norm", None) or self.batch_norm

    @abstractmethod
    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Change ``net``, a private copy, and return it (or another net of the same architecture)."""


def make_optimizer(parameters: Iterable[nn.Parameter], config: Any, *, learning_rate: float | None = None) -> torch.optim.Optimizer:
    """Return the optimiser that settings with ``optimizer``, ``momentum``, ``weight_decay`` and ``learning_rate`` name.

    Args:
        parameters: What to change.
        config: The settings, such as :class:`GradientConfig` or a training recipe.
        learning_rate: In place of theirs.
    """
    rate = config.learning_rate if learning_rate is None else learning_rate
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(trained, lr=rate, weight_decay=config.weight_decay)
