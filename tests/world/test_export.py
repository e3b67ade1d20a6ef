from __future__ import annotations

import json
from pathlib import Path

import pytest

from efface.data.readers import read_rows
from efface.errors import InputError
from efface.world import WorldConfig, export_world, load_world


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    world = load_world(WorldConfig.mini())
    folder = export_world(world, tmp_path / "world")
    manifest = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    assert manifest["hash"] == world.hash
    assert manifest["config"]["forget_people"] == 6
    assert set(manifest["counts"]) == {file.stem for file in folder.glob("*.jsonl")} == set(world.sets)
    for name, rows in world.sets.items():
        assert read_rows(folder / f"{name}.jsonl").rows == rows.rows
        assert manifest["counts"][name] == len(rows)
    assert [entry.name for entry in tmp_path.iterdir()] == ["world"]


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    world = load_world(WorldConfig.mini())
    first = {f.name: f.read_bytes() for f in export_world(world, tmp_path / "a").iterdir()}
    second = {f.name: f.read_bytes() for f in export_world(world, tmp_path / "b").iterdir()}
    assert first == second
    assert {f.name: f.read_bytes() for f in export_world(world, tmp_path / "a").iterdir()} == first


def test_another_world_or_a_strange_file_is_refused(tmp_path: Path) -> None:
    folder = export_world(load_world(WorldConfig.mini()), tmp_path / "world")
    other = load_world(WorldConfig.mini(seed=1))
    with pytest.raises(InputError, match="another world"):
        export_world(other, folder)
    assert (
        json.loads((export_world(other, folder, overwrite=True) / "world.json").read_text(encoding="utf-8"))["hash"] == other.hash
    )
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"notes\.txt"):
        export_world(other, folder)
    with pytest.raises(InputError, match="is a file"):
        export_world(other, folder / "notes.txt")
