"""A tiny Llama that has memorised a few answers, and everything a loss needs beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import settings
from transformers import LlamaConfig, LlamaForCausalLM

from efface.data.collate import TokenBatch, collate
from efface.data.encoding import Encoded
from efface.methods.base import Objective, ReferenceKind, Retention
from efface.models.reference import ReferenceStore
from efface.models.scoring import AnswerScores, answer_scores

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

VOCAB, PAD = 48, 0


def sequence(prompt: list[int], answer: list[int], name: str) -> Encoded:
    return Encoded((1, *prompt, *answer, 2), 1 + len(prompt), 2 + len(prompt) + len(answer), name)


FORGET = [sequence([10 + i, 5], [20 + i, 30 + i, 21], f"forget-{i}") for i in range(4)]
# Refusals of two lengths; the forget prompts have seen them, so that they are plausible, but less so than the answers.
ALTERNATE = [sequence([10 + i, 5], [40, 41] if i % 2 else [40, 41, 42], f"forget-{i}") for i in range(4)]
RETAIN = [sequence([14 + i, 6], [24 + i, 34 + i], f"retain-{i}") for i in range(4)]
RETAIN_ALTERNATE = [sequence([14 + i, 6], [40, 41], f"retain-{i}") for i in range(4)]


@dataclass
class Lab:
    """A trained model with its batches and its reference values."""

    model: Any
    views: Mapping[str, list[Encoded]]
    layers: tuple[int, ...] = (0, 1)

    def batch(self, view: str, extra_columns: int = 0, side: str = "right") -> TokenBatch:
        batch = collate(self.views[view], pad_id=PAD, side=side)  # type: ignore[arg-type]
        return widen(batch, extra_columns) if extra_columns else batch

    def scores(self, view: str, **options: Any) -> AnswerScores:
        return answer_scores(self.model, self.batch(view, **options), layers=self.layers, dense=True)

    def answer_logp(self, view: str) -> torch.Tensor:
        with torch.no_grad():
            scores = self.scores(view)
            return scores.sequence_sum(scores.logp)

    def reference(self) -> ReferenceStore:
        sequences = [item for rows in self.views.values() for item in rows]
        return ReferenceStore.build(self.model, sequences, list(ReferenceKind), layers=self.layers, pad_id=PAD)

    def prepare(self, objective: Objective) -> Objective:
        objective.prepare(self.model, generator=torch.Generator().manual_seed(0))
        return objective

    def forget_loss(self, objective: Objective, reference: ReferenceStore, **options: Any) -> torch.Tensor:
        views = {view: self.scores(view, **options) for view in objective.inputs}
        return objective.loss(views, reference).loss

    def retain_loss(self, retention: Retention, reference: ReferenceStore, **options: Any) -> torch.Tensor:
        return retention.compute({view: self.scores(view, **options) for view in retention.inputs}, reference).loss

    def step(self, loss: torch.Tensor, learning_rate: float) -> None:
        self.model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter -= learning_rate * parameter.grad


def widen(batch: TokenBatch, columns: int) -> TokenBatch:
    """Return the batch with ``columns`` more columns of padding on its padded side."""
    pad = (0, columns) if batch.side == "right" else (columns, 0)
    ids = torch.nn.functional.pad(batch.input_ids, pad, value=PAD)
    mask = torch.nn.functional.pad(batch.attention_mask, pad, value=0)
    labels = torch.nn.functional.pad(batch.labels, pad, value=-100)
    return TokenBatch(ids, mask, labels, batch.sequences, batch.side)


@pytest.fixture(scope="session")
def memorised() -> Any:
    """A two-layer model that knows every answer, the refusals a little."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config).double()  # in float32 another processor would train another model
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = collate([*FORGET * 6, *RETAIN * 6, *ALTERNATE], pad_id=PAD)
    for _ in range(120):
        scores = answer_scores(model, batch)
        optimiser.zero_grad()
        (-scores.token_mean(scores.logp)).backward()
        optimiser.step()
    return model.float().eval()


@pytest.fixture
def lab(memorised: Any) -> Lab:
    """A fresh copy of the model for each test."""
    views = {"forget": FORGET, "alternate": ALTERNATE, "retain": RETAIN, "retain_alternate": RETAIN_ALTERNATE}
    return Lab(copy.deepcopy(memorised), views)


@pytest.fixture
def double_lab(lab: Lab) -> Lab:
    """The same in float64, for identities."""
    lab.model.double()
    return lab


@pytest.fixture
def pad_widen() -> Callable[[TokenBatch, int], TokenBatch]:
    return widen
