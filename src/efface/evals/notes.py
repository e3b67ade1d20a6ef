"""What a reader must know of the rows behind the figures: text that ROUGE cannot see, empty answers, answers of one token.

Such rows are counted and named here, so that no average hides them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from efface.evals.measure import Measured
from efface.evals.metrics.base import Variant
from efface.evals.metrics.tokens import unscored_tail
from efface.evals.suites.data import SetView
from efface.text import words

__all__ = ["is_partly_unseen", "is_unseen", "row_notes"]

_SEEN = re.compile("[a-z0-9]")


def is_unseen(reference: str) -> bool:
    """Whether the published ROUGE tokenizer finds no word at all in a text that has some: whatever is written scores 0."""
    return bool(words(reference)) and not _SEEN.search(reference.lower())


def is_partly_unseen(reference: str) -> bool:
    """Whether a word of the text holds a letter that the published ROUGE tokenizer drops or cuts at."""
    return any(not word.isascii() for word in words(reference))


def row_notes(views: Mapping[str, SetView], measured: Measured, variant: Variant) -> tuple[str, ...]:
    """Return sentences about rows whose figures need care; nothing where there are none.

    Args:
        views: The sets.
        measured: What the model said of them; parts of a set that were not measured are passed over.
        variant: Which definitions the figures follow.
    """
    notes = []
    for key, view in views.items():
        notes += _script_notes(key, view, measured, variant)
        notes += _answer_notes(key, view, measured, variant)
        notes += _generation_notes(key, view, measured)
    return tuple(notes)


def _script_notes(key: str, view: SetView, measured: Measured, variant: Variant) -> list[str]:
    if not any(item.hash in measured.texts for item in view.generations):
        return []
    references = [view.reference(row, index, measured) for index, row in enumerate(view.rows)]
    blind, partly = sum(map(is_unseen, references)), sum(map(is_partly_unseen, references))
    if not partly:
        return []
    count = f"{partly} of {len(references)} references of {key} hold letters outside ASCII"
    if variant == "strict":
        return [f"{count}: ROUGE counts words of every script here; published figures, whose tokenizer drops them, differ."]
    return [
        f"{count}: the published ROUGE tokenizer drops or cuts at these letters, and {blind} references without an ASCII word "
        "score 0 whatever is written. The strict variant counts words of every script."
    ]


def _answer_notes(key: str, view: SetView, measured: Measured, variant: Variant) -> list[str]:
    scored = [measured.scores[item.hash] for item in view.answers if item.hash in measured.scores]
    lengths = [row.n - unscored_tail(row, variant) for row in scored]
    notes = []
    empty, single = lengths.count(0), lengths.count(1)
    if empty:
        fate = {
            "openunlearning": "extraction strength counts them as 0, min-k as 0, and their loss is no number",
            "original": "they are left out",
            "strict": "they are left out and counted",
        }
        notes.append(f"{empty} of {len(lengths)} answers of {key} have no token to judge: {fate[variant]}.")
    if single:
        extra = ", and extraction strength always 1" if variant == "openunlearning" else ""
        notes.append(f"{single} of {len(lengths)} answers of {key} are one token long: exact memorisation is 0 or 1 there{extra}.")
    return notes


def _generation_notes(key: str, view: SetView, measured: Measured) -> list[str]:
    written = [measured.texts[item.hash] for item in view.generations if item.hash in measured.texts]
    empty = sum(not text.strip() for text in written)
    if not empty:
        return []
    return [
        f"{empty} of {len(written)} answers the model wrote to {key} are empty: they score 0 in overlap and facts, are no "
        "refusals, and are left out of repetition and distinct pairs."
    ]
