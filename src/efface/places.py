"""Where a model is written: only to a new or empty folder, or over one that efface wrote."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from efface.errors import InputError

__all__ = ["atomic_directory", "require_replaceable"]

_MARK = "efface.json"
"""Lies in every folder of a model that efface wrote."""
_OF_A_MODEL = (
    *("*.safetensors", "*.json", "*.jinja", "*.model", "*.bin", "*.pt", "*.tmp"),
    *("vocab.txt", "merges.txt", "README.md", "reinforced", ".*"),
)
"""What such a folder may hold besides what the new model brings: weights, settings and tokenizers, and what a killed run left."""
_FIX = "Give another --output (output= in Python)."


def require_replaceable(target: str | Path) -> Path:
    """Return the folder a model is to be written to, when nothing of the user's lies there; change nothing.

    Raises:
        InputError: When it is a file, lies in a file, or holds files that are not a model that efface wrote.
    """
    return _checked(Path(target), frozenset())


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Give a temporary directory that takes the place of ``target`` when the block ends well, and vanishes when it does not.

    Raises:
        InputError: See :func:`require_replaceable`; files that the new directory holds as well may lie there.
    """
    _require_no_file(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        _checked(target, frozenset(path.name for path in temporary.iterdir()))
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            os.replace(target, old / "model")
            os.replace(temporary, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _checked(target: Path, renewed: frozenset[str]) -> Path:
    _require_no_file(target)
    if target.is_dir():
        accepted = _OF_A_MODEL if (target / _MARK).is_file() else ()
        names = {path.name for path in target.iterdir()} - renewed
        foreign = sorted(name for name in names if not any(fnmatchcase(name, pattern) for pattern in accepted))
        if foreign:
            raise InputError(
                f"The output folder {target} holds what is not a model of efface: {', '.join(foreign[:5])}. A model is written to "
                f"a new or an empty folder, or over one that efface wrote (it holds {_MARK}). {_FIX}"
            )
    return target


def _require_no_file(target: Path) -> None:
    for place in (target, *target.parents):
        if place.is_dir():
            return
        if place.exists() or place.is_symlink():
            raise InputError(f"The output {target} cannot be a folder, because {place} is a file. A model is a folder. {_FIX}")
