"""Examples before and after, shown without their words.

A masked text keeps its number of words and, word by word, whether the true answer has that word at that place. Nothing else leaves
the run folder: no letters, no word lengths (they would identify a name), and no row ids (a hash of a short text can be guessed).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efface.results import Example, Results
from efface.text import words

__all__ = ["example_texts", "match_marks", "select_examples"]

_SHOWN_PER_GROUP = {"forget": 4, "retain": 2}
_SHOWN_OTHERWISE = 1
_LONGEST = 80  # words of one text that are shown


def match_marks(text: str, answer: str) -> list[bool]:
    """Return, for each word of ``text``, whether it belongs to the longest common subsequence with ``answer``.

    >>> match_marks("She was born in Rome.", "Born in Lima")
    [False, False, True, True, False]
    """
    said, truth = words(text), words(answer)
    lengths = [[0] * (len(truth) + 1) for _ in range(len(said) + 1)]
    for i in range(len(said) - 1, -1, -1):
        for j in range(len(truth) - 1, -1, -1):
            same = said[i] == truth[j]
            lengths[i][j] = lengths[i + 1][j + 1] + 1 if same else max(lengths[i + 1][j], lengths[i][j + 1])
    marks, i, j = [False] * len(said), 0, 0
    while i < len(said) and j < len(truth):
        if said[i] == truth[j]:
            marks[i] = True
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1
    return marks


def select_examples(results: Mapping[str, Results], *, plain: bool) -> list[dict[str, Any]]:
    """Return the examples to show, one entry per row with every model's answer, masked unless ``plain``."""
    shown: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for key, by_role in _aligned(results).items():
        first = next(iter(by_role.values()))
        seen[first.group] = seen.get(first.group, 0) + 1
        if seen[first.group] > _SHOWN_PER_GROUP.get(first.group, _SHOWN_OTHERWISE):
            continue
        shown.append(
            {
                "group": first.group,
                "number": seen[key[0]],
                "question": _text(first.question, None, plain),
                "answer": _text(first.answer, None, plain),
                "models": {role: _text(example.generated, first.answer, plain) for role, example in by_role.items()},
            }
        )
    return shown


def example_texts(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """Return every example in plain text, for the separate file that is written on request."""
    return [
        {
            "id": first.row_id,
            "group": first.group,
            "question": first.question,
            "answer": first.answer,
            "models": {role: example.generated for role, example in by_role.items()},
        }
        for by_role in _aligned(results).values()
        for first in [next(iter(by_role.values()))]
    ]


def _aligned(results: Mapping[str, Results]) -> dict[tuple[str, str, str], dict[str, Example]]:
    rows: dict[tuple[str, str, str], dict[str, Example]] = {}
    for role, result in results.items():
        for example in result.examples:
            rows.setdefault((example.group, example.row_id, example.question), {})[role] = example
    order = {"forget": 0, "retain": 1}
    return dict(sorted(rows.items(), key=lambda item: order.get(item[0][0], 2)))


def _text(text: str, answer: str | None, plain: bool) -> dict[str, Any]:
    marks = match_marks(text, answer) if answer is not None else [False] * len(words(text))
    data: dict[str, Any] = {"words": len(marks), "matched": sum(marks)}
    if answer is not None:
        data["marks"] = "".join("#" if mark else "." for mark in marks[:_LONGEST])
    if plain:
        data["pieces"] = _pieces(text, marks)
    return data


def _pieces(text: str, marks: list[bool]) -> list[dict[str, Any]]:
    """Cut a text into runs of words that are, or are not, those of the true answer."""
    pieces: list[dict[str, Any]] = []
    left = iter(marks)
    for word in text.split()[:_LONGEST]:
        own = [next(left) for _ in words(word)]
        matched = bool(own) and all(own)
        if pieces and pieces[-1]["matched"] is matched:
            pieces[-1]["text"] += f" {word}"
        else:
            pieces.append({"text": word, "matched": matched})
    if len(text.split()) > _LONGEST:
        pieces.append({"text": "…", "matched": False})
    return pieces
