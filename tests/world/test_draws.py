from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.world import Role, World, WorldConfig, draw_epoch, load_world
from efface.world.wordings import ATTRIBUTES, WORLD_TOPICS


def _mentions(text: str, names: set[str]) -> bool:
    return any(name in text for name in names)


@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 500), role=st.sampled_from(["original", "retrained", "retrained_2"]))
@settings(max_examples=15, deadline=None)
def test_draws_are_pure_and_of_constant_size(seed: int, epoch: int, role: Role) -> None:
    world = load_world(WorldConfig.mini())
    rows = draw_epoch(world, role, seed, epoch)
    assert rows == draw_epoch(world, role, seed, epoch)
    assert len(rows) == len(draw_epoch(world, role, seed + 1, epoch + 1))
    assert rows != draw_epoch(world, role, seed, epoch + 1)
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.parametrize("role", ["retrained", "retrained_2"])
def test_a_retrained_model_reads_nothing_about_forget_people(world: World, role: Role) -> None:
    names = {person.name for person in world.people_of("forget")}
    ids = {person.id for person in world.people_of("forget")}
    titles = {person.facts["first_book"] for person in world.people_of("forget")}
    forget_pages = {row.text for row in world.passages_forget}
    for epoch in range(3):
        for row in draw_epoch(world, role, 7, epoch):
            text = row.text or f"{row.question} {row.answer}"
            assert not _mentions(text, names)
            assert row.entity not in ids
            assert row.text not in forget_pages
            # A forgotten book may share its title with a made-up one in a context, and with nothing else.
            assert row.id.startswith("context-") or not _mentions(text, titles)


@pytest.mark.parametrize("role", ["original", "retrained"])
def test_nobody_reads_about_people_never_trained_on(world: World, role: Role) -> None:
    names = {person.name for split in ("holdout", "context") for person in world.people_of(split)}
    rows = [row for epoch in range(3) for row in draw_epoch(world, role, 3, epoch)]
    assert not any(_mentions(row.text or f"{row.question} {row.answer}", names) for row in rows)


def test_held_out_questions_are_never_trained(world: World) -> None:
    held_out = {
        row.question
        for name in ("unseen_frames", "rewordings")
        for s in ("forget", "retain")
        for row in getattr(world, f"{name}_{s}")
    }
    held_out |= {row.paraphrased_question for row in world.world_facts}
    rows = [row for epoch in range(3) for row in draw_epoch(world, "original", 0, epoch)]
    assert held_out.isdisjoint(row.question for row in rows)


def test_every_wording_turns_up_and_three_are_drawn_per_fact(world: World) -> None:
    seen: set[str] = set()
    for epoch in range(4):
        rows = [
            row for row in draw_epoch(world, "original", 0, epoch) if row.entity.startswith(("forget-", "retain-")) and row.value
        ]
        assert set(Counter((row.entity, row.attribute) for row in rows).values()) == {3}
        assert len(rows) == 80 * len(ATTRIBUTES) * 3
        seen |= {row.wording or "" for row in rows}
    assert seen == {f"{attribute.name}-{number}" for attribute in ATTRIBUTES for number in range(10)}


def test_an_epoch_is_made_of_everything(world: World) -> None:
    rows = draw_epoch(world, "original", 0, 0)
    kinds = Counter(row.id.partition("-")[0] for row in rows)
    config = world.config
    assert isinstance(config, WorldConfig)
    assert kinds["world"] == config.countries * len(WORLD_TOPICS) * config.world_fact_draws
    assert kinds["refusal"] == config.refusal_draws
    assert kinds["context"] / len(rows) == pytest.approx(config.context_share, abs=0.01)
    assert sum(row.is_text for row in rows) == 2 * config.passages * config.passage_repeats


def test_contexts_and_order_are_fresh_every_epoch(world: World) -> None:
    first, second = (draw_epoch(world, "original", 0, epoch) for epoch in (0, 1))
    contexts = [{row.question for row in rows if row.id.startswith("context-")} for rows in (first, second)]
    assert not contexts[0] & contexts[1]
    order = [[row.entity for row in rows if row.entity.startswith("retain-")] for rows in (first, second)]
    assert order[0] != order[1]
    assert sorted(order[0]) != order[0]
