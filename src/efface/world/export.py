"""Write a world as JSON Lines in the row schema, one file per set."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from efface.errors import InputError
from efface.world.corpus import World

__all__ = ["export_world"]

MANIFEST = "world.json"


def export_world(world: World, directory: str | Path, *, overwrite: bool = False) -> Path:
    """Write every set of ``world`` to ``directory`` as ``<set>.jsonl``, and ``world.json`` with configuration, counts and hash.

    The folder appears as a whole or not at all.

    Args:
        world: What to write.
        directory: Where to; created.
        overwrite: Replace the files of an earlier export.

    Returns:
        The folder.

    Raises:
        InputError: When the folder holds another world or other files and ``overwrite`` is not set.
    """
    target = Path(directory).expanduser()
    _refuse_foreign(world, target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, rows in world.sets.items():
            lines = (json.dumps(row.as_dict(), ensure_ascii=False) for row in rows)
            (work / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        (work / MANIFEST).write_text(json.dumps(_manifest(world), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        target.mkdir(exist_ok=True)
        for file in sorted(work.iterdir(), key=lambda f: f.name == MANIFEST):  # the manifest last: it says the rest is there
            os.replace(file, target / file.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _manifest(world: World) -> dict[str, object]:
    return {
        "schema": "efface-world/1",
        "hash": world.hash,
        "config": world.config.model_dump(mode="json"),
        "counts": {name: len(rows) for name, rows in world.sets.items()},
        "entities": {name: len({row.entity for row in rows}) for name, rows in world.sets.items()},
        "is_fictional": world.is_fictional,
    }


def _refuse_foreign(world: World, target: Path, overwrite: bool) -> None:
    if not target.exists() or overwrite:
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file. A world is written to a folder. Name another place.")
    present = {entry.name for entry in target.iterdir()}
    ours = {MANIFEST, *(f"{name}.jsonl" for name in world.sets)}
    foreign = sorted(present - ours)
    if foreign:
        raise InputError(
            f"{target} already holds {foreign[0]!r}, which is not part of this world. "
            "A world is written to a folder of its own. Name another folder, or add --overwrite."
        )
    manifest = target / MANIFEST
    if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8")).get("hash") != world.hash:
        raise InputError(
            f"{target} already holds another world. A folder holds one world. Name another folder, or add --overwrite."
        )
