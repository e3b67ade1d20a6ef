"""The measuring pass: every distinct item of every suite is asked of the model once, and what is cached is not asked again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from efface.data.items import GenerateItem, ScoreItem, TokenRow
from efface.errors import EffaceError
from efface.evals.rows import RowCache

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
        gradient_norms: Gradient norm per (item hash, p), of the items whose suite asks for it; None where an item has no token.
        no_gradients: Why there are no gradient norms; else empty.
    """

    fingerprint: str
    scores: Mapping[str, TokenRow] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    counts: MeasureCounts = MeasureCounts()
    not_scored: str = ""
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

    Args:
        model: Anything that speaks the two verbs.
        score_items: (prompt, continuation) pairs; equal ones are scored once.
        generate_items: Prompts; equal ones are continued once.
        cache: Folder for measured rows; None keeps nothing.
        settings: Whatever changes a row and is in neither the model's fingerprint nor the item.
        progress: Called with (items done, items to do) over both stages; cached items do not count.
        chunk: Items per cache file.
    """
    wanted_scores = {item.hash: item for item in score_items}
    wanted_texts = {item.hash: item for item in generate_items}
    store = RowCache(cache, model.fingerprint, settings) if cache is not None else None
    scores = _kept(store.read_scores() if store and wanted_scores else {}, wanted_scores)
    texts = _kept(store.read_texts() if store and wanted_texts else {}, wanted_texts)
    missing_scores = _longest_first([item for key, item in wanted_scores.items() if key not in scores])
    missing_texts = _longest_first([item for key, item in wanted_texts.items() if key not in texts])
    total = len(missing_scores) + len(missing_texts)

    started = time.perf_counter()
    not_scored = ""
    try:
        keep_scores = store.write_scores if store else None
        fresh_scores = _run(model.score, missing_scores, keep_scores, _shifted(progress, 0, total), chunk)
    except NotImplementedError as error:
        fresh_scores, not_scored = {}, str(error) or "the model only generates"
    scored = time.perf_counter()
    keep_texts = store.write_texts if store else None
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
    return Measured(model.fingerprint, scores | fresh_scores, texts | fresh_texts, counts, not_scored)


def _kept(found: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key in wanted}


def _length(item: ScoreItem | GenerateItem) -> int:
    size = len(item.question) + sum(len(q) + len(a) for q, a in item.shots) + sum(len(turn["content"]) for turn in item.messages)
    return size + (len(item.answer) if isinstance(item, ScoreItem) else 0)


def _longest_first(items: list[_Item]) -> list[_Item]:
    """Sort by length, so that a chunk needs little padding and memory runs out at once if it must."""
    return sorted(items, key=_length, reverse=True)


def _shifted(progress: Progress | None, offset: int, total: int) -> Callable[[int], None]:
    return (lambda done: progress(offset + done, total)) if progress is not None else (lambda done: None)


def _offset(report: Callable[[int], None], start: int) -> Progress:
    return lambda done, _: report(start + done)


def _run(
    verb: Callable[..., list[Any]],
    items: Sequence[_Item],
    keep: Callable[[Mapping[str, Any]], None] | None,
    report: Callable[[int], None],
    chunk: int,
) -> dict[str, Any]:
    """Ask the model chunk by chunk, keeping each chunk before the next; without a cache there is one chunk."""
    size = chunk if keep is not None else max(len(items), 1)
    results: dict[str, Any] = {}
    for start in range(0, len(items), size):
        part = items[start : start + size]
        answers = verb(part, progress=_offset(report, start))
        if len(answers) != len(part):
            raise EffaceError(
                f"The model gave {len(answers)} answers to {len(part)} items. It must give one per item, in order. "
                "Mend the model's score or generate."
            )
        fresh = {item.hash: answer for item, answer in zip(part, answers, strict=True)}
        if keep is not None:
            keep(fresh)
        results |= fresh
        report(start + len(part))
    return results
