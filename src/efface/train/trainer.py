"""One thin subclass of ``transformers.Trainer``: its loss, its data order and its denominators, nothing else."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback

from efface.errors import InputError, TrainingStopped
from efface.methods.base import Objective, ReferenceLookup, Retention, UpdateRule
from efface.models.context import training_roles
from efface.models.processes import share
from efface.models.scoring import AnswerScores, answer_scores
from efface.results import PathPoint
from efface.train.gradients import StepGradients, displaced
from efface.train.monitor import Monitor
from efface.train.trackers import Trackers

__all__ = ["STATE_FILE", "LossParts", "Losses", "PathCallback", "UnlearningTrainer", "last_checkpoint"]

STATE_FILE = "efface_state.json"
"""Written last into a checkpoint: a folder without it was cut off while saving and is not resumed from."""

RULE_FILE = "efface_rule.pt"
_LOSS = "loss"
_SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


@dataclass(frozen=True)
class LossParts:
    """The losses of one micro-batch, each divided by the denominators of the whole optimiser step.

    Attributes:
        forget: Forget loss, without its weight.
        retain: Retain loss without its weight, or None.
        auxiliary: The adapter's own loss, or None.
        logs: Figures that add up over micro-batches and processes.
    """

    forget: Tensor
    retain: Tensor | None
    auxiliary: Tensor | None
    logs: Mapping[str, float]


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
        schedule: Factor of the method's own loss by step, counted from 1.
        reads_retain: Whether retain rows are run even where no retention term reads them.
    """

    objective: Objective
    retention: Retention | None
    rule: UpdateRule
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    reference: ReferenceLookup | None = None
    auxiliary: Callable[[nn.Module], Tensor | None] | None = None
    schedule: Callable[[int], float] | None = None
    reads_retain: bool = False

    @property
    def views(self) -> tuple[str, ...]:
        """Views one item must have."""
        retain = self.retention.inputs if self.retention is not None else (("retain",) if self.reads_retain else ())
        return (*self.objective.inputs, *retain)

    @property
    def is_joint(self) -> bool:
        """Whether one forward pass serves all views."""
        return not self.rule.needs_separate_gradients and not self.needs_dense

    @property
    def needs_dense(self) -> bool:
        """Whether a loss reads padding positions, as some published variants do."""
        return "dense" in ({self.objective.positions} | ({self.retention.positions} if self.retention else set()))

    @property
    def layers(self) -> tuple[int, ...]:
        """Decoder layers whose activations are read."""
        wanted = set(self.objective.layers) | set(self.retention.layers if self.retention else ())
        return tuple(sorted(wanted))

    def parts(self, model: nn.Module, inputs: Mapping[str, Any], device: torch.device) -> LossParts:
        """Run the forward passes and return the losses before they are combined, with the figures to log."""
        totals = inputs.get("totals") or inputs["counts"]
        scores: dict[str, AnswerScores] = {}
        for forward in inputs["forwards"]:
            with training_roles(forward.spans, totals):
                out = answer_scores(model, forward.batch.to(device), layers=self.layers, dense=self.needs_dense)
            groups = out.split_rows([stop - start for start, stop in forward.spans.values()])
            scores |= {view: group.with_totals(*totals[view]) for view, group in zip(forward.spans, groups, strict=True)}
        forget = self.objective.loss({view: scores[view] for view in self.objective.inputs}, self.reference)
        logs = {"loss_forget": forget.loss.detach(), **forget.logs}
        retain_loss = None
        if self.retention is not None and "retain" in scores:
            retain = self.retention.compute({view: scores[view] for view in self.retention.inputs}, self.reference)
            retain_loss = retain.loss
            logs |= {"loss_retain": retain.loss.detach(), **retain.logs}
        extra = self.auxiliary(model) if self.auxiliary is not None else None
        if extra is not None:
            logs["loss_auxiliary"] = extra.detach()
        weight = 1.0 if self.schedule is None else self.schedule(inputs.get("step", 1))
        retain_loss = None if retain_loss is None else weight * retain_loss
        return LossParts(weight * forget.loss, retain_loss, extra, {name: float(value) for name, value in logs.items()})

    def total(self, parts: LossParts) -> Tensor:
        """Return what is differentiated, or under a rule with separate gradients what is logged: the losses combined."""
        weights = {"forget_weight": self.forget_weight, "retain_weight": self.retain_weight}
        loss = self.rule.combine(parts.forget, parts.retain, **weights)
        return loss if parts.auxiliary is None else loss + parts.auxiliary


class UnlearningTrainer(Trainer):
    """Trainer whose loss comes from :class:`Losses` and is normalised over the whole optimiser step."""

    loss_is_scaled_for_ga = True  # the denominators already cover every micro-batch and process

    def __init__(self, *, losses: Losses, train_dataset: Dataset[Any], data_collator: Any, model: nn.Module, args: Any) -> None:
        super().__init__(model=model, args=args, train_dataset=train_dataset, data_collator=data_collator)
        self.losses = replace(losses, rule=copy.copy(losses.rule))  # a rule's state belongs to one run
        self.gradients = self._separate_gradients(model) if losses.rule.needs_separate_gradients else None
        self.step_logs: dict[str, float] = {}
        self.steps_executed = 0
        self._samples: list[Any] = []

    def _separate_gradients(self, model: nn.Module) -> StepGradients:
        kind = self.accelerator.distributed_type
        if kind in _SHARDED:
            raise InputError(
                f"The update rule {self.losses.rule.name} needs the whole forget and retain gradients, and {kind.value} keeps "
                "a part of them on each process. It runs on one process or several with the whole model each. Use rule sum or "
                "primal_dual, or launch without sharding."
            )
        return StepGradients([parameter for parameter in model.parameters() if parameter.requires_grad])

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
            sample["step"] = self.state.global_step + 1
        self.step_logs = {}
        self._samples = samples if self.gradients is not None else []
        return samples, None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one micro-batch; micro-batches and processes add up to the step's loss."""
        parts = self.losses.parts(model, inputs, self.args.device)
        loss = self.losses.total(parts)
        self._note(parts, loss)
        loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        return (loss, None) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Add one micro-batch to the step's gradient; the last one of a step completes it.

        Raises:
            TrainingStopped: When the step's loss is not a finite number, on every process alike.
        """
        if self.gradients is None:
            loss = super().training_step(model, inputs, num_items_in_batch)
        else:
            model.train()
            with self.accelerator.no_sync(model), self.compute_loss_context_manager():
                parts = self.losses.parts(model, inputs, self.args.device)
                loss = self.losses.total(parts).detach()
                self._note(parts, loss)
            self.gradients.add(forget=parts.forget, retain=parts.retain, auxiliary=parts.auxiliary)
        if self.accelerator.sync_gradients:
            self._gather_logs()
            if self.gradients is not None:
                self._combine(model, self.gradients)
        return loss

    def _combine(self, model: nn.Module, gradients: StepGradients) -> None:
        """Let the rule make the update of the whole step; the adapter's own loss is added to it as it is."""
        losses = self.losses
        forget = gradients.take("forget", self._sum_over_processes)
        retain = None if losses.retention is None else gradients.take("retain", self._sum_over_processes)
        displacement = losses.rule.displacement(forget)
        if displacement is not None:
            del forget
            with displaced(gradients.parameters, displacement):
                forget = self._forget_gradient(model, gradients)
        weights = {"forget_weight": losses.forget_weight, "retain_weight": losses.retain_weight}
        update = losses.rule.combine_gradients(forget, retain, **weights)
        if losses.auxiliary is not None:
            update = [u + a for u, a in zip(update, gradients.take("auxiliary", self._sum_over_processes), strict=True)]
        for parameter, gradient in zip(gradients.parameters, update, strict=True):
            parameter.grad = gradient.to(parameter.dtype)

    def _forget_gradient(self, model: nn.Module, gradients: StepGradients) -> list[Tensor]:
        """Take the forget gradient of this step's micro-batches once more, at the weights the model has now."""
        for sample in self._samples:
            forwards = [forward for forward in sample["forwards"] if forward.spans.keys() <= set(self.losses.objective.inputs)]
            with self.accelerator.no_sync(model), self.compute_loss_context_manager():
                parts = self.losses.parts(model, {**sample, "forwards": forwards}, self.args.device)
            gradients.add(forget=parts.forget)
        return gradients.take("forget", self._sum_over_processes)

    def _sum_over_processes(self, tensors: list[Tensor]) -> list[Tensor]:
        if self.accelerator.num_processes == 1:
            return tensors
        return cast("list[Tensor]", self.accelerator.reduce(tensors, reduction="sum"))

    def _note(self, parts: LossParts, loss: Tensor) -> None:
        for name, value in {**parts.logs, _LOSS: float(loss.detach())}.items():
            self.step_logs[name] = self.step_logs.get(name, 0.0) + value

    def _gather_logs(self) -> None:
        """Sum the step's figures over the processes and stop where the loss is no number."""
        names = sorted(self.step_logs)
        kind = torch.float64 if self.args.device.type == "cpu" else torch.float32
        values = torch.tensor([self.step_logs[name] for name in names], dtype=kind, device=self.args.device)
        summed = self._sum_over_processes([values])[0].tolist()
        self.step_logs = dict(zip(names, summed, strict=True))
        loss = self.step_logs.pop(_LOSS)
        if not math.isfinite(loss):
            raise TrainingStopped(
                f"The loss is {loss} at step {self.state.global_step + 1}. A loss must be a finite number. "
                "Lower the learning rate, or resume from the last checkpoint with other settings."
            )


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
    trackers: Trackers | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure step 0, unless a checkpoint brought its own history."""
        if not self.monitor.history:
            self._measure(kwargs["model"], 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure where due, and stop where the rule says so."""
        step = state.global_step
        if self.trainer is not None:
            self.trainer.steps_executed += 1
            epoch = step * self.items_per_step / self.items_per_epoch
            self.trainer.step_logs |= self.trainer.losses.rule.after_step(self.trainer.step_logs, epoch=epoch)
            if step == 1:
                self.first_step_logs = dict(self.trainer.step_logs)
        if self.progress is not None:
            self.progress(step, state.max_steps)
        if step % self.evaluate_every and step < state.max_steps:
            return
        point = self._measure(kwargs["model"], step)
        reason = share(lambda: self.monitor.stop_reason(point))  # one decision for all processes
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
        if self.trainer is not None:
            torch.save(self.trainer.losses.rule.state_dict(), folder / RULE_FILE)
        data = {
            "history": [asdict(point) for point in self.monitor.history],
            "stopped": self.stopped,
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
        if self.trainer is not None and (checkpoint / RULE_FILE).is_file():
            self.trainer.losses.rule.load_state_dict(torch.load(checkpoint / RULE_FILE, weights_only=True))
        best = checkpoint / "efface_best.pt"
        if best.is_file():
            self.best = torch.load(best, weights_only=True)

    def _measure(self, model: nn.Module, step: int) -> PathPoint:
        extra = dict(self.trainer.step_logs) if self.trainer is not None else {}
        point = self.monitor.measure(model, step=step, epoch=step * self.items_per_step / self.items_per_epoch, extra=extra)
        if self.trackers is not None:
            self.trackers.log({f"path/{name}": value for name, value in point.values.items()}, step=step)
        score = point.values["selection_score"]
        if self.keeps_best and step > 0 and score < self.best.get("score", math.inf):
            weights = {n: p.detach().to("cpu", copy=True) for n, p in model.named_parameters() if p.requires_grad}
            self.best = {"score": score, "step": step, "weights": weights}
        return point


def last_checkpoint(directory: Path) -> Path | None:
    """Return the newest whole checkpoint under ``directory``, or None."""
    whole = [p for p in directory.glob("checkpoint-*") if (p / STATE_FILE).is_file()]
    return max(whole, key=lambda p: int(p.name.rpartition("-")[2]), default=None)
