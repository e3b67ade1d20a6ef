"""The embedded world in MUSE's shape (Shi et al., arXiv 2407.06460): what is forgotten is texts, passages and questions alike.

| MUSE | here |
|---|---|
| raw forget | the questions and the passages of the forget people |
| raw retain1, given to methods | those of every other retain person |
| raw retain2, for evaluation | those of the retain people in between, of which no method sees a row |
| raw holdout | those of the holdout people |
| verbmem | the passages of the forget people, first sentence and heading given |
| knowmem | unseen frames of the forget and of the retain2 people |
| privleak | passages of forget and of holdout people |
| scal | four forget sets, each of which contains the one before and is about twice as large; the last is the whole |
| sust | four disjoint forget sets |

Deviations: no examples before a question, since a model this small has only ever read one question at a time and answers the
examples' questions instead; the passages are short, so that a continuation ends long before 128 tokens. Nothing here changes the
corpus: the sets are other views of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from efface.data.folds import disjoint_folds, growing_folds
from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.world.config import WorldConfig
from efface.world.corpus import World

__all__ = ["MuseWorld", "muse_world", "passages_as_questions"]

_GIVEN_SENTENCES = 2


@dataclass(frozen=True, slots=True)
class MuseWorld:
    """A world's rows in MUSE's shape.

    Attributes:
        forget: Questions and passages that must go.
        retain1: Rows methods may train on.
        retain2: Rows of people no method is told of; the utility is measured on them.
        holdout: Rows never trained on.
        sets: The sets of the suite ``muse``, by key.
        scal: Forget sets, each containing the one before.
        sust: Disjoint forget sets.
    """

    forget: RowSet
    retain1: RowSet
    retain2: RowSet
    holdout: RowSet
    sets: Mapping[str, RowSet]
    scal: tuple[RowSet, ...]
    sust: tuple[RowSet, ...]


def muse_world(world: World) -> MuseWorld:
    """Return the rows of an embedded world in MUSE's shape.

    Raises:
        InputError: When the world is made of other people's data, which has no passages.
    """
    if not isinstance(world.config, WorldConfig):
        raise InputError("A world made of TOFU has no passages. MUSE's shape needs the embedded world. Use model: embedded.")
    told = _every_other([person.id for person in world.people_of("retain")])
    people = _mixed([person.id for person in world.people_of("forget")], {row.entity for row in world.passages_forget})
    forget = _together("forget", world.forget, world.passages_forget)
    retain = _together("retain", world.retain, world.passages_retain)
    return MuseWorld(
        forget=forget,
        retain1=_of(retain, told, "retain1"),
        retain2=_of(retain, {row.entity for row in retain} - told, "retain2"),
        holdout=_together("holdout", world.holdout, world.passages_holdout),
        sets={
            "verbmem": RowSet(tuple(map(_opened, world.passages_forget)), _named("verbmem")),
            "forget_qa": RowSet(world.unseen_frames_forget.rows, _named("forget_qa")),
            "retain_qa": _of(world.unseen_frames_retain, {row.entity for row in world.retain} - told, "retain_qa"),
            "privleak_forget": RowSet(world.passages_forget.rows, _named("privleak, forget")),
            "privleak_holdout": RowSet(world.passages_holdout.rows, _named("privleak, holdout")),
        },
        scal=growing_folds(forget, order=people),
        sust=disjoint_folds(forget, order=people),
    )


def passages_as_questions(rows: RowSet) -> RowSet:
    """Return the rows with every passage as a question, its heading and first sentence, and the rest as the answer.

    For methods that give forget questions another answer and cannot take texts.
    """
    return RowSet(tuple(_opened(row) if row.is_text else row for row in rows), rows.source)


def _named(part: str) -> str:
    return f"embedded world, {part}"


def _together(part: str, *sets: RowSet) -> RowSet:
    return RowSet(tuple(row for rows in sets for row in rows), _named(part))


def _of(rows: RowSet, people: set[str], part: str) -> RowSet:
    return RowSet(tuple(row for row in rows if row.entity in people), _named(part))


def _every_other(people: list[str]) -> set[str]:
    return set(people[::2])


def _mixed(people: Iterable[str], with_passages: set[str]) -> list[str]:
    """Order people so that those with a passage are spread evenly: every fold gets its share of both kinds of text."""
    have = [person for person in people if person in with_passages]
    rest = [person for person in people if person not in with_passages]
    placed = [((i + 0.5) / len(group), side, person) for side, group in enumerate((have, rest)) for i, person in enumerate(group)]
    return [person for _, _, person in sorted(placed)]


def _opened(row: Row) -> Row:
    """Cut a passage after its heading and first sentence: what is given, and what must not be told."""
    sentences = (row.text or "").split(". ")
    given = ". ".join(sentences[:_GIVEN_SENTENCES]) + "."
    return replace(row, text=None, question=given, answer=". ".join(sentences[_GIVEN_SENTENCES:]))
