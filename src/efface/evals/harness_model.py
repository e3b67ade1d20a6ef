"""Any :class:`~efface.models.protocol.LanguageModel` as a model of the lm-evaluation-harness (extra ``lm-eval``).

Requests are handed to ``score`` and ``generate`` all at once: equal ones are run once, the rest is sorted by length and batched by
token budget there. A guarded or attacked model answers as it would be served.

Deviations from the harness's own model for transformers: a context that is too long is cut at its beginning by characters, which
may keep a few tokens less; generations come without blanks at either end; without a BOS token the first token of a text is not
scored, and a BOS token itself never is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from efface.data.items import GenerateItem, ScoreItem
from efface.errors import InputError

if TYPE_CHECKING:
    from efface.models.protocol import LanguageModel, Progress

__all__ = ["HarnessModel"]

_NEW_TOKENS = 256  # the harness's own default


class HarnessModel(LM):  # type: ignore[misc]
    """The three questions the harness asks, put to a model of ours.

    Args:
        model: What answers; one that cannot score raises ``NotImplementedError`` where a task needs it.
        progress: Told of items done.
    """

    def __init__(self, model: LanguageModel, *, progress: Progress | None = None) -> None:
        super().__init__()
        self.model = model
        self.progress = progress
        self.cut = 0
        self._tokenizer = getattr(model, "tokenizer", None)
        limit = getattr(model, "max_length", None)
        self._limit = limit if self._tokenizer is not None and isinstance(limit, int) else None

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return (log-probability of the continuation, whether greedy decoding would write it) of each request."""
        items = []
        for number, request in enumerate(requests):
            context, continuation = request.args
            blanks = len(context) - len(context.rstrip())
            if blanks:  # a blank belongs to the token after it
                context, continuation = context[:-blanks], context[-blanks:] + continuation
            items.append(self._score_item(number, context, continuation))
        rows = self.model.score(items, progress=self.progress)
        return [(float(row.logp.astype("float64").sum()), bool(row.hit.all())) for row in rows]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Return the log-probability of each whole text; one too long is scored in parts, each with what precedes it."""
        owners: list[int] = []
        items = []
        for number, request in enumerate(requests):
            for context, part in self._windows(request.args[0]):
                owners.append(number)
                items.append(self._score_item(number, context, part))
        totals = [0.0] * len(requests)
        for owner, row in zip(owners, self.model.score(items, progress=self.progress), strict=True):
            totals[owner] += float(row.logp.astype("float64").sum())
        return totals

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the greedy continuation of each request, cut at its stop strings.

        Raises:
            InputError: When a task asks for samples.
        """
        items = []
        for number, request in enumerate(requests):
            context, settings = request.args
            _require_greedy(settings)
            until = settings.get("until") or ()
            stop = (until,) if isinstance(until, str) else tuple(until)
            longest = int(settings.get("max_gen_toks") or settings.get("max_new_tokens") or _NEW_TOKENS)
            room = None if self._limit is None else max(self._limit - longest, 1)
            given = self._fitted(context, "", room)
            items.append(GenerateItem(str(number), given, form="completion", max_new_tokens=longest, stop=stop))
        return list(self.model.generate(items, progress=self.progress))

    def _score_item(self, number: int, context: str, continuation: str) -> ScoreItem:
        if not context:
            return ScoreItem(str(number), continuation, form="text")
        return ScoreItem(str(number), continuation, self._fitted(context, continuation, self._limit), form="completion")

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text)["input_ids"]) if self._tokenizer is not None else 0

    def _fitted(self, context: str, continuation: str, room: int | None) -> str:
        """Return the end of the context that leaves room for the continuation; at least one character stays."""
        if room is None:
            return context
        was = context
        while len(context) > 1 and (excess := self._count(context + continuation) - room) > 0:
            per_token = len(context) / max(self._count(context), 1)
            context = context[min(math.ceil(excess * per_token), len(context) - 1) :]
        self.cut += context != was
        return context

    def _windows(self, text: str) -> list[tuple[str, str]]:
        """Return (what precedes, part) pairs that cover the text once; each fits into the model, with as much before it as fits."""
        if self._limit is None or self._count(text) <= self._limit:
            return [("", text)]
        half = self._limit // 2
        parts = _split(text, lambda piece: self._count(piece) <= half)
        found, before = [], ""
        for part in parts:
            found.append((before, part))
            before += part
        return found


def _split(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Cut a text into the longest pieces that fit, at blanks where there are any."""
    parts = []
    while text:
        low, high = 1, len(text)
        while low < high:  # the longest beginning that fits
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
        blank = text.rfind(" ", 1, low)
        cut = blank if low < len(text) and blank > 0 else low
        parts.append(text[:cut])
        text = text[cut:]
    return parts


def _require_greedy(settings: Mapping[str, Any]) -> None:
    asked = {key: settings[key] for key in ("do_sample", "temperature") if key in settings}
    if settings.get("do_sample") or float(settings.get("temperature") or 0.0) > 0:
        raise InputError(
            f"The task asks for samples ({asked}). Models answer greedily here, so that figures repeat. Choose a task that "
            "generates greedily."
        )
