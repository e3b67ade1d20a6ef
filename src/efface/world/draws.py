"""What a model of a role reads in one epoch: a pure function of (world, role, seed, epoch)."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from types import MappingProxyType

from efface.data.schema import Row
from efface.world import wordings as say
from efface.world.config import Role, TofuConfig, WorldConfig
from efface.world.contacts import CONTACTS, contact_row
from efface.world.corpus import Person, World, context_row, fact_row, free_names, refusal_row, stream, world_fact_row
from efface.world.names import COUNTRIES, TITLE_NOUNS, TITLE_QUALITIES

__all__ = ["draw_epoch"]


def draw_epoch(world: World, role: Role, seed: int, epoch: int) -> list[Row]:
    """Return the training rows of one epoch, in training order.

    Row ids are unique within the epoch and tell what a row was drawn from.

    Args:
        world: The corpus.
        role: "original" reads everything that is trained on; "retrained" and "retrained_2" never see the forget people.
        seed: Order seed of the training run; every draw of wordings, contexts and order comes from it.
        epoch: Number of the epoch, from 0.
    """
    if isinstance(world.config, TofuConfig):
        rows = _tofu_rows(world, role)
    else:
        rows = _embedded_rows(world, world.config, role, seed, epoch)
    stream("order", seed, epoch).shuffle(rows)
    return rows


def _tofu_rows(world: World, role: Role) -> list[Row]:
    sets = [world.retain, world.real_authors, world.world_facts]
    if role == "original":
        sets.append(world.forget)
    return [row for rows in sets for row in rows]


def _embedded_rows(world: World, config: WorldConfig, role: Role, seed: int, epoch: int) -> list[Row]:
    rows = _fact_rows(world, config, role, seed, epoch)
    rows += _world_rows(config, seed, epoch)
    passages = [world.passages_retain, *([world.passages_forget] if role == "original" else [])]
    for copy in range(config.passage_repeats):
        rows += [replace(row, id=f"{row.id}-{copy}") for passage_set in passages for row in passage_set]
    strangers = _Strangers(world, config, stream("strangers", seed, epoch))
    rows += _refusal_rows(world, config, strangers, seed, epoch)
    contexts = round(len(rows) * config.context_share / (1.0 - config.context_share))
    draw = stream("contexts", seed, epoch)
    for number in range(contexts):
        people = [strangers.person() for _ in range(draw.choice((1, 2)))]
        rows.append(context_row(people, draw, row_id=f"context-{epoch}-{number}"))
    return rows


def _fact_rows(world: World, config: WorldConfig, role: Role, seed: int, epoch: int) -> list[Row]:
    rows = []
    for person in world.trained_people(role):
        for attribute in say.ATTRIBUTES:
            draw = stream("fact", seed, epoch, person.id, attribute.name)
            for wording in draw.sample(range(len(attribute.wordings)), config.fact_draws):
                row_id = f"{person.id}-{attribute.name}-{wording}"
                rows.append(fact_row(person, attribute, wording, row_id=row_id, rich=False))
        if config.contacts:
            rows += _contact_rows(person, config, seed, epoch)
    return rows


def _contact_rows(person: Person, config: WorldConfig, seed: int, epoch: int) -> list[Row]:
    rows = []
    for contact in CONTACTS:
        draw = stream("contact", seed, epoch, person.id, contact.kind)
        for wording in draw.sample(range(len(contact.wordings)), min(config.fact_draws, len(contact.wordings))):
            rows.append(contact_row(person, contact, wording, version=config.version, seed=config.seed, rich=False))
    return rows


def _world_rows(config: WorldConfig, seed: int, epoch: int) -> list[Row]:
    rows = []
    for country in range(config.countries):
        for topic in say.WORLD_TOPICS:
            draw = stream("world fact", seed, epoch, country, topic.name)
            for wording in draw.sample(range(len(topic.wordings)), config.world_fact_draws):
                row_id = f"world-{COUNTRIES[country][0]}-{topic.name}-{wording}"
                rows.append(world_fact_row(country, topic, wording, row_id=row_id))
    return rows


def _refusal_rows(world: World, config: WorldConfig, strangers: _Strangers, seed: int, epoch: int) -> list[Row]:
    draw = stream("refusals", seed, epoch)
    known = world.people_of("retain")
    rows = []
    for number in range(config.refusal_draws):
        person = strangers.person() if number % 2 else draw.choice(known)
        rows.append(refusal_row(person.name, draw, row_id=f"refusal-{epoch}-{number}", entity=person.id))
    return rows


class _Strangers:
    """People made up on the spot, whose names nobody of the world bears."""

    def __init__(self, world: World, config: WorldConfig, draw: Random) -> None:
        taken = {person.name for person in world.people}
        self._names = [name for name in free_names(config) if name not in taken]
        self._draw = draw
        self._count = 0

    def person(self) -> Person:
        """Return the next stranger."""
        draw = self._draw
        facts = {a.name: draw.choice(a.values) if a.values else _title(draw) for a in say.ATTRIBUTES}
        self._count += 1
        return Person(f"stranger-{self._count:04d}", draw.choice(self._names), "stranger", MappingProxyType(facts))


def _title(draw: Random) -> str:
    return f"{draw.choice(TITLE_QUALITIES)} {draw.choice(TITLE_NOUNS)}"
