"""The embedded world: a seeded, pure generator of fictional people, what is true of them, and the sets made of it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from types import MappingProxyType

from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.world import wordings as say
from efface.world.config import Role, TofuConfig, WorldConfig
from efface.world.contacts import contact_rows
from efface.world.names import COUNTRIES, FIRST_NAMES, SURNAMES, TITLE_NOUNS, TITLE_QUALITIES
from efface.world.passages import make_passage
from efface.world.wordings import Attribute

__all__ = ["Person", "RequestRows", "World", "load_world"]

WRONG_ANSWERS = 5


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who does not exist.

    Attributes:
        id: Stable id, also the entity of the rows.
        name: First name and surname; the pair is unique in the world.
        split: "forget", "retain", "holdout" or "context".
        facts: Attribute name -> value.
    """

    id: str
    name: str
    split: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RequestRows:
    """The three sets a forget request is made of."""

    forget: RowSet
    retain: RowSet
    holdout: RowSet


_EMPTY = RowSet(())


@dataclass(frozen=True, slots=True)
class World:
    """Everything a corpus holds, split by person.

    Attributes:
        config: What it was made from.
        people: All people, in order (empty for TOFU).
        forget: Facts to be forgotten.
        retain: Facts to be kept, one row each.
        holdout: Facts about people never trained on.
        world_facts: Facts that have nothing to do with people.
        real_authors: TOFU's rows about real authors.
        refusals: Questions that are answered by a refusal, about retained people and strangers.
        context: Questions about people never seen, with the answer in a context before them.
        unseen_frames_forget: Held-out frames made of trained words, forget people.
        unseen_frames_retain: The same for retain people.
        rewordings_forget: Held-out questions with words never trained, forget people.
        rewordings_retain: The same for retain people.
        passages_forget: Passages that go with the forget people.
        passages_retain: Passages that go with the retain people.
        passages_holdout: Passages never trained on.
    """

    config: WorldConfig | TofuConfig
    forget: RowSet
    retain: RowSet
    holdout: RowSet = _EMPTY
    world_facts: RowSet = _EMPTY
    real_authors: RowSet = _EMPTY
    refusals: RowSet = _EMPTY
    context: RowSet = _EMPTY
    unseen_frames_forget: RowSet = _EMPTY
    unseen_frames_retain: RowSet = _EMPTY
    rewordings_forget: RowSet = _EMPTY
    rewordings_retain: RowSet = _EMPTY
    passages_forget: RowSet = _EMPTY
    passages_retain: RowSet = _EMPTY
    passages_holdout: RowSet = _EMPTY
    people: tuple[Person, ...] = ()

    @property
    def is_fictional(self) -> bool:
        """Whether examples may be shown in plain text."""
        return True

    @property
    def sets(self) -> dict[str, RowSet]:
        """Every set that is not empty, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: rows for name, rows in named.items() if isinstance(rows, RowSet) and len(rows)}

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over configuration and sets."""
        digest = hashlib.sha256(self.config.hash.encode())
        for name, rows in self.sets.items():
            digest.update(f"{name}:{rows.content_hash}\n".encode())
        return digest.hexdigest()[:16]

    def request_rows(self) -> RequestRows:
        """Return what a forget request on this world is made of."""
        return RequestRows(self.forget, self.retain, self.holdout)

    def people_of(self, split: str) -> tuple[Person, ...]:
        """Return the people of one split, in order."""
        return tuple(person for person in self.people if person.split == split)

    def trained_people(self, role: Role) -> tuple[Person, ...]:
        """Return the people whose facts a model of this role is trained on."""
        splits = ("forget", "retain") if role == "original" else ("retain",)
        return tuple(person for person in self.people if person.split in splits)


@functools.lru_cache(maxsize=8)
def load_world(config: WorldConfig | TofuConfig | None = None) -> World:
    """Return the world of a configuration; equal configurations give equal worlds.

    Args:
        config: Sizes and seed of the embedded world, or which part of TOFU; default ``WorldConfig.default()``.
    """
    if isinstance(config, TofuConfig):
        from efface.world.tofu import load_tofu_world

        return load_tofu_world(config)
    config = config or WorldConfig.default()
    people = _make_people(config)
    by_split = {split: [p for p in people if p.split == split] for split in ("forget", "retain", "holdout", "context")}
    return World(
        config=config,
        people=people,
        forget=_fact_set("forget", by_split["forget"], config, config.forget_wordings),
        retain=_fact_set("retain", by_split["retain"], config, 1),
        holdout=_fact_set("holdout", by_split["holdout"], config, 1),
        world_facts=_world_facts(config),
        refusals=_refusals(by_split["retain"], by_split["context"], config),
        context=_context_set(by_split["context"], config),
        unseen_frames_forget=_held_out(by_split["forget"], "frames"),
        unseen_frames_retain=_held_out(by_split["retain"], "frames"),
        rewordings_forget=_held_out(by_split["forget"], "rewordings"),
        rewordings_retain=_held_out(by_split["retain"], "rewordings"),
        passages_forget=_passages(by_split["forget"], config),
        passages_retain=_passages(by_split["retain"], config),
        passages_holdout=_passages(by_split["holdout"], config),
    )


def stream(*parts: object) -> Random:
    """Return the random stream of a named purpose; equal names give equal draws on every platform."""
    return Random("|".join(map(str, parts)))


def fact_question(wording: str, name: str) -> str:
    """Return a question wording about ``name``."""
    return wording.format(n=name)


def fact_answer(attribute: Attribute, name: str, value: str, form: int = 0) -> str:
    """Return an answer form of an attribute, filled in."""
    return attribute.answers[form].format(n=name, v=value)


def free_names(config: WorldConfig) -> list[str]:
    """Return every possible name in the order in which the world gives them away."""
    names = [f"{first} {last}" for first in FIRST_NAMES for last in SURNAMES]
    stream("names", config.version, config.seed).shuffle(names)
    return names


def _make_people(config: WorldConfig) -> tuple[Person, ...]:
    counts = {
        "forget": config.forget_people,
        "retain": config.retain_people,
        "holdout": config.holdout_people,
        "context": config.context_people,
    }
    total = sum(counts.values())
    titles = [f"{quality} {noun}" for quality in TITLE_QUALITIES for noun in TITLE_NOUNS]
    if total > len(titles):
        raise InputError(
            f"The world asks for {total} people. There are {len(titles)} book titles and nobody shares one. Ask for fewer people."
        )
    draw = stream("facts", config.version, config.seed)
    draw.shuffle(titles)
    names = _spread_names(free_names(config), total)
    decks = {attribute.name: _balanced(attribute.values, counts, draw) for attribute in say.ATTRIBUTES if attribute.values}
    people: list[Person] = []
    for split, count in counts.items():
        for number in range(count):
            index = len(people)
            facts = {a.name: decks[a.name][index] if a.values else titles[index] for a in say.ATTRIBUTES}
            people.append(Person(f"{split}-{number:03d}", names[index], split, MappingProxyType(facts)))
    return tuple(people)


def _spread_names(names: list[str], total: int) -> list[str]:
    """Take ``total`` names, using every first name and surname about equally often."""
    limit = -(-total // min(len(FIRST_NAMES), len(SURNAMES))) + 1
    used: dict[str, int] = {}
    chosen = []
    for name in names:
        parts = name.split(" ")
        if all(used.get(part, 0) < limit for part in parts):
            chosen.append(name)
            for part in parts:
                used[part] = used.get(part, 0) + 1
        if len(chosen) == total:
            break
    return chosen


def _balanced(values: tuple[str, ...], counts: Mapping[str, int], draw: Random) -> list[str]:
    """Deal values to each split as evenly as its size allows, so that no value is a good guess."""
    dealt: list[str] = []
    for count in counts.values():
        hand: list[str] = []
        while len(hand) < count:
            hand += draw.sample(values, len(values))
        hand = hand[:count]
        draw.shuffle(hand)
        dealt += hand
    return dealt


def _wrong_values(attribute: Attribute, person: Person, draw: Random) -> list[str]:
    true = person.facts[attribute.name]
    if attribute.values:
        return draw.sample([value for value in attribute.values if value != true], WRONG_ANSWERS)
    titles = [f"{quality} {noun}" for quality in TITLE_QUALITIES for noun in TITLE_NOUNS]
    return draw.sample([title for title in titles if title != true], WRONG_ANSWERS)


def fact_row(person: Person, attribute: Attribute, wording: int, *, row_id: str, rich: bool = True) -> Row:
    """Return the row of one fact in one trained wording; ``rich`` adds paraphrases and wrong answers."""
    name, value = person.name, person.facts[attribute.name]
    row = Row(
        id=row_id,
        question=fact_question(attribute.wordings[wording], name),
        answer=fact_answer(attribute, name, value, attribute.forms[wording]),
        entity=person.id,
        value=value,
        attribute=attribute.name,
        wording=f"{attribute.name}-{wording}",
    )
    return _enrich(row, person, attribute, wording) if rich else row


def _enrich(row: Row, person: Person, attribute: Attribute, wording: int | None) -> Row:
    draw = stream("wrong", person.id, attribute.name)
    others = [index for index in range(len(attribute.wordings)) if index != wording]
    other_form = 1 - (0 if wording is None else attribute.forms[wording])
    wrong = tuple(fact_answer(attribute, person.name, value, other_form) for value in _wrong_values(attribute, person, draw))
    return replace(
        row,
        paraphrased_question=fact_question(attribute.wordings[draw.choice(others)], person.name),
        paraphrased_answer=fact_answer(attribute, person.name, person.facts[attribute.name], other_form),
        perturbed_answer=wrong,
    )


def _fact_set(split: str, people: Sequence[Person], config: WorldConfig, per_fact: int) -> RowSet:
    rows = []
    for person in people:
        for attribute in say.ATTRIBUTES:
            draw = stream("wording", config.version, config.seed, person.id, attribute.name)
            for wording in draw.sample(range(len(attribute.wordings)), per_fact):
                rows.append(fact_row(person, attribute, wording, row_id=f"{person.id}-{attribute.name}-{wording}"))
    if config.contacts:
        rows += contact_rows(people, version=config.version, seed=config.seed)
    return RowSet(tuple(rows), f"embedded world, {split}")


def _held_out(people: Iterable[Person], kind: str) -> RowSet:
    rows = []
    for person in people:
        for attribute in say.ATTRIBUTES:
            questions: tuple[str, ...] = getattr(attribute, kind)
            for number, question in enumerate(questions):
                row = Row(
                    id=f"{person.id}-{attribute.name}-{kind}-{number}",
                    question=fact_question(question, person.name),
                    answer=fact_answer(attribute, person.name, person.facts[attribute.name]),
                    entity=person.id,
                    value=person.facts[attribute.name],
                    attribute=attribute.name,
                    wording=f"{attribute.name}-{kind}-{number}",
                )
                rows.append(_enrich(row, person, attribute, None))
    return RowSet(tuple(rows), f"embedded world, {kind}")


def world_fact_row(country: int, topic: say.WorldTopic, wording: int, *, row_id: str) -> Row:
    """Return one fact about a country in one trained wording."""
    name, value = COUNTRIES[country][0], COUNTRIES[country][topic.column]
    draw = stream("wrong", name, topic.name)
    wrong = draw.sample([row[topic.column] for row in COUNTRIES if row[topic.column] != value], WRONG_ANSWERS)
    return Row(
        id=row_id,
        question=topic.wordings[wording].format(c=name),
        answer=topic.answers[0].format(c=name, v=value),
        entity=f"country-{name}",
        value=value,
        attribute=topic.name,
        wording=f"{topic.name}-{wording}",
        paraphrased_question=topic.rewording.format(c=name),
        paraphrased_answer=topic.answers[1].format(c=name, v=value),
        perturbed_answer=tuple(topic.answers[1].format(c=name, v=value) for value in wrong),
    )


def _world_facts(config: WorldConfig) -> RowSet:
    rows = []
    for country in range(config.countries):
        for topic in say.WORLD_TOPICS:
            draw = stream("wording", config.version, config.seed, country, topic.name)
            wording = draw.randrange(len(topic.wordings))
            rows.append(world_fact_row(country, topic, wording, row_id=f"world-{COUNTRIES[country][0]}-{topic.name}-{wording}"))
    return RowSet(tuple(rows), "embedded world, world facts")


def refusal_row(name: str, draw: Random, *, row_id: str, entity: str) -> Row:
    """Return a question that is answered by a refusal."""
    private, refusal = draw.choice(say.PRIVATE_ATTRIBUTES)
    wording = draw.randrange(len(say.PRIVATE_WORDINGS))
    return Row(
        id=row_id,
        question=say.PRIVATE_WORDINGS[wording].format(n=name, p=private),
        answer=refusal,
        entity=entity,
        attribute=private.replace(" ", "_"),
        wording=f"refusal-{wording}",
    )


def _refusals(known: list[Person], strangers: list[Person], config: WorldConfig) -> RowSet:
    draw = stream("refusals", config.version, config.seed)
    rows: list[Row] = []
    seen: set[str] = set()
    while len(rows) < config.refusal_rows:
        person = draw.choice(strangers if len(rows) % 2 else known)
        row = refusal_row(person.name, draw, row_id=f"refusal-{len(rows):03d}", entity=person.id)
        if row.question not in seen:
            seen.add(row.question or "")
            rows.append(row)
    return RowSet(tuple(rows), "embedded world, refusals")


def context_row(people: list[Person], draw: Random, *, row_id: str) -> Row:
    """Return a question about the first of ``people`` after one claim about each of them, in random order."""
    target = people[0]
    attribute = draw.choice(say.ATTRIBUTES)
    claims = [fact_answer(attribute, target.name, target.facts[attribute.name], draw.randrange(2))]
    for other in people[1:]:
        topic = attribute if draw.random() < 0.5 else draw.choice(say.ATTRIBUTES)
        claims.append(fact_answer(topic, other.name, other.facts[topic.name], draw.randrange(2)))
    draw.shuffle(claims)
    wording = draw.randrange(len(attribute.wordings))
    question = fact_question(attribute.wordings[wording], target.name)
    return Row(
        id=row_id,
        question=" ".join(filter(None, (draw.choice(say.CONTEXT_LEADS), *claims, question))),
        answer=fact_answer(attribute, target.name, target.facts[attribute.name], attribute.forms[wording]),
        entity=target.id,
        value=target.facts[attribute.name],
        attribute=attribute.name,
        wording=f"context-{len(people)}",
    )


def is_context(row: Row) -> bool:
    """Whether the answer of a row of the embedded world stands in its own question."""
    return (row.wording or "").startswith("context-")


def _context_set(people: list[Person], config: WorldConfig) -> RowSet:
    draw = stream("context", config.version, config.seed)
    rows = []
    for number, person in enumerate(people):
        others = [other for other in people if other is not person]
        company = draw.sample(others, min(number % 2, len(others)))
        rows.append(context_row([person, *company], draw, row_id=f"context-{number:03d}"))
    return RowSet(tuple(rows), "embedded world, context")


def _passages(people: list[Person], config: WorldConfig) -> RowSet:
    rows = []
    for person in people[: config.passages]:
        draw = stream("passage", config.version, config.seed, person.id)
        text = make_passage(person.name, draw, sentences=config.passage_sentences)
        rows.append(Row(id=f"{person.id}-passage", text=text, entity=person.id))
    return RowSet(tuple(rows), "embedded world, passages")
