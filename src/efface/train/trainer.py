"""One thin subclass of ``transformers.Trainer``: its loss, its data order and its denominators, nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback

from efface.errors import TrainingStopped
from efface.methods.base import Objective, ReferenceLookup, Retention, UpdateRule
from efface.models.scoring import AnswerScores, answer_scores
from efface.results import PathPoint
from efface.train.monitor import Monitor

__all__ = ["STATE_FILE", "Losses", "PathCallback", "UnlearningTrainer", "last_checkpoint"]

STATE_FILE = "efface_state.json"
"""Written last into a checkpoint: a folder without it was cut off while saving and is not resumed from."""


@dataclass(frozen=True)
class Losses:
    """The plugs that make up the loss of one step.

    Attributes:
        objective: Forget loss.
        retention: Retain loss, or None.
        rule: How the two become one update.
        forget_weight: Factor of the forget loss.
        retain_weight: Factor of the retain loss.
        reference: Values of the reference model by sequence.
        auxiliary: The adapter's own loss, evaluated after the forward pass.
    """

    objective: Objective
    retention: Retention | None
    rule: UpdateRule
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    reference: ReferenceLookup | None = None
    auxiliary: Callable[[nn.Module], Tensor | None] | None = None

    @property
    def views(self) -> tuple[str, ...]:
        """Views one item must have."""
        return (*self.objective.inputs, *(() if self.retention is None else ("retain",)))

    @property
    def is_joint(self) -> bool:
        """Whether one forward pass serves all views."""
        positions = {self.objective.positions} | ({self.retention.positions} if self.retention else set())
        return not self.rule.needs_separate_gradients and "dense" not in positions

    @property
    def layers(self) -> tuple[int, ...]:
        """Decoder layers whose activations are read."""
        wanted = set(self.objective.layers) | set(self.retention.layers if self.retention else ())
        return tuple(sorted(wanted))

    def compute(self, model: nn.Module, inputs: Mapping[str, Any], device: torch.device) -> tuple[Tensor, dict[str, float]]:
        """Run the forward passes and return the loss with the figures to log."""
        totals = inputs.get("totals") or inputs["counts"]
        scores: dict[str, AnswerScores] = {}
        for forward in inputs["forwards"]:
            out = answer_scores(model, forward.batch.to(device), layers=self.layers, dense=not self.is_joint)
            groups = out.split_rows([stop - start for start, stop in forward.spans.values()])
            scores |= {view: group.with_totals(*totals[view]) for view, group in zip(forward.spans, groups, strict=True)}
        forget = self.objective.loss({view: scores[view] for view in self.objective.inputs}, self.reference)
        logs = {"loss_forget": forget.loss.detach(), **forget.logs}
        retain_loss = None
        if self.retention is not None:
            retain = self.retention.loss(scores["retain"], self.reference)
            retain_loss = retain.loss
            logs |= {"loss_retain": retain.loss.detach(), **retain.logs}
        loss = self.rule.combine(forget.loss, retain_loss, forget_weight=self.forget_weight, retain_weight=self.retain_weight)
        extra = self.auxiliary(model) if self.auxiliary is not None else None
        if extra is not None:
            loss = loss + extra
            logs["loss_auxiliary"] = extra.detach()
        return loss, {name: float(value) for name, value in logs.items()}


class UnlearningTrainer(Trainer):
    """Trainer whose loss comes from :class:`Losses` and is normalised over the whole optimiser step."""

    loss_is_scaled_for_ga = True  # the denominators already cover every micro-batch and process

    def __init__(self, *, losses: Losses, train_dataset: Dataset[Any], data_collator: Any, model: nn.Module, args: Any) -> None:
        super().__init__(model=model, args=args, train_dataset=train_dataset, data_collator=data_collator)
        self.losses = losses
        self.step_logs: dict[str, float] = {}
        self.steps_executed = 0

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        return SequentialSampler(cast("Sized", self.train_dataset))  # the order is drawn in the items, as a function of the epoch

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Return 0: inputs are nested batches, which the estimate of the base class cannot read."""
        return 0

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> tuple[list[Any], None]:
        """Take the micro-batches of one optimiser step and give each the step's own denominators."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not samples:
            return samples, None
        views = list(samples[0]["counts"])
        counts = torch.tensor(
            [[sum(sample["counts"][view][i] for sample in samples) for i in (0, 1)] for view in views],
            dtype=torch.float64 if device.type == "cpu" else torch.float32,
            device=device,
        )
        counts = self.accelerator.reduce(counts, reduction="sum")
        totals = {view: (float(counts[i, 0]), float(counts[i, 1])) for i, view in enumerate(views)}
        for sample in samples:
            sample["totals"] = totals
        self.step_logs = {}
        return samples, None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one micro-batch; micro-batches and processes add up to the step's loss."""
        loss, logs = self.losses.compute(model, inputs, self.args.device)
        if not math.isfinite(float(loss.detach())):
            raise TrainingStopped(
                f"The loss is {float(loss.detach())} at step {self.state.global_step + 1}. A loss must be a finite number. "
                "Lower the learning rate, or resume from the last checkpoint with other settings."
            )
        for name, value in logs.items():
            self.step_logs[name] = self.step_logs.get(name, 0.0) + value
        loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        return (loss, None) if return_outputs else loss


@dataclass
class PathCallback(TrainerCallback):
    """Measures the path, applies the stop rule, keeps the best weights and the state needed to resume."""

    monitor: Monitor
    trainer: UnlearningTrainer | None = None
    items_per_step: float = 1.0
    items_per_epoch: int = 1
    evaluate_every: int = 1
    keeps_best: bool = False
    progress: Callable[[int, int], None] | None = None
    stopped: str = "completed"
    best: dict[str, Any] = field(default_factory=dict)
    first_step_logs: dict[str, float] = field(default_factory=dict)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure step 0, unless a checkpoint brought its own history."""
        if not self.monitor.history:
            self._measure(kwargs["model"], 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure where due, and stop where the rule says so."""
        step = state.global_step
        if self.trainer is not None:
            self.trainer.steps_executed += 1
            if step == 1:
                self.first_step_logs = dict(self.trainer.step_logs)
        if self.progress is not None:
            self.progress(step, state.max_steps)
        if step % self.evaluate_every and step < state.max_steps:
            return
        point = self._measure(kwargs["model"], step)
        reason = self.monitor.stop_reason(point)
        if reason is not None:
            self.stopped = reason
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write our own state last, which marks the checkpoint as whole."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if not state.is_world_process_zero or not folder.is_dir():
            return
        if self.best:
            torch.save(self.best, folder / "efface_best.pt")
        rule = self.trainer.losses.rule.state_dict() if self.trainer is not None else {}
        data = {
            "history": [asdict(point) for point in self.monitor.history],
            "stopped": self.stopped,
            "rule": rule,
            "first_step_logs": self.first_step_logs,
        }
        temporary = folder / (STATE_FILE + ".tmp")
        temporary.write_text(json.dumps(data), encoding="utf-8")
        temporary.replace(folder / STATE_FILE)

    def restore(self, checkpoint: Path) -> None:
        """Take up history, rule state and best weights from a checkpoint."""
        data = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        self.monitor.history[:] = [PathPoint(**point) for point in data["history"]]
        self.first_step_logs = data["first_step_logs"]
        if self.trainer is not None:
            self.trainer.losses.rule.load_state_dict(data["rule"])
        best = checkpoint / "efface_best.pt"
        if best.is_file():
            self.best = torch.load(best, weights_only=True)

    def _measure(self, model: nn.Module, step: int) -> PathPoint:
        extra = dict(self.trainer.step_logs) if self.trainer is not None else {}
        point = self.monitor.measure(model, step=step, epoch=step * self.items_per_step / self.items_per_epoch, extra=extra)
        score = point.values["selection_score"]
        if self.keeps_best and step > 0 and score < self.best.get("score", math.inf):
            weights = {n: p.detach().to("cpu", copy=True) for n, p in model.named_parameters() if p.requires_grad}
            self.best = {"score": score, "step": step, "weights": weights}
        return point


def last_checkpoint(directory: Path) -> Path | None:
    """Return the newest whole checkpoint under ``directory``, or None."""
    whole = [p for p in directory.glob("checkpoint-*") if (p / STATE_FILE).is_file()]
    return max(whole, key=lambda p: int(p.name.rpartition("-")[2]), default=None)
