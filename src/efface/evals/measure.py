"""The measuring pass: every distinct item of every suite is asked of the model once, and what is cached is not asked again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from efface.data.items import GenerateItem, ScoreItem, TokenRow
from efface.errors import EffaceError
from efface.evals.rows import RowCache
from efface.models.processes import count, gather, is_main, rank, share

if TYPE_CHECKING:
    from efface.models.protocol import LanguageModel, Progress

__all__ = ["CHUNK", "MeasureCounts", "Measured", "measure"]

CHUNK = 256
"""Items per cache file: what a ``kill -9`` loses at most."""

_Item = TypeVar("_Item", ScoreItem, GenerateItem)


@dataclass(frozen=True, slots=True)
class MeasureCounts:
    """What a measuring pass took.

    Attributes:
        scored: Distinct items that were asked for.
        scored_now: Of these, executed in this pass (the rest came from the cache).
        generated: Distinct generations that were asked for.
        generated_now: Of these, executed in this pass.
        seconds_scoring: Wall-clock seconds of scoring.
        seconds_generating: Wall-clock seconds of generation.
    """

    scored: int = 0
    scored_now: int = 0
    generated: int = 0
    generated_now: int = 0
    seconds_scoring: float = 0.0
    seconds_generating: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return {name: float(getattr(self, name)) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Measured:
    """What a model said about a set of items.

    Attributes:
        fingerprint: Fingerprint of the model.
        scores: Row per item hash.
        texts: Generation per item hash.
        counts: What the pass took.
        not_scored: Why there are no scores, where a model only generates; else empty.
        tokenizer: The model's, where it shows one: for what is counted in tokens.
        template: How the model puts questions, where it shows that.
        gradient_norms: Gradient norm per (item hash, p), of the items whose suite asks for it; None where an item has no token.
        no_gradients: Why there are no gradient norms; else empty.
    """

    fingerprint: str
    scores: Mapping[str, TokenRow] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    counts: MeasureCounts = MeasureCounts()
    not_scored: str = ""
    tokenizer: Any = None
    template: Any = None
    gradient_norms: Mapping[tuple[str, float], float | None] = field(default_factory=dict)
    no_gradients: str = ""

    def row(self, item: ScoreItem) -> TokenRow:
        """Return the row of an item of the pass."""
        return self.scores[item.hash]

    def text(self, item: GenerateItem) -> str:
        """Return the generation of an item of the pass."""
        return self.texts[item.hash]


def measure(
    model: LanguageModel,
    score_items: Iterable[ScoreItem],
    generate_items: Iterable[GenerateItem],
    *,
    cache: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> Measured:
    """Score and generate every distinct item once.

    Several processes (``accelerate launch``) share the chunks out, and each of them gets all rows. A chunk is asked of the model in
    one call whoever does it, so that rows do not depend on their number. Each process must call this with the same items.

    Args:
        model: Anything that speaks the two verbs.
        score_items: (prompt, continuation) pairs; equal ones are scored once.
        generate_items: Prompts; equal ones are continued once.
        cache: Folder for measured rows; None keeps nothing.
        settings: Whatever changes a row and is in neither the model's fingerprint nor the item.
        progress: Called with (items done, items to do) over both stages; cached items do not count.
        chunk: Items asked of the model at a time, which are also those of a cache file.

    Raises:
        EffaceError: When a model leaves items unanswered, or the processes hold different models or items.
    """
    wanted_scores = {item.hash: item for item in score_items}
    wanted_texts = {item.hash: item for item in generate_items}
    store = RowCache(cache, model.fingerprint, settings) if cache is not None else None
    _require_agreement(model, [*wanted_scores, *wanted_texts])
    scores = share(lambda: _kept(store.read_scores() if store and wanted_scores else {}, wanted_scores))
    texts = share(lambda: _kept(store.read_texts() if store and wanted_texts else {}, wanted_texts))
    missing_scores = _longest_first([item for key, item in wanted_scores.items() if key not in scores])
    missing_texts = _longest_first([item for key, item in wanted_texts.items() if key not in texts])
    total = len(missing_scores) + len(missing_texts)

    started = time.perf_counter()
    not_scored = ""
    try:
        keep_scores = store.write_scores if store and is_main() else None
        fresh_scores = _run(model.score, missing_scores, keep_scores, _shifted(progress, 0, total), chunk)
    except NotImplementedError as error:
        fresh_scores, not_scored = {}, str(error) or "the model only generates"
    scored = time.perf_counter()
    keep_texts = store.write_texts if store and is_main() else None
    # A generation costs many passes where a score costs one: smaller chunks, so that a kill loses about as much of either.
    part = max(1, chunk // 2)
    fresh_texts = _run(model.generate, missing_texts, keep_texts, _shifted(progress, len(missing_scores), total), part)
    counts = MeasureCounts(
        scored=len(wanted_scores),
        scored_now=len(fresh_scores),
        generated=len(wanted_texts),
        generated_now=len(fresh_texts),
        seconds_scoring=scored - started,
        seconds_generating=time.perf_counter() - scored,
    )
    return Measured(
        model.fingerprint,
        scores | fresh_scores,
        texts | fresh_texts,
        counts,
        not_scored,
        tokenizer=getattr(model, "tokenizer", None),
        template=getattr(model, "template", None),
    )


def _kept(found: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key in wanted}


def _prompt(item: ScoreItem | GenerateItem) -> tuple[Any, ...]:
    return (item.question, item.shots, tuple(turn["content"] for turn in item.messages))


def _length(item: ScoreItem | GenerateItem) -> int:
    size = len(item.question) + sum(len(q) + len(a) for q, a in item.shots) + sum(len(turn["content"]) for turn in item.messages)
    return size + (len(item.answer) if isinstance(item, ScoreItem) else 0)


def _longest_first(items: list[_Item]) -> list[_Item]:
    """Sort by length, so that a chunk needs little padding and memory runs out at once if it must; equal prompts stay together."""
    longest: dict[tuple[Any, ...], int] = {}
    for item in items:
        longest[_prompt(item)] = max(longest.get(_prompt(item), 0), _length(item))
    place = {prompt: number for number, prompt in enumerate(sorted(longest, key=lambda prompt: -longest[prompt]))}
    return sorted(items, key=lambda item: (place[_prompt(item)], -_length(item)))


def _shifted(progress: Progress | None, offset: int, total: int) -> Callable[[int], None]:
    return (lambda done: progress(offset + done, total)) if progress is not None else (lambda done: None)


def _offset(report: Callable[[int], None], start: int) -> Progress:
    return lambda done, _: report(start + done)


def _require_agreement(model: LanguageModel, wanted: Sequence[str]) -> None:
    if count() > 1:
        digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
        if len(set(gather(lambda: (model.fingerprint, digest)))) > 1:
            raise EffaceError(
                "The processes hold different models or rows. Those that measure together must be given the same. Start each with "
                "the same command, on the same files."
            )


def _run(
    verb: Callable[..., list[Any]],
    items: Sequence[_Item],
    keep: Callable[[Mapping[str, Any]], None] | None,
    report: Callable[[int], None],
    chunk: int,
) -> dict[str, Any]:
    """Ask the model chunk by chunk, each process one of its own at a time, keeping each chunk before the next."""
    results: dict[str, Any] = {}
    parts = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    for first in range(0, len(parts), count()):
        turn = parts[first : first + count()]
        own = turn[rank()] if rank() < len(turn) else []
        for fresh in gather(partial(_ask, verb, own, _offset(report, len(results)))):
            if keep is not None and fresh:
                keep(fresh)
            results |= fresh
        report(len(results))
    return results


def _ask(verb: Callable[..., list[Any]], items: Sequence[_Item], progress: Progress) -> dict[str, Any]:
    """Return the model's answers by item hash."""
    answers = verb(items, progress=progress) if items else []
    if len(answers) != len(items):
        raise EffaceError(
            f"The model gave {len(answers)} answers to {len(items)} items. It must give one per item, in order. "
            "Mend the model's score or generate."
        )
    return {item.hash: answer for item, answer in zip(items, answers, strict=True)}
