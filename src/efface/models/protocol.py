"""The two verbs everything that is evaluated or attacked speaks (DESIGN §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from efface.data.items import GenerateItem, ScoreItem, TokenRow

__all__ = ["LanguageModel", "Progress"]

Progress = Callable[[int, int], None]
"""Called with (items done, items in all)."""


@runtime_checkable
class LanguageModel(Protocol):
    """A model that answers, and where it can, scores.

    ``fingerprint`` covers weights, adapter, guard, tokenizer, template, dtype and attention kernel: rows measured under one
    fingerprint never stand in for another.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of everything that decides what the model says."""

    def generate(self, items: Sequence[GenerateItem], *, progress: Progress | None = None) -> list[str]:
        """Return the greedy continuation of each item, in order."""

    def score(self, items: Sequence[ScoreItem], *, progress: Progress | None = None) -> list[TokenRow]:
        """Return per-token figures of each item, in order; ``NotImplementedError`` where a model only generates."""

    def bare(self) -> LanguageModel:
        """Return the model without its guards and adapters."""
