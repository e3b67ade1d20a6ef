"""An OpenAI-compatible endpoint (vLLM and others) behind the two verbs.

It writes through ``/chat/completions``, where the server makes the prompt, or through ``/completions``, where the model's
tokenizer is known and the prompt is sent as the tokens a local model would be given. It scores where the server gives the
log-probabilities of a prompt: ``prompt_logprobs`` (vLLM), else ``echo`` with ``logprobs``. Neither shows the whole distribution, so
that moments over the vocabulary are NaN and what is made of them is not available.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np

from efface.data.encoding import Encoded, Template, prompt_text, resolve_template
from efface.data.items import GenerateItem, ScoreItem, TokenRow
from efface.errors import InputError
from efface.models.endpoint_client import EndpointClient, Refused, check_url
from efface.models.fingerprint import tokenizer_hash
from efface.models.prompts import DEFAULT_MAX_LENGTH, EncodingVariant, encode_generate_item, encode_score_item
from efface.models.protocol import LanguageModel, Progress

__all__ = ["Api", "EndpointModel", "WrittenElsewhere", "open_endpoint"]

Api = Literal["chat", "completions"]
_Item = TypeVar("_Item", ScoreItem, GenerateItem)
_Answer = TypeVar("_Answer")
_MOST_STOPS = 4  # the API takes no more; further ones are cut here

NO_TOKENIZER = "the endpoint scores only where its model's tokenizer is known"
NO_PROMPT_LOGPROBS = "the endpoint gives no log-probabilities of a prompt (neither prompt_logprobs nor echo with logprobs)"


class EndpointModel:
    """A remote model as a :class:`~efface.models.protocol.LanguageModel`.

    Args:
        client: The server.
        model: Name of the model there.
        api: "chat" or "completions".
        tokenizer: The model's tokenizer; None sends texts only and cannot score.
        template: How questions become prompts where the server does not make them.
        concurrency: Requests under way at a time.
        variant: Which published encoding to follow where the tokenizer is known.
    """

    def __init__(
        self,
        client: EndpointClient,
        model: str,
        *,
        api: Api = "chat",
        tokenizer: Any = None,
        template: Template | str | None = None,
        concurrency: int = 16,
        variant: EncodingVariant = "strict",
    ) -> None:
        self.client = client
        self.model = model
        self.api = api
        self.tokenizer = tokenizer
        self.template = resolve_template(tokenizer, template)
        self.concurrency = concurrency
        self.variant = variant

    @property
    def fingerprint(self) -> str:
        """Covers URL, model name, API, tokenizer and template. A server that swaps the model behind a name goes unnoticed."""
        content = {
            "url": self.client.url,
            "model": self.model,
            "api": self.api,
            "tokenizer": None if self.tokenizer is None else tokenizer_hash(self.tokenizer),
            "template": self.template.hash,
            "variant": self.variant,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def bare(self) -> Self:
        """Return the model itself: what stands in front of it on the server cannot be taken away from here."""
        return self

    def with_variant(self, variant: EncodingVariant) -> Self:
        """Return the same model with another published encoding; where the server makes the prompts it has its own."""
        return type(self)(
            self.client,
            self.model,
            api=self.api,
            tokenizer=self.tokenizer,
            template=self.template,
            concurrency=self.concurrency,
            variant=variant,
        )

    def generate(self, items: Sequence[GenerateItem], *, progress: Progress | None = None) -> list[str]:
        """Return the greedy continuation of each item, in order: cut at stop strings, stripped.

        Raises:
            InputError: When no server answers or it refuses, and for a plain text where no tokenizer says what its beginning is.
        """
        return self._each(items, self._write, progress)

    def score(self, items: Sequence[ScoreItem], *, progress: Progress | None = None) -> list[TokenRow]:
        """Return per-token figures of each item, in order; ``rank`` is -1 where the server does not tell it, moments are NaN.

        Raises:
            NotImplementedError: When the tokenizer is not known, or the server gives no log-probabilities of a prompt.
            InputError: When no server answers.
        """
        if self.tokenizer is None:
            raise NotImplementedError(NO_TOKENIZER)
        if not items:
            return []
        ask = self._scorer(self._encode(items[0]))
        return self._each(items, lambda item: self._row(self._encode(item), ask), progress)

    def _each(self, items: Sequence[_Item], ask: Callable[[_Item], _Answer], progress: Progress | None) -> list[_Answer]:
        with ThreadPoolExecutor(max(1, min(self.concurrency, len(items)))) as pool:
            jobs = [pool.submit(ask, item) for item in items]
            try:
                for done, job in enumerate(as_completed(jobs), start=1):
                    job.result()
                    if progress:
                        progress(done, len(items))
            except BaseException:
                for job in jobs:  # what fails for one row fails for those that still wait
                    job.cancel()
                raise
        return [job.result() for job in jobs]

    def _write(self, item: GenerateItem) -> str:
        settings: dict[str, Any] = {"model": self.model, "max_tokens": item.max_new_tokens, "temperature": 0}
        if item.stop:
            settings["stop"] = list(item.stop[:_MOST_STOPS])
        if self.api == "chat" and item.form == "qa":
            choice = self._choice("chat/completions", {**settings, "messages": _turns(item)})
            text = (choice.get("message") or {}).get("content") or ""
        else:
            text = self._choice("completions", {**settings, "prompt": self._prompt(item)}).get("text") or ""
        for mark in item.stop:
            text = text.split(mark, 1)[0]
        return str(text).strip()

    def _prompt(self, item: GenerateItem) -> str | list[int]:
        if self.tokenizer is not None:
            return list(encode_generate_item(self.tokenizer, self.template, item, **self._encoding()))
        if item.form == "completion":
            return item.question
        if item.form == "text" or item.messages:
            raise InputError(
                f"Row {item.row_id} is a text or a conversation, whose prompt only the model's tokenizer can make. Without it an "
                "endpoint is asked questions. Give the tokenizer (--endpoint-tokenizer), or leave the row out."
            )
        return prompt_text(self.template, item.question, item.shots)

    def _choice(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        choices = self.client.post(path, body).get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise InputError(
                f"What answers at {self.client.url}/{path} gives no choices. An OpenAI-compatible API does. Mend the URL."
            )
        found: dict[str, Any] = choices[0]
        return found

    def _encode(self, item: ScoreItem) -> Encoded:
        return encode_score_item(self.tokenizer, self.template, item, **self._encoding())

    def _encoding(self) -> dict[str, Any]:
        return {"variant": self.variant, "max_length": DEFAULT_MAX_LENGTH[self.variant]}

    def _scorer(self, example: Encoded) -> Callable[[Encoded], list[_Seen]]:
        """Return the way of asking for log-probabilities that the server knows, tried on one item."""
        for ask in (self._prompt_logprobs, self._echo):
            try:
                if len(ask(example)) == example.answer_length:
                    return ask
            except Refused as error:
                if error.status in (401, 403):
                    raise
        raise NotImplementedError(NO_PROMPT_LOGPROBS)

    def _prompt_logprobs(self, encoded: Encoded) -> list[_Seen]:
        """Ask as vLLM wants to be asked: per position a mapping from token id to log-probability and rank, the first one null."""
        body = {**self._one_token(encoded), "prompt_logprobs": 1}
        entries = self._choice("completions", body).get("prompt_logprobs")
        if not isinstance(entries, list) or len(entries) != len(encoded.input_ids):
            return []
        seen = []
        for token, entry in list(zip(encoded.input_ids, entries, strict=True))[encoded.answer_start : encoded.answer_end]:
            own = (entry or {}).get(str(token))
            if own is None:
                return []
            rank = own.get("rank")  # counted from 1
            best = max(float(other["logprob"]) for other in entry.values())
            hit = rank == 1 if rank is not None else float(own["logprob"]) >= best
            seen.append(_Seen(float(own["logprob"]), -1 if rank is None else int(rank) - 1, hit))
        return seen

    def _echo(self, encoded: Encoded) -> list[_Seen]:
        """Ask as the older API wants to be asked: the prompt comes back with a log-probability for each of its tokens."""
        body = {
            "model": self.model,
            "prompt": list(encoded.input_ids),
            "max_tokens": 1,
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }
        found = self._choice("completions", body).get("logprobs") or {}
        own, best = found.get("token_logprobs"), found.get("top_logprobs")
        # One token is written after the prompt; some servers leave it out.
        if not isinstance(own, list) or not 0 <= len(own) - len(encoded.input_ids) <= 1:
            return []
        span = range(encoded.answer_start, encoded.answer_end)
        if not isinstance(best, list) or any(own[place] is None or not best[place] for place in span):
            return []
        hits = [float(own[place]) >= max(map(float, best[place].values())) for place in span]
        return [_Seen(float(own[place]), 0 if hit else -1, hit) for place, hit in zip(span, hits, strict=True)]

    def _one_token(self, encoded: Encoded) -> dict[str, Any]:
        """Some servers write at least one token, so that is what is asked for; it is not looked at."""
        return {"model": self.model, "prompt": list(encoded.input_ids), "max_tokens": 1, "temperature": 0}

    def _row(self, encoded: Encoded, ask: Callable[[Encoded], list[_Seen]]) -> TokenRow:
        seen = ask(encoded)
        targets = encoded.input_ids[encoded.answer_start : encoded.answer_end]
        if len(seen) != len(targets):
            raise InputError(
                f"The endpoint {self.client.url} gave log-probabilities for some rows and not for others. All tokens of a prompt "
                "need one. Ask another server, or let it write only (without --endpoint-tokenizer)."
            )
        unknown = np.full(len(seen), math.nan, dtype=np.float32)
        return TokenRow(
            targets=np.asarray(targets, dtype=np.int64),
            logp=np.asarray([token.logp for token in seen], dtype=np.float32),
            rank=np.asarray([token.rank for token in seen], dtype=np.int32),
            mean=unknown,
            var=unknown.copy(),
            hit=np.asarray([token.hit for token in seen], dtype=bool),
            ends_in_eos=bool(targets) and targets[-1] == self.tokenizer.eos_token_id,
            text=self.tokenizer.decode(list(targets), skip_special_tokens=True),
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a server tells of one token."""

    logp: float
    rank: int
    hit: bool


@dataclass(frozen=True)
class WrittenElsewhere:
    """A model that scores here while its texts are written elsewhere, as by a faster server of the same model.

    Attributes:
        scorer: Scores.
        writer: Writes.
    """

    scorer: LanguageModel
    writer: LanguageModel

    @property
    def fingerprint(self) -> str:
        """Covers both."""
        return hashlib.sha256(f"{self.scorer.fingerprint}\n{self.writer.fingerprint}".encode()).hexdigest()[:32]

    def generate(self, items: Sequence[GenerateItem], *, progress: Progress | None = None) -> list[str]:
        """Return what the writer writes."""
        return self.writer.generate(items, progress=progress)

    def score(self, items: Sequence[ScoreItem], *, progress: Progress | None = None) -> list[TokenRow]:
        """Return what the scorer says."""
        return self.scorer.score(items, progress=progress)

    def with_variant(self, variant: EncodingVariant) -> WrittenElsewhere:
        """Return both with another published encoding, where they have one."""
        return WrittenElsewhere(_encoded(self.scorer, variant), _encoded(self.writer, variant))

    def bare(self) -> WrittenElsewhere:
        """Return both without their guards and adapters."""
        return WrittenElsewhere(self.scorer.bare(), self.writer.bare())


def _encoded(model: Any, variant: EncodingVariant) -> Any:
    switch = getattr(model, "with_variant", None)
    return model if switch is None else switch(variant)


def open_endpoint(
    url: str,
    model: str | None = None,
    *,
    key: str | None = None,
    api: Api | None = None,
    tokenizer: str | Path | None = None,
    template: Template | str | None = None,
    concurrency: int = 16,
    timeout: float = 120.0,
    retries: int = 5,
) -> EndpointModel:
    """Return the model of an OpenAI-compatible server, which is asked once whether it is there.

    Args:
        url: Base URL, up to and including ``/v1``.
        model: Name of the model; None takes the only one that is served.
        key: Bearer token, where the server wants one; it is written nowhere.
        api: "chat" lets the server make the prompt; "completions" sends prompts; None: the latter where the tokenizer is known.
        tokenizer: Directory or hub id of the model's tokenizer; without it the endpoint cannot score.
        template: How questions become prompts for "completions"; None: as the tokenizer's ``efface.json`` says, else its chat
            template, else ``plain``.
        concurrency: Requests under way at a time.
        timeout: Seconds until an answer must have come.
        retries: How often a request that failed for a passing reason is sent again, after growing pauses.

    Raises:
        InputError: When no server answers, it refuses the key, or does not serve the model.
    """
    client = EndpointClient(check_url(url), key, timeout, retries)
    name = _served(client, model)
    loaded = None
    if tokenizer is not None:
        from efface.models.loading import load_tokenizer, read_metadata

        loaded = load_tokenizer(tokenizer)
        if template is None and Path(tokenizer).is_dir():
            template = read_metadata(tokenizer).get("template")
    chosen: Api = api or ("chat" if loaded is None else "completions")
    return EndpointModel(client, name, api=chosen, tokenizer=loaded, template=template, concurrency=concurrency)


def _served(client: EndpointClient, model: str | None) -> str:
    try:
        listed = client.get("models").get("data")
    except Refused as error:
        if error.status not in (404, 405):
            raise
        listed = None  # some servers keep no list
    names = [str(entry["id"]) for entry in listed if isinstance(entry, dict) and "id" in entry] if isinstance(listed, list) else []
    if model is not None and (model in names or not names):
        return model
    if model is None and len(names) == 1:
        return names[0]
    told = f"serves {', '.join(names)}" if names else "does not say what it serves"
    raise InputError(
        f"The endpoint {client.url} {told}, and {'no model was named' if model is None else f'{model!r} was asked for'}. One that "
        "it serves is needed. Name it (--endpoint-model)."
    )


def _turns(item: GenerateItem) -> list[dict[str, str]]:
    if item.messages:
        return [dict(turn) for turn in item.messages]
    said = [("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(sum(item.shots, ()))]
    return [{"role": role, "content": text} for role, text in [*said, ("user", item.question)]]
