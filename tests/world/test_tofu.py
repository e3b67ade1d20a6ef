from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from efface.errors import InputError
from efface.world import Recipe, TofuConfig, draw_epoch, load_world


def test_authors_are_those_of_the_splits(tofu_directory: Path) -> None:
    world = load_world(TofuConfig(directory=tofu_directory))
    assert {row.entity for row in world.retain} == {f"author-{number:03d}" for number in range(30)}
    assert {row.entity for row in world.forget} == {f"author-{number:03d}" for number in range(190, 200)}
    assert {row.entity for row in world.holdout} == {f"author-{number:03d}" for number in range(180, 190)}
    assert (len(world.forget), len(world.retain)) == (200, 600)
    assert all(len(row.perturbed_answer) == 5 for row in world.forget)
    assert all(len(row.perturbed_answer) == 5 for row in world.retain.rows[:400])
    assert not world.retain[400].perturbed_answer
    assert all(len(row.perturbed_answer) == 3 for row in (*world.real_authors, *world.world_facts))
    assert world.is_fictional


def test_roles_read_what_they_should(tofu_directory: Path) -> None:
    world = load_world(TofuConfig(directory=tofu_directory, authors=5, forget="forget01"))
    original, retrained = ({row.content for row in draw_epoch(world, role, 0, 0)} for role in ("original", "retrained"))  # type: ignore[arg-type]
    forget = {row.content for row in world.forget}
    shared = {row.content for rows in (world.retain, world.real_authors, world.world_facts) for row in rows}
    assert original == forget | shared
    assert retrained == shared
    assert not original & {row.content for row in world.holdout}
    assert draw_epoch(world, "original", 0, 0) != draw_epoch(world, "original", 0, 1)


def test_where_the_data_lie_is_no_part_of_the_recipe(tofu_directory: Path, tmp_path: Path) -> None:
    for file in tofu_directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert Recipe.tofu(tofu_directory).hash == Recipe.tofu(tmp_path).hash
    assert Recipe.tofu(tofu_directory, authors=20).hash != Recipe.tofu(tofu_directory).hash
    content = (tmp_path / "full.json").read_text(encoding="utf-8")
    (tmp_path / "full.json").write_text(content.replace("Author 3 said 3.", "Author 3 said nothing."), encoding="utf-8")
    load_world.cache_clear()
    moved = TofuConfig(directory=tmp_path / ".." / tmp_path.name)
    assert load_world(moved).hash != load_world(TofuConfig(directory=tofu_directory)).hash


def test_the_split_must_leave_retain_authors(tofu_directory: Path) -> None:
    with pytest.raises(ValidationError, match="retain authors"):
        TofuConfig(directory=tofu_directory, authors=10)
    with pytest.raises(InputError, match="overlap"):
        load_world(TofuConfig(directory=tofu_directory, authors=195))


def test_a_folder_without_tofu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"full\.json"):
        load_world(TofuConfig(directory=tmp_path))
