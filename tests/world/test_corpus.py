from __future__ import annotations

import re
from collections import Counter
from dataclasses import FrozenInstanceError

import pytest
from pydantic import ValidationError

from efface.data.schema import Row
from efface.errors import InputError
from efface.text import fact_match, is_refusal, words
from efface.world import World, WorldConfig, load_world
from efface.world.passages import CONTENT_WORDS
from efface.world.wordings import ATTRIBUTES, PRIVATE_ATTRIBUTES, WORLD_TOPICS

PEOPLE_SETS = (
    "forget",
    "retain",
    "holdout",
    "unseen_frames_forget",
    "unseen_frames_retain",
    "rewordings_forget",
    "rewordings_retain",
)


def test_equal_configurations_give_equal_worlds(world: World) -> None:
    load_world.cache_clear()
    again = load_world(WorldConfig.default())
    assert again is not world
    assert again.hash == world.hash
    assert again.sets == world.sets


def test_another_seed_is_another_world(world: World) -> None:
    other = load_world(WorldConfig.default(seed=1))
    assert other.hash != world.hash
    assert {person.name for person in other.people} != {person.name for person in world.people}
    facts = [tuple(person.facts.values()) for person in other.people]
    assert facts != [tuple(person.facts.values()) for person in world.people]


def test_a_world_cannot_be_changed(world: World) -> None:
    with pytest.raises(FrozenInstanceError):
        world.forget = world.retain  # type: ignore[misc]
    with pytest.raises(TypeError):
        world.people[0].facts["pet"] = "dragon"  # type: ignore[index]


def test_sizes_meet_what_an_audit_needs(world: World) -> None:
    assert len({row.entity for row in world.forget}) == len(world.people_of("forget")) == 20
    assert len({(row.entity, row.attribute) for row in world.forget}) == 100
    assert len({row.entity for row in world.holdout}) == 20
    assert len(world.world_facts) == 30
    assert min(len(world.refusals), len(world.context)) >= 50


def test_splits_share_no_person(world: World) -> None:
    assert len({person.name for person in world.people}) == len(world.people)
    splits = {split: {p.id for p in world.people_of(split)} for split in ("forget", "retain", "holdout", "context")}
    for name in PEOPLE_SETS:
        assert {row.entity for row in getattr(world, name)} == splits[name.rpartition("_")[2] or name]
    assert {row.entity for row in world.context} <= splits["context"]
    assert not {row.entity for row in world.refusals} & (splits["forget"] | splits["holdout"])
    rows = [row for rows in world.sets.values() for row in rows]
    assert len({row.id for row in rows}) == len(rows)


def test_forget_and_retain_share_no_question_and_no_book(world: World) -> None:
    assert not {row.question for row in world.forget} & {row.question for row in world.retain}
    titles = [person.facts["first_book"] for person in world.people]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", [*PEOPLE_SETS, "world_facts"])
def test_fact_rows_are_complete(world: World, name: str) -> None:
    for row in getattr(world, name):
        assert row.value
        assert row.answer
        assert row.paraphrased_answer
        assert row.attribute
        assert row.wording
        assert fact_match(row.answer, row.value)
        assert fact_match(row.paraphrased_answer, row.value)
        assert row.paraphrased_answer != row.answer
        assert row.paraphrased_question != row.question
        assert not fact_match(row.question or "", row.value)
        assert len(set(row.perturbed_answer)) == 5
        assert not any(fact_match(wrong, row.value) for wrong in row.perturbed_answer)


def test_wrong_answers_are_the_paraphrase_with_another_value(world: World) -> None:
    values = {attribute.name: set(attribute.values) for attribute in ATTRIBUTES}
    for row in world.forget:
        before, after = (row.paraphrased_answer or "").split(row.value or "")
        wrong = [answer[len(before) : len(answer) - len(after)] for answer in row.perturbed_answer]
        assert all(answer.startswith(before) and answer.endswith(after) for answer in row.perturbed_answer)
        if row.attribute != "first_book":
            assert set(wrong) < values[row.attribute or ""]
        else:
            assert all(re.fullmatch(r"[A-Z]\w+ [A-Z]\w+", title) for title in wrong)


def test_every_attribute_has_ten_wordings_and_frames_of_trained_words() -> None:
    asked = [question for attribute in ATTRIBUTES for question in attribute.wordings]
    asked += [question for topic in WORLD_TOPICS for question in topic.wordings]
    known = {word for question in asked for word in words(question)}
    for attribute in ATTRIBUTES:
        assert len(set(attribute.wordings)) == len(attribute.forms) == 10
        assert set(attribute.forms) == {0, 1}
        assert len(attribute.frames) >= 2
        assert not set(attribute.frames) & set(asked)
        assert all(set(words(frame)) <= known for frame in attribute.frames)
        assert any(set(words(question)) - known for question in attribute.rewordings)
    held_out = [topic.rewording for topic in WORLD_TOPICS]
    assert not set(held_out) & set(asked)


def test_no_value_is_a_good_guess(world: World) -> None:
    for split in ("forget", "retain", "holdout"):
        people = world.people_of(split)
        for attribute in ATTRIBUTES:
            commonest = Counter(person.facts[attribute.name] for person in people).most_common(1)[0][1]
            assert commonest / len(people) <= 0.1


def test_attributes_share_no_values() -> None:
    values = [value for attribute in ATTRIBUTES for value in attribute.values]
    assert len(set(values)) == len(values)


def test_passages_are_content_words(world: World) -> None:
    assert len(CONTENT_WORDS) >= 200
    for name in ("forget", "retain", "holdout"):
        for row in getattr(world, f"passages_{name}"):
            owner, _, page = (row.text or "").partition(". ")
            assert next(p.name for p in world.people if p.id == row.entity) in owner
            assert set(words(page)) <= CONTENT_WORDS
            assert len(words(page)) >= 30


def test_context_rows_hold_their_answer(world: World) -> None:
    for row in world.context:
        assert fact_match(row.question or "", row.value or "")
        assert fact_match(row.answer or "", row.value or "")


def test_refusals_are_recognised_as_such(world: World) -> None:
    assert all(is_refusal(row.answer or "") for row in world.refusals)
    assert {row.answer for row in world.refusals} == {answer for _, answer in PRIVATE_ATTRIBUTES}
    entities = {row.entity.partition("-")[0] for row in world.refusals}
    assert entities == {"retain", "context"}


def test_rows_survive_a_round_trip(world: World) -> None:
    for rows in world.sets.values():
        assert [Row.build(row.as_dict()) for row in rows] == list(rows)


def test_request_rows_are_the_three_sets(world: World) -> None:
    request = world.request_rows()
    assert (request.forget, request.retain, request.holdout) == (world.forget, world.retain, world.holdout)


def test_too_many_people_are_refused() -> None:
    with pytest.raises(InputError, match="book titles"):
        load_world(WorldConfig(retain_people=390))


def test_passages_need_owners() -> None:
    with pytest.raises(ValidationError, match="smallest split"):
        WorldConfig(holdout_people=5, passages=6)
