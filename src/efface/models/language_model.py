"""A local model behind the two verbs: one scoring pass, one generation pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from efface.data.collate import TokenBatch, collate
from efface.data.encoding import Encoded, Template, resolve_template
from efface.data.items import GenerateItem, ScoreItem, TokenRow
from efface.errors import InputError
from efface.models.batching import logit_budget, plan_batches
from efface.models.contrast import ContrastModel
from efface.models.decoding import DecodingRow, greedy_decode, tolerates_left_padding
from efface.models.figures import TokenFigures, token_figures
from efface.models.fingerprint import fingerprint as fingerprint_of
from efface.models.hooks import adapter_off, evaluating, text_config, unwrap
from efface.models.loading import load_model, read_metadata
from efface.models.prompts import DEFAULT_MAX_LENGTH, EncodingVariant, encode_generate_item, encode_score_item, encode_score_items
from efface.models.protocol import Progress
from efface.models.scoring import answer_scores
from efface.models.shared_prompts import can_share_prompts, find_prompts, score_continuations

__all__ = ["LocalModel", "PassStats", "TokenFigures", "load_language_model", "token_figures"]


@dataclass
class PassStats:
    """What the measuring of a model has cost so far.

    Attributes:
        forward_passes: Calls of the model.
        tokens: Real tokens put through it.
        padded_tokens: The same with padding.
        generated_tokens: Tokens written.
        scored_batches: Batches of sequences or continuations that were scored.
        seconds: Wall time inside ``score`` and ``generate``.
    """

    forward_passes: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    generated_tokens: int = 0
    scored_batches: int = 0
    seconds: float = 0.0

    @property
    def padding_share(self) -> float:
        """Share of the tokens put through the model that was padding."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    def count(self, tokens: int, padded: int) -> None:
        """Add one forward pass."""
        self.forward_passes += 1
        self.tokens += tokens
        self.padded_tokens += padded


class LocalModel:
    """A transformers model and tokenizer as a :class:`~efface.models.protocol.LanguageModel`.

    Args:
        model: A causal language model, wrapped by PEFT or not; its mode and weights are left as they are.
        tokenizer: Its tokenizer.
        template: Template, its name, or None for the tokenizer's chat template (else ``plain``).
        max_length: Longest sequence; None takes the variant's (512 for "openunlearning", 200 for "original", else what the model's
            configuration allows).
        token_budget: Padded tokens per scoring batch.
        device: Where to run; None leaves the model where it is.
        variant: Which published encoding to follow.
        adapter: Whether an adapter on the model takes part.
        weights: Hash of the weights where it is known, so that they need not be hashed again.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        template: Template | str | Mapping[str, Any] | None = None,
        *,
        max_length: int | None = None,
        token_budget: int = 8192,
        device: str | torch.device | None = None,
        variant: EncodingVariant = "strict",
        adapter: bool = True,
        weights: str | None = None,
    ) -> None:
        self.model = model if device is None else model.to(device)
        self.tokenizer = tokenizer
        self.template = resolve_template(tokenizer, template)
        self.variant = variant
        self.token_budget = token_budget
        self.stats = PassStats()
        self._asked_length = max_length
        self._adapter = adapter
        self._weights = weights
        self._fingerprint: tuple[Any, str] | None = None
        self._pads_left: bool | None = None
        self._shares: bool | None = None

    @property
    def max_length(self) -> int | None:
        """Longest sequence that is encoded."""
        if self._asked_length is not None:
            return self._asked_length
        if self.variant != "strict":
            return DEFAULT_MAX_LENGTH[self.variant]
        limit = getattr(text_config(self.model), "max_position_embeddings", None)
        return int(limit) if isinstance(limit, int) and limit > 0 else None

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def fingerprint(self) -> str:
        """Covers weights, adapter, tokenizer, template, dtype, attention kernel and settings; follows changes of the weights."""
        # In-place updates raise a tensor's version, so a model in training never keeps an old fingerprint.
        changes = sum(parameter._version for parameter in self.model.parameters())
        version = (self._adapter, changes, getattr(self.model, "adapter_record", None))
        if self._fingerprint is None or self._fingerprint[0] != version:
            settings = {"max_length": self.max_length, "variant": self.variant, "adapter": self._adapter}
            known = self._weights if self._fingerprint is None else None
            value = fingerprint_of(self.model, self.tokenizer, self.template, weights=known, settings=settings)
            self._fingerprint = (version, value)
        return self._fingerprint[1]

    def bare(self) -> Self:
        """Return the model with its adapter switched off, of a pair the original; any other model is returned as it is."""
        if isinstance(self.model, ContrastModel):
            original = self._sibling(model=self.model.reinforced if self.model.base is None else self.model.base)
            return original.bare() if self.model.base is None else original
        if not hasattr(self.model, "disable_adapter") or not hasattr(self.model, "peft_config"):
            return self
        return self._sibling(adapter=False)

    def with_variant(self, variant: EncodingVariant, *, max_length: int | None = None) -> Self:
        """Return the same model with another published encoding; weights are shared."""
        return self._sibling(variant=variant, max_length=max_length)

    def encode(self, item: ScoreItem) -> Encoded:
        """Return the tokens of an item and its labelled span.

        Raises:
            InputError: In the strict variant, when the item is longer than ``max_length`` even without few-shot pairs.
        """
        return encode_score_item(self.tokenizer, self.template, item, variant=self.variant, max_length=self.max_length)

    def encode_prompt(self, item: GenerateItem) -> tuple[int, ...]:
        """Return the prompt tokens of an item."""
        return encode_generate_item(self.tokenizer, self.template, item, variant=self.variant, max_length=self.max_length)

    def score(self, items: Sequence[ScoreItem], *, progress: Progress | None = None) -> list[TokenRow]:
        """Return per-token figures of each item, in order: a distinct sequence runs once, and so does a prompt of several."""
        started = time.perf_counter()
        encoded = encode_score_items(self.tokenizer, self.template, items, variant=self.variant, max_length=self.max_length)
        distinct: dict[tuple[Any, ...], list[int]] = {}
        for index, sequence in enumerate(encoded):
            distinct.setdefault((sequence.input_ids, sequence.answer_start, sequence.answer_end), []).append(index)
        groups = list(distinct.values())
        rows: list[TokenRow | None] = [None] * len(items)
        done = 0
        with self._running():
            for batch, found in self._score_distinct([encoded[group[0]] for group in groups]):
                for position, row in zip(batch, found, strict=True):
                    for index in groups[position]:
                        rows[index] = row
                        done += 1
                if progress:
                    progress(done, len(items))
        self.stats.seconds += time.perf_counter() - started
        return [row for row in rows if row is not None]

    def generate(self, items: Sequence[GenerateItem], *, progress: Progress | None = None) -> list[str]:
        """Return the greedy continuation of each item, in order: cut at EOS and stop strings, stripped."""
        started = time.perf_counter()
        longest = self.max_length
        prompts = [
            encode_generate_item(self.tokenizer, self.template, item, variant=self.variant, max_length=longest) for item in items
        ]
        distinct: dict[tuple[Any, ...], list[int]] = {}
        for index, (prompt, item) in enumerate(zip(prompts, items, strict=True)):
            distinct.setdefault((prompt, item.max_new_tokens, item.stop), []).append(index)
        groups = list(distinct.values())
        rows = [self._decoding_row(prompts[group[0]], items[group[0]]) for group in groups]
        texts = [""] * len(items)
        done = 0
        eos = self._eos_ids()
        with self._running():
            for batch in self._plan_generation(rows):
                greedy_decode(
                    self.model,
                    [rows[i] for i in batch],
                    eos=eos,
                    pad_id=self._pad_id(),
                    hidden_ids=self._hidden_ids(),
                    on_forward=self.stats.count,
                )
                for i in batch:
                    text = self._finish(rows[i].tokens, items[groups[i][0]].stop)
                    self.stats.generated_tokens += len(rows[i].tokens)
                    for index in groups[i]:
                        texts[index] = text
                        done += 1
                if progress:
                    progress(done, len(items))
        self.stats.seconds += time.perf_counter() - started
        return texts

    def _score_distinct(self, sequences: list[Encoded]) -> Iterator[tuple[list[int], list[TokenRow]]]:
        """Yield batches of indices and their rows; a prompt that several sequences begin with runs once."""
        alone: Sequence[int] = range(len(sequences))
        prompts = find_prompts(sequences)
        if prompts.groups and self._can_share_prompts():
            alone = prompts.alone
            shared = score_continuations(
                self.model,
                sequences,
                prompts.groups,
                pad_id=self._pad_id(),
                token_budget=self._scoring_budget(),
                on_forward=self.stats.count,
            )
            for batch, logits, targets in shared:
                yield batch, self._rows([sequences[i] for i in batch], logits, targets)
        lengths = [len(sequences[i].input_ids) for i in alone]
        for part in plan_batches(lengths, token_budget=self._scoring_budget()):
            batch = [alone[i] for i in part]
            yield batch, self._score_batch([sequences[i] for i in batch])

    def _score_batch(self, sequences: list[Encoded]) -> list[TokenRow]:
        batch = self._mask_published(collate(sequences, pad_id=self._pad_id()).to(self.device))
        self.stats.count(sum(len(item.input_ids) for item in sequences), batch.input_ids.numel())
        scores = answer_scores(self.model, batch)
        return self._rows(sequences, scores.logits, scores.targets)

    def _rows(self, sequences: list[Encoded], logits: Tensor, answers: Tensor) -> list[TokenRow]:
        """Turn logits (N, V) and the answer tokens (N,) they predict into a row per sequence."""
        self.stats.scored_batches += 1
        figures = token_figures(logits, answers)
        lengths = [item.answer_length for item in sequences]
        targets = np.split(answers.cpu().numpy(), np.cumsum(lengths)[:-1])
        texts = self.tokenizer.batch_decode([t.tolist() for t in targets], skip_special_tokens=True)
        stops = np.cumsum(lengths)
        eos = self.tokenizer.eos_token_id
        rows = []
        for target, stop, length, text in zip(targets, stops, lengths, texts, strict=True):
            span = slice(int(stop - length), int(stop))
            rows.append(
                TokenRow(
                    targets=target.astype(np.int64),
                    logp=figures.logp[span],
                    rank=figures.rank[span],
                    mean=figures.mean[span],
                    var=figures.var[span],
                    hit=figures.hit[span],
                    ends_in_eos=bool(length) and eos is not None and int(target[-1]) == eos,
                    text=text,
                )
            )
        return rows

    def _scoring_budget(self) -> int:
        size = next(self.model.parameters()).element_size()
        return logit_budget(self.token_budget, vocab_size=self._vocabulary(), bytes_per_logit=size)

    def _vocabulary(self) -> int:
        return int(getattr(text_config(self.model), "vocab_size", 0) or len(self.tokenizer))

    def _can_share_prompts(self) -> bool:
        if self._hidden_ids():  # a published mask hides tokens of the prompt by what they are
            return False
        if self._shares is None:
            self._shares = can_share_prompts(self.model, vocab_size=self._vocabulary())
        return self._shares

    def _plan_generation(self, rows: list[DecodingRow]) -> Iterator[list[int]]:
        groups: dict[int, list[int]] = {}
        if self._can_pad_left(rows):
            groups[0] = list(range(len(rows)))
        else:
            for index, row in enumerate(rows):
                groups.setdefault(len(row.prompt), []).append(index)
        for members in groups.values():
            lengths = [len(rows[index].prompt) + rows[index].max_new_tokens for index in members]
            for batch in plan_batches(lengths, token_budget=2 * self.token_budget):
                yield [members[index] for index in batch]

    def _can_pad_left(self, rows: list[DecodingRow]) -> bool:
        if len({len(row.prompt) for row in rows}) <= 1:
            return True
        if self._pads_left is None:
            self._pads_left = tolerates_left_padding(self.model, vocab_size=self._vocabulary())
        return self._pads_left

    def _decoding_row(self, prompt: tuple[int, ...], item: GenerateItem) -> DecodingRow:
        if not prompt:
            raise InputError(
                f"Row {item.row_id} has an empty prompt. A continuation needs at least one token before it. Give it a question."
            )
        return DecodingRow(prompt, item.max_new_tokens, _stopper(self.tokenizer, item.stop) if item.stop else None)

    def _finish(self, tokens: list[int], stop: tuple[str, ...]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        for mark in (self.tokenizer.eos_token, *stop):
            if mark:
                text = text.split(mark, 1)[0]
        return text.strip()

    def _eos_ids(self) -> frozenset[int]:
        generation = getattr(unwrap(self.model), "generation_config", None)
        listed = getattr(generation, "eos_token_id", None)
        ids = set(listed) if isinstance(listed, list | tuple) else {listed}
        return frozenset(int(token) for token in (*ids, self.tokenizer.eos_token_id) if token is not None)

    def _pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id or 0)

    def _hidden_ids(self) -> frozenset[int]:
        # The published evaluation masks by ids != pad; with pad = EOS that hides every real EOS too (kept in that variant).
        same = self.tokenizer.pad_token_id in (None, self.tokenizer.eos_token_id)
        return frozenset({self._pad_id()}) if self.variant == "openunlearning" and same else frozenset()

    def _mask_published(self, batch: TokenBatch) -> TokenBatch:
        for token in self._hidden_ids():
            visible = (batch.input_ids != token).to(batch.attention_mask.dtype)
            batch = replace(batch, attention_mask=batch.attention_mask * visible)
        return batch

    @contextmanager
    def _running(self) -> Iterator[None]:
        with evaluating(self.model), nullcontext() if self._adapter else adapter_off(self.model):
            yield

    def _sibling(
        self,
        *,
        variant: EncodingVariant | None = None,
        max_length: int | None = None,
        adapter: bool | None = None,
        model: Any = None,
    ) -> Self:
        other = type(self)(
            self.model if model is None else model,
            self.tokenizer,
            self.template,
            max_length=max_length if variant is not None else self._asked_length,
            token_budget=self.token_budget,
            variant=variant or self.variant,
            adapter=self._adapter if adapter is None else adapter,
            weights=self._weights if model is None else None,
        )
        other.stats = self.stats
        other._pads_left = self._pads_left
        return other


def load_language_model(
    path_or_id: str | Path,
    *,
    template: Template | str | Mapping[str, Any] | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    max_length: int | None = None,
    token_budget: int = 8192,
    variant: EncodingVariant = "strict",
    attention: str | None = None,
) -> LocalModel:
    """Load a model for measuring; the template written into its ``efface.json`` is used unless another is given."""
    model, tokenizer = load_model(path_or_id, dtype=dtype, device=device, attention=attention)
    metadata = read_metadata(path_or_id) if Path(path_or_id).is_dir() else {}
    chosen = resolve_template(tokenizer, template if template is not None else metadata.get("template"))
    return LocalModel(model, tokenizer, chosen, max_length=max_length, token_budget=token_budget, variant=variant)


def _stopper(tokenizer: Any, stop: tuple[str, ...]) -> Callable[[list[int]], bool]:
    def is_done(tokens: list[int]) -> bool:
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        return any(mark in text for mark in stop)

    return is_done
