"""Unlearn one request on one language model: encode, attach the adapter, keep the reference's values, train, save."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from efface.adapters.base import Adapter
from efface.data.draws import draw_index, generator
from efface.data.encoding import Encoded, Template, check_border, encode_row, require_answers, resolve_template
from efface.data.overlap import without_digests
from efface.data.schema import Row, RowSet
from efface.errors import MissingNeed
from efface.methods.base import Objective, ReferenceKind, Retention, TrainingData, UpdateRule
from efface.methods.refusals import refusals_for
from efface.methods.weights.base import WeightMethod
from efface.models.checkpoints import stored_template
from efface.models.checks import is_adapter
from efface.models.loading import check_model, load_model, save_model
from efface.models.processes import share
from efface.models.reference import ReferenceStore
from efface.request import ForgetSubset
from efface.results import Intention, Unlearned
from efface.train.items import UnlearningItems
from efface.train.language_model import TrainResult, train
from efface.train.processes import unshard
from efface.train.sampled import sampled_rows
from efface.train.settings import TrainSettings
from efface.train.subset import select_rows
from efface.train.trackers import Trackers
from efface.train.trainer import Losses

__all__ = ["MONITOR_ROWS", "Sequences", "UnlearningJob", "fit", "monitor_sets", "run_job"]

MONITOR_ROWS = 32
"""Rows per set whose NLL draws the forget/retain path."""


@dataclass(frozen=True)
class UnlearningJob:
    """Everything one unlearning run needs, resolved.

    Attributes:
        model: Directory or hub id of the original model.
        forget: Rows to forget.
        objective: Forget loss.
        rule: Update rule.
        adapter: What is trained.
        settings: Training settings.
        method: Resolved configuration for the record.
        intention: What the method sets out to do.
        retention: Retain loss, or None.
        retain: Rows to keep.
        holdout: Rows never trained on, for the stop rule and the path.
        forget_weight: Factor of the forget loss.
        retain_weight: Factor of the retain loss.
        template: Template; None: the model's own.
        max_length: Longest sequence in tokens; longer ones are cut from the right.
        dtype: Dtype of the trained weights.
        seed: Unlearning seed.
        notes: Warnings from planning, carried into the result.
        weights: Weight-space method in place of a single training run, or None.
        sampled_texts: Texts the model writes before training in place of rows to keep, or None.
        subset: Part of the forget rows that is trained on, or None for all; the path is measured on all.
        lineage: What the model's ``efface.json`` says of the requests it has been through, this one last.
        trackers: Experiment trackers that are told of the path and the losses; of several processes the main one has them.
    """

    model: str | Path
    forget: RowSet
    objective: Objective
    rule: UpdateRule
    adapter: Adapter
    settings: TrainSettings
    method: Mapping[str, Any]
    intention: Intention
    retention: Retention | None = None
    retain: RowSet | None = None
    holdout: RowSet | None = None
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    template: Template | str | None = None
    max_length: int | None = None
    dtype: str = "float32"
    seed: int = 0
    notes: tuple[str, ...] = ()
    weights: WeightMethod | None = None
    sampled_texts: int | None = None
    subset: ForgetSubset | None = None
    lineage: tuple[Mapping[str, Any], ...] = ()
    trackers: Trackers | None = None


@dataclass
class Sequences:
    """Encoded rows of a job; alternates are encoded when they are first drawn."""

    tokenizer: Any
    template: Template
    job: UnlearningJob
    forget: list[Encoded] = field(default_factory=list)
    all_forget: list[Encoded] = field(default_factory=list)
    retain: list[Encoded] = field(default_factory=list)
    holdout: list[Encoded] = field(default_factory=list)
    _alternates: dict[tuple[str, int, int], Encoded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forget = self.all_forget = self._encode(self.job.forget, "the forget set")
        if self.job.retain is not None:
            self.retain = self._encode(self.job.retain, "the retain set")
        if self.job.holdout is not None:
            self.holdout = self._encode(self.job.holdout, "the holdout set")

    @property
    def pad_id(self) -> int:
        """Filler id for batches."""
        return int(self.tokenizer.pad_token_id or 0)

    def part(self, job: UnlearningJob, taken: Sequence[int]) -> Sequences:
        """Return the same rows with some of the forget rows to train on; the path is measured on all of them still."""
        other = copy.copy(self)
        other.job, other._alternates = job, {}
        other.all_forget, other.forget = self.forget, [self.forget[i] for i in taken]
        return other

    def _encode(self, rows: RowSet, name: str) -> list[Encoded]:
        share = self.job.adapter.text_prompt or 0.0
        encoded = [
            encode_row(self.tokenizer, self.template, row, max_length=self.job.max_length, prefix_share=share) for row in rows
        ]
        require_answers(encoded, source=name)
        return encoded

    def alternate(self, index: int, epoch: int) -> Encoded:
        """Return the forget row's prompt with the answer drawn for this epoch."""
        row = self.job.forget[index]
        epoch = 0 if getattr(self.job.objective.config, "fixed_per_row", False) else epoch
        return self._draw("alternate answer", row, index, epoch, self.job.objective.alternates(row))

    def retain_alternate(self, index: int, epoch: int) -> Encoded:
        """Return the retain row's prompt with the refusal drawn for this epoch."""
        if self.job.retain is None or self.job.retention is None:
            raise MissingNeed(
                "A refusal on a retain row needs retain rows and a retention term. Both are set in the request. Add them."
            )
        row = self.job.retain[index]
        return self._draw("retain refusal", row, index, epoch, refusals_for(row, self.job.retention.config))

    def _draw(self, purpose: str, row: Row, index: int, epoch: int, pool: Sequence[str]) -> Encoded:
        pick = draw_index(len(pool), seed=self.job.seed, epoch=epoch, row_id=row.id, purpose=purpose)
        key = (purpose, index, pick)
        if key not in self._alternates:
            self._alternates[key] = encode_row(
                self.tokenizer, self.template, row, answer=pool[pick], max_length=self.job.max_length
            )
        return self._alternates[key]

    def training_data(self) -> TrainingData:
        """Return what an objective may read before training."""
        return TrainingData(
            rows=tuple(self.job.forget),
            forget=self.forget,
            tokenizer=self.tokenizer,
            template=self.template,
            pad_id=self.pad_id,
            max_length=self.job.max_length,
            seed=self.job.seed,
        )


def run_job(
    job: UnlearningJob,
    output: Path,
    *,
    checkpoints: Path | None = None,
    score: Callable[[Any, Mapping[str, float]], float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Unlearned:
    """Unlearn and save the model to ``output``; of several processes all train, the main one saves and tells the others.

    Args:
        job: What to do.
        output: Directory to write; it appears whole or not at all.
        checkpoints: Where to keep checkpoints; an interrupted run found there is continued.
        score: Selection score of a checkpoint, handed in by the caller.
        progress: Called with (steps done, steps in all).

    Raises:
        InputError: When rows have no answer token left.
        TrainingStopped: When the loss is not a finite number.
    """
    started = time.perf_counter()
    model, tokenizer = load_model(job.model, dtype=job.dtype, trainable=True)
    template = resolve_template(tokenizer, job.template or stored_template(job.model))
    notes = list(job.notes)
    border = check_border(tokenizer, template, job.forget)
    if border.message:
        notes.append(border.message)
    is_merged = is_adapter(str(job.model)) and hasattr(model, "merge_and_unload")
    if is_merged:
        # An adapter of an earlier request becomes part of the weights: the reference is the model as it stands, not its base.
        model = model.merge_and_unload().requires_grad_(True)
        notes.append("The adapter of an earlier request was merged into the weights, and full weights are saved.")
    if job.sampled_texts is not None:
        retain, sampled = sampled_rows(model, tokenizer, job.forget, job.sampled_texts, seed=job.seed)
        job = replace(job, retain=retain, method={**job.method, "retain": sampled})
    sequences = Sequences(tokenizer, template, job)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)  # the adapter's initialisation is a draw of the unlearning seed
        model = job.adapter.apply(model, reads=_layers_read(job))
    if job.subset is not None:
        job, sequences = _take_subset(job, model, sequences)
    if job.weights is not None:
        from efface.train.weights import change_weights

        model, result = change_weights(job, model, sequences, score=score, progress=progress, checkpoints=checkpoints)
    else:
        result = fit(job, model, sequences, score=score, progress=progress, checkpoints=checkpoints)
    warning = getattr(job.objective, "check_first_step", lambda logs: None)(result.first_step_logs)
    if warning:
        notes.append(warning)
    if is_merged:
        model = job.adapter.merge(model)
    unshard(model)
    seconds = time.perf_counter() - started
    return share(lambda: _save(job, model, tokenizer, template, result, output, notes, seconds))


def _take_subset(job: UnlearningJob, model: nn.Module, sequences: Sequences) -> tuple[UnlearningJob, Sequences]:
    """Return the job and its rows with the chosen part of the forget set, and a record of the choice without any row in it."""
    if job.subset is None:
        return job, sequences
    taken = select_rows(model, sequences.forget, job.subset, seed=job.seed, pad_id=sequences.pad_id)
    forget = RowSet(tuple(job.forget[i] for i in taken), job.forget.source)
    chosen = {**job.subset.model_dump(mode="json"), "rows": len(taken), "of": len(job.forget), "sha256": forget.content_hash}
    part = replace(job, forget=forget, method={**job.method, "forget_subset": chosen})
    return part, sequences.part(part, taken)


def fit(
    job: UnlearningJob,
    model: nn.Module,
    sequences: Sequences,
    *,
    score: Callable[[Any, Mapping[str, float]], float] | None = None,
    progress: Callable[[int, int], None] | None = None,
    checkpoints: Path | None = None,
) -> TrainResult:
    """Train ``model``, its adapter attached, on the job's objective in place; what the reference is needed for is kept first."""
    if job.adapter.trains_weights:
        _freeze_all_but(model, job.objective.trainable(model))
    job.objective.prepare(model, generator=torch.Generator().manual_seed(job.seed), data=sequences.training_data())
    items = _items(job, sequences)
    losses = Losses(
        job.objective,
        job.retention,
        job.rule,
        forget_weight=job.forget_weight,
        retain_weight=job.retain_weight,
        reference=_reference(job, model, items, sequences.pad_id),
        auxiliary=job.adapter.auxiliary_loss,
        schedule=job.adapter.main_weight,
        reads_retain=bool(items.retain),
    )
    return train(
        model,
        items,
        losses,
        job.settings,
        pad_id=sequences.pad_id,
        monitor_sets=monitor_sets(sequences, job.seed),
        score=score,
        progress=progress,
        checkpoints=checkpoints,
        trackers=job.trackers,
    )


def _items(job: UnlearningJob, sequences: Sequences) -> UnlearningItems:
    if job.retention is not None and not sequences.retain:
        raise MissingNeed(f"The retention term {job.retention.name} has no retain rows. Give retain, or set retention to none.")
    forget_all = job.objective.positions == "all"
    retain_all = job.retention is not None and job.retention.positions == "all"
    retain = sequences.retain if job.retention is not None or job.adapter.reads_retain else []
    reads_refusals = job.retention is not None and "retain_alternate" in job.retention.inputs
    return UnlearningItems(
        [_labelled(item, forget_all) for item in sequences.forget],
        [_labelled(item, retain_all) for item in retain],
        _drawn(sequences.alternate, forget_all) if "alternate" in job.objective.inputs else None,
        _drawn(sequences.retain_alternate, retain_all) if reads_refusals else None,
        seed=job.seed,
    )


def _drawn(draw: Callable[[int, int], Encoded], everything: bool) -> Callable[[int, int], Encoded]:
    return lambda index, epoch: _labelled(draw(index, epoch), everything)


def _labelled(item: Encoded, everything: bool) -> Encoded:
    """Label every token that something predicts, where a loss reads the prompt too; the prompt still ends where it did."""
    return replace(item, answer_start=1, prompt_length=item.prompt_end) if everything else item


def _layers_read(job: UnlearningJob) -> tuple[int, ...]:
    return tuple(sorted({*job.objective.layers, *(job.retention.layers if job.retention else ())}))


def _reference(job: UnlearningJob, model: nn.Module, items: UnlearningItems, pad_id: int) -> ReferenceStore | None:
    """Compute, once per sequence that will be drawn, what the losses need of the reference model."""
    wanted: dict[str, frozenset[ReferenceKind]] = dict.fromkeys(job.objective.inputs, job.objective.reference)
    if job.retention is not None:
        wanted |= dict.fromkeys(job.retention.inputs, job.retention.reference)
    wanted = {view: kinds for view, kinds in wanted.items() if kinds}
    if not wanted:
        return None
    total = job.settings.steps(len(items)) * job.settings.effective_batch(len(items))
    drawn = {
        item[view].key: item[view] for epoch in range(-(-total // len(items))) for item in items.epoch(epoch) for view in wanted
    }
    kinds = frozenset().union(*wanted.values())
    return ReferenceStore.build(model, drawn.values(), kinds, layers=_layers_read(job), pad_id=pad_id)


def monitor_sets(sequences: Sequences, seed: int) -> dict[str, list[Encoded]]:
    """Return the rows of each set whose NLL draws the path: all, or a sample that depends on the seed alone."""
    sets = {"forget": sequences.all_forget, "retain": sequences.retain, "holdout": sequences.holdout}
    return {name: _sample(rows, generator("monitor", name, seed)) for name, rows in sets.items() if rows}


def _sample(rows: Sequence[Encoded], rng: np.random.Generator) -> list[Encoded]:
    if len(rows) <= MONITOR_ROWS:
        return list(rows)
    return [rows[int(i)] for i in np.sort(rng.choice(len(rows), MONITOR_ROWS, replace=False))]


def _freeze_all_but(model: nn.Module, names: Iterable[str] | None) -> None:
    if names is None:
        return
    kept = set(names)
    for name, parameter in model.named_parameters():
        if name not in kept:
            parameter.requires_grad_(False)


def _save(
    job: UnlearningJob,
    model: nn.Module,
    tokenizer: Any,
    template: Template,
    result: TrainResult,
    output: Path,
    notes: Sequence[str],
    seconds: float,
) -> Unlearned:
    report = save_model(
        model,
        tokenizer,
        output,
        dtype=check_model(job.model).dtype,
        metadata={
            "template": template.record(),
            "method": dict(job.method),
            "intention": str(job.intention),
            "original": str(job.model),
            "stopped": result.stopped,
            **({"lineage": [dict(entry) for entry in job.lineage]} if job.lineage else {}),
        },
        original=job.model,
    )
    return Unlearned(
        path=output,
        method=job.method,
        intention=job.intention,
        history=result.history,
        stopped=result.stopped,
        cost=replace(result.cost, seconds=seconds),
        weights_hash=report.weights_hash,
        cast_survival=report.survival.share if report.survival is not None else None,
        notes=tuple(notes),
        kept_step=result.steps if result.history and result.steps < result.history[-1].step else None,
        lineage=tuple(without_digests(entry) for entry in job.lineage),
    )
