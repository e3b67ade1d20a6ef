"""What every adapter can do: attach itself, say what is trained, save, and give the reference model back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from efface.errors import InputError
from efface.registry import closest

__all__ = ["Adapter", "AdapterConfig"]


class AdapterConfig(BaseModel):
    """Base of every adapter's settings: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Adapter(ABC):
    """Decides which parameters are trained and how they are stored.

    Class attributes:
        name: Registered name.
        is_reference_when_disabled: Whether switching the adapter off gives the reference model.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    is_reference_when_disabled: ClassVar[bool] = False
    Config: ClassVar[type[AdapterConfig]] = AdapterConfig

    def __init__(self, **settings: Any) -> None:
        try:
            self.config = self.Config(**settings)
        except ValidationError as error:
            raise _config_error(self.name, self.Config, error) from None

    def resolved(self) -> dict[str, Any]:
        """Return ``{"name": ..., **settings}`` with every default spelt out."""
        return {"name": self.name, **self.config.model_dump(mode="json")}

    @abstractmethod
    def apply(self, model: Any) -> Any:
        """Attach to ``model`` and return what to train; exactly the trained parameters require gradients afterwards.

        Initial values are drawn from torch's global generator, which the caller seeds.
        """

    @abstractmethod
    def save(self, model: Any, directory: str | Path) -> None:
        """Write what :meth:`apply` returned to ``directory``, in the form its library reads back."""

    def merge(self, model: Any) -> Any:
        """Return an ordinary model without the adapter's own modules; the same object where there are none."""
        return model

    def trainable_parameters(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """Return name and parameter of everything that is trained, in the model's order."""
        return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]

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


def _config_error(name: str, config: type[AdapterConfig], error: ValidationError) -> InputError:
    known = list(config.model_fields)
    parts = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        near = closest(key, known)
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key {key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        else:
            parts.append(f"{key}: {item['msg']} (got {item['input']!r})")
    accepted = ", ".join(known) or "no keys"
    return InputError(
        f"The settings of the adapter {name} are not valid: {'; '.join(parts)}. It accepts {accepted}. Mend or drop them."
    )
