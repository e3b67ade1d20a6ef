"""What every adapter can do: attach itself, say what is trained, save, and give the reference model back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from efface.models.checks import ModelInfo
from efface.registry import config_error
from efface.results import Intention

__all__ = ["Adapter", "AdapterConfig"]


class AdapterConfig(BaseModel):
    """Base of every adapter's settings: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Adapter(ABC):
    """Decides which parameters are trained and how they are stored.

    Class attributes:
        name: Registered name.
        is_reference_when_disabled: Whether switching the adapter off gives the reference model.
        trains_weights: Whether it trains the model's weights or updates of them, so that an objective may choose among them.
        is_mergeable: Whether it can be folded into ordinary weights.
        intention: What it makes of every method trained through it; None leaves the method's own.
        reads_retain: Whether it learns from retain rows even where no retention term does.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    is_reference_when_disabled: ClassVar[bool] = False
    trains_weights: ClassVar[bool] = True
    is_mergeable: ClassVar[bool] = True
    intention: ClassVar[Intention | None] = None
    reads_retain: ClassVar[bool] = False
    Config: ClassVar[type[AdapterConfig]] = AdapterConfig

    def __init__(self, **settings: Any) -> None:
        try:
            self.config = self.Config(**settings)
        except ValidationError as error:
            raise config_error(f"the adapter {self.name}", self.Config, error) from None

    def resolved(self) -> dict[str, Any]:
        """Return ``{"name": ..., **settings}`` with every default spelt out."""
        return {"name": self.name, **self.config.model_dump(mode="json")}

    @property
    def text_prompt(self) -> float | None:
        """Share of a plain text that counts as its prompt while training; None: the text has no prompt."""
        return None

    @abstractmethod
    def apply(self, model: Any, *, reads: Sequence[int] = ()) -> Any:
        """Attach to ``model`` and return what to train; exactly the trained parameters require gradients afterwards.

        Initial values are drawn from torch's global generator, which the caller seeds.

        Args:
            model: The model.
            reads: Layers whose activations the losses read.
        """

    @classmethod
    def load(cls, model: Any, directory: str | Path, *, trainable: bool = False) -> Any:
        """Put what :meth:`save` wrote on ``model``; only adapters with a file type of their own have this."""
        raise NotImplementedError(f"The adapter {cls.name} has no file type of its own. PEFT or transformers reads it. Use those.")

    @abstractmethod
    def save(self, model: Any, directory: str | Path) -> None:
        """Write what :meth:`apply` returned to ``directory``, in the form its library reads back."""

    def merge(self, model: Any) -> Any:
        """Return an ordinary model without the adapter's own modules; the same object where there are none."""
        return model

    def trainable_parameters(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """Return name and parameter of everything that is trained, in the model's order."""
        return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]

    def count_parameters(self, info: ModelInfo) -> int:
        """Return how many weights will be trained on a model known by its files only."""
        return info.num_parameters

    def count_graph_layers(self, info: ModelInfo) -> int:
        """Return the decoder layers whose activations the backward pass needs."""
        return info.num_layers

    def main_weight(self, step: int) -> float:
        """Return the factor of the method's own loss at an optimiser step counted from 1."""
        return 1.0

    def auxiliary_loss(self, model: nn.Module) -> Tensor | None:
        """Return the adapter's own loss after a forward pass, or None when it has none."""
        return None

    def disabled(self, model: Any) -> AbstractContextManager[None]:
        """Run the reference model inside the context.

        Raises:
            TypeError: When the adapter changes the weights themselves, so that nothing can be switched off.
        """
        if not self.is_reference_when_disabled:
            raise TypeError(
                f"The adapter {self.name!r} changes the model's own weights, so it cannot be switched off. Adapters that add "
                "modules can. Keep the reference's values before training starts."
            )
        return _disabled(model)


@contextmanager
def _disabled(model: Any) -> Iterator[None]:
    with model.disable_adapter():
        yield
