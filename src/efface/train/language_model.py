"""Train a causal language model on a stream of items: unlearning, plain fine-tuning, relearning alike."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from efface.data.encoding import Encoded
from efface.errors import InputError
from efface.models.hooks import output_head
from efface.models.memory import peak_memory
from efface.models.processes import count
from efface.results import Cost, PathPoint
from efface.train.items import Collator, FlatItems, Items
from efface.train.monitor import Monitor
from efface.train.settings import TrainSettings
from efface.train.trackers import Trackers
from efface.train.trainer import Losses, PathCallback, UnlearningTrainer, last_checkpoint

__all__ = ["TrainResult", "cpu_threads", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What training did; the model handed in holds the final (or best) weights.

    Attributes:
        history: The forget/retain path.
        stopped: "completed" or why training ended early.
        steps: Optimiser step whose weights the model holds.
        cost: Seconds, peak memory, steps executed in this process, trained parameters.
        first_step_logs: Figures of the first optimiser step.
    """

    history: tuple[PathPoint, ...]
    stopped: str
    steps: int
    cost: Cost
    first_step_logs: Mapping[str, float]


def train(
    model: nn.Module,
    items: Items,
    losses: Losses,
    settings: TrainSettings,
    *,
    pad_id: int,
    monitor_sets: Mapping[str, Sequence[Encoded]] | None = None,
    score: Callable[[Any, Mapping[str, float]], float] | None = None,
    progress: Callable[[int, int], None] | None = None,
    checkpoints: Path | None = None,
    trackers: Trackers | None = None,
) -> TrainResult:
    """Train ``model`` in place.

    Args:
        model: Causal language model; parameters with ``requires_grad`` are trained.
        items: Items per epoch.
        losses: Objective, retention, rule and their weights.
        settings: Resolved settings.
        pad_id: Filler id for batches.
        monitor_sets: "forget", "retain", "holdout" -> sequences whose NLL draws the path; empty: no path but the losses.
        score: Selection score of a checkpoint, ``(model, values) -> float``, lower is better; None: the built-in one.
        progress: Called with (steps done, steps in all).
        checkpoints: Folder for checkpoints; an interrupted run found there is continued. None keeps none.
        trackers: Experiment trackers that are told of the path and the losses; the caller closes them.

    Returns:
        The path, why training ended, and what it cost.

    Raises:
        TrainingStopped: When the loss is not a finite number; checkpoints stay where they are.
    """
    started = time.perf_counter()
    steps = settings.steps(len(items))
    batch = settings.effective_batch(len(items))
    if settings.gradient_checkpointing:
        _checkpoint_activations(model)
    monitor = _monitor(model, monitor_sets or {}, settings, pad_id, score)
    with _output_folder(checkpoints) as folder, cpu_threads(settings.threads), _quiet():
        trainer = UnlearningTrainer(
            losses=losses,
            train_dataset=FlatItems(items, total=steps * batch),
            data_collator=Collator(pad_id, losses.views, losses.is_joint),
            model=model,
            args=_arguments(settings, folder, steps, batch, saves=checkpoints is not None),
        )
        path = PathCallback(
            monitor,
            trainer,
            items_per_step=batch,
            items_per_epoch=len(items),
            evaluate_every=settings.evaluate_every or max(1, math.ceil(steps / 10)),
            keeps_best=settings.select == "best" and bool(monitor.sets),
            progress=progress,
            trackers=trackers,
        )
        trainer.remove_callback(PrinterCallback)
        if trackers is not None:  # ahead of the path, whose first point is sent as soon as training begins
            trainer.add_callback(trackers)
        trainer.add_callback(path)
        resume = last_checkpoint(folder)
        if resume is not None:
            path.restore(resume)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        reached = _load_best(model, path) or trainer.state.global_step
    return TrainResult(
        history=tuple(monitor.history),
        stopped=path.stopped,
        steps=reached,
        cost=Cost(
            seconds=time.perf_counter() - started,
            peak_memory_bytes=peak_memory(),
            steps=trainer.steps_executed,
            trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        ),
        first_step_logs=path.first_step_logs,
    )


def _monitor(
    model: nn.Module,
    sets: Mapping[str, Sequence[Encoded]],
    settings: TrainSettings,
    pad_id: int,
    score: Callable[[Any, Mapping[str, float]], float] | None,
) -> Monitor:
    vocabulary = cast("Tensor", output_head(model).weight).shape[0]
    return Monitor(
        {name: tuple(rows) for name, rows in sets.items() if rows},
        pad_id=pad_id,
        ceiling=math.log(vocabulary),
        stops_on_forget_nll=settings.stop.forget_nll == "auto",
        score=score,
    )


def _arguments(settings: TrainSettings, folder: Path, steps: int, batch: int, *, saves: bool) -> TrainingArguments:
    processes = count()
    micro = settings.micro_batch_size or max(1, batch // processes)
    micro = min(micro, max(1, batch // processes))
    if batch % (micro * processes):
        raise InputError(
            f"A batch of {batch} rows cannot be split into micro-batches of {micro} over {processes} processes. batch_size must be "
            "a multiple of their product. Change batch_size, micro_batch_size or the number of processes."
        )
    save_every = settings.save_every or max(1, math.ceil(steps / 4))
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // (micro * processes),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler if not settings.warmup or settings.scheduler != "constant" else "constant_with_warmup",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.adam_betas[0],
        adam_beta2=settings.adam_betas[1],
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.bf16,
        save_strategy="steps" if saves else "no",
        save_steps=save_every,
        save_total_limit=2,
        logging_strategy="steps" if settings.report_to else "no",  # the same in all processes: logging gathers the loss
        logging_steps=settings.evaluate_every or max(1, math.ceil(steps / 10)),
        report_to="none",  # the trackers are callbacks of our own, which outlive the Trainer
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
        remove_unused_columns=False,
        label_names=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        optim="adamw_torch",
    )


def _load_best(model: nn.Module, path: PathCallback) -> int | None:
    """Put the best weights back into the model and return their step; None where the last ones stay."""
    if not path.best:
        return None
    weights = path.best["weights"]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])
    return int(path.best["step"])


def _checkpoint_activations(model: nn.Module) -> None:
    """Recompute activations in the backward pass; transformers 5 renames the method from one release to the next."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    cast("Callable[[], None]", enable)()


@contextmanager
def _output_folder(checkpoints: Path | None) -> Iterator[Path]:
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        yield checkpoints
        return
    folder = Path(tempfile.mkdtemp(prefix="efface-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Use ``count`` CPU threads inside the block; None leaves the setting alone."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the Trainer's own chatter (not its warnings about us) off the terminal."""
    before, had_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if had_bars:
            transformers_logging.enable_progress_bar()
