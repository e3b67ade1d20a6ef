"""Experiment trackers under transformers' names (``report_to``): the path and the losses while training, figures afterwards.

transformers closes a tracker's run when training ends, but what matters most is measured after that; here the run stays open until
:meth:`Trackers.close`. Only numbers are sent, and the training arguments and the model's configuration that transformers adds; no
row. Where a tracker sends them, and as whom, is its own business and set up in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    TensorBoardCallback,
    get_reporting_integration_callbacks,
)

from efface.errors import InputError
from efface.registry import unknown_name

__all__ = ["Trackers", "check_trackers"]


def check_trackers(names: Sequence[str]) -> None:
    """Check that every tracker is known to transformers and installed.

    Raises:
        InputError: When one is not.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise unknown_name("tracker", name, sorted(INTEGRATION_TO_CALLBACK))
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (ImportError, RuntimeError) as error:
            raise InputError(
                f"The tracker {name} cannot be used ({str(error).splitlines()[0].rstrip('.')}). A tracker in report_to must be "
                "installed. Install it, or leave it out of unlearning.report_to."
            ) from error


class Trackers(TrainerCallback):
    """Some trackers as one callback, whose runs stay open after training.

    Args:
        names: transformers' names: "tensorboard", "wandb", "mlflow" ...
        folder: Where trackers that write files put them (TensorBoard, unless its own variable names another place).
        run_name: What the run is called where a tracker shows runs by name.
    """

    def __init__(self, names: Sequence[str], folder: Path, *, run_name: str) -> None:
        check_trackers(names)
        self._callbacks: list[Any] = [kind() for kind in get_reporting_integration_callbacks(list(names))]
        for callback in self._callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(folder)
        self._run_name = run_name
        self._arguments = TrainingArguments(output_dir=str(folder), report_to="none", run_name=run_name, use_cpu=True)
        self._state = TrainerState()
        self._control = TrainerControl()
        self._is_open = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the runs; a method that trains several times goes on in them."""
        self._arguments, self._state, self._control = args, state, control
        args.run_name = self._run_name
        if not self._is_open:
            self._send("on_init_end", **kwargs)  # the Trainer had this before it knew of us
            self._send("on_train_begin", **kwargs)
        self._is_open = True

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Pass the Trainer's own figures on."""
        self._state = state
        self._send("on_log", **kwargs)

    def log(self, figures: Mapping[str, float], *, step: int | None = None) -> None:
        """Send figures by name.

        Args:
            figures: Numbers; names with a slash are shown in groups.
            step: Optimiser step they belong to; None: the last one.
        """
        before = self._state.global_step
        if step is not None:
            self._state.global_step = step
        self._is_open = True
        self._send("on_log", logs={name: float(value) for name, value in figures.items()})
        self._state.global_step = before

    def close(self) -> None:
        """End the runs."""
        if self._is_open:
            self._send("on_train_end")
        self._is_open = False

    def _send(self, event: str, **kwargs: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(self._arguments, self._state, self._control, **kwargs)
