"""A world's facts as multiple choice: what to forget, what lies close to it, what has nothing to do with it.

The rows are made of the world's own: a question and its answer as they were trained, and the same answer with the values of three
of the plausible wrong ones. Nothing is added to the corpus, and no recipe changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from efface.data.schema import Row, RowSet
from efface.world.corpus import World, stream

__all__ = ["CHOICES", "topic_sets"]

CHOICES = 4
"""Choices per question: the right one and three wrong ones, as in WMDP and MMLU."""

_DOMAINS = {"birth_city": "origins", "father_job": "origins", "genre": "writing", "first_book": "writing", "pet": "home"}
"""Attributes of people as domains of their own, in the way WMDP has three."""


def topic_sets(world: World, suite: str) -> dict[str, RowSet]:
    """Return the sets a multiple-choice suite measures on a world, by key; nothing for any other suite.

    For ``subjects``: the forget people, the retain people (asked the same questions, closely related), and world facts (unrelated).
    For ``wmdp``: the forget people's facts in domains, and as ``mmlu`` what must stay. Rows without wrong answers are left out, and
    a set of which nothing is left is not there.
    """
    forget, kept = _questions(world.forget), _questions(world.retain)
    unrelated = [*_questions(world.world_facts), *_questions(world.real_authors)]
    if suite == "subjects":
        sets = {"subjects_forget": forget, "subjects_related": kept, "subjects_unrelated": unrelated}
    elif suite == "wmdp":
        domains: dict[str, list[Row]] = {}
        for row in forget:
            domains.setdefault(f"wmdp_{_DOMAINS.get(row.attribute or '', 'facts')}", []).append(row)
        sets = {**domains, "mmlu": [*kept, *unrelated]}
    else:
        return {}
    return {key: RowSet(tuple(rows), f"embedded world, {key}") for key, rows in sets.items() if rows}


def _questions(rows: Iterable[Row]) -> list[Row]:
    """Return one question per fact; a world asks for a forget fact in several wordings, of which the first is taken."""
    seen: set[tuple[str, str]] = set()
    found = []
    for row in rows:
        fact = (row.entity, row.attribute or row.id)
        if row.question and len(row.perturbed_answer) >= CHOICES - 1 and fact not in seen:
            seen.add(fact)
            found.append(_offered(row, stream("choices", row.id)))
    return found


def _offered(row: Row, draw: Random) -> Row:
    right, wrong = row.answer or "", [_in_trained_form(row, sentence) for sentence in row.perturbed_answer[: CHOICES - 1]]
    if None in wrong:  # no value to put in: all choices are then worded as the paraphrase is, so that none stands out
        right, wrong = row.paraphrased_answer or right, list(row.perturbed_answer[: CHOICES - 1])
    choices = [right, *(choice for choice in wrong if choice is not None)]
    draw.shuffle(choices)
    return replace(row, answer=right, choices=tuple(choices))


def _in_trained_form(row: Row, wrong: str) -> str | None:
    """Return the trained answer with the value of a wrong one, which is worded as the paraphrase is."""
    answer, paraphrase, value = row.answer or "", row.paraphrased_answer or "", row.value or ""
    before, found, after = paraphrase.partition(value) if value else (paraphrase, "", "")
    if not found or answer.count(value) != 1 or not (wrong.startswith(before) and wrong.endswith(after)):
        return None
    return answer.replace(value, wrong[len(before) : len(wrong) - len(after)])
