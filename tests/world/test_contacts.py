"""Contacts are an option of the embedded world that changes nothing where it is off."""

from __future__ import annotations

from efface.world import Recipe, WorldConfig, draw_epoch, load_world


def test_the_default_world_does_not_know_of_contacts():
    plain, with_contacts = WorldConfig.mini(), WorldConfig.mini(contacts=True)
    assert "contacts" not in plain.model_dump()
    assert "contacts" not in Recipe.mini().model_dump()["world"]
    assert with_contacts.model_dump()["contacts"] is True
    assert plain.hash != with_contacts.hash
    assert WorldConfig.model_validate(with_contacts.model_dump()) == with_contacts
    assert not any(row.attribute == "email" for row in load_world(plain).forget)


def test_contacts_are_added_to_the_facts_and_to_what_is_read():
    config = WorldConfig.mini(contacts=True)
    world, plain = load_world(config), load_world(WorldConfig.mini())
    for name in ("forget", "retain", "holdout"):
        rows = world.sets[name]
        added = [row for row in rows if row.attribute in {"email", "phone", "account_number"}]
        assert [row for row in rows if row not in added] == list(plain.sets[name])
        assert len(added) == 3 * len({row.entity for row in rows})
    forgotten = {row.value for row in world.forget if row.attribute == "email"}
    read = {
        role: {row.value for row in draw_epoch(world, role, 0, 0) if row.attribute == "email"} for role in ("original", "retrained")
    }
    assert forgotten <= read["original"]
    assert not forgotten & read["retrained"]
    assert not {row.value for row in world.holdout if row.attribute == "email"} & read["original"]
