"""Finding and reading golden fixtures; conftest.py puts this folder on the path."""

from __future__ import annotations

import json
import os
import tomllib
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


def fixture_folder() -> Path:
    """Return the folder with the fixtures: ``EFFACE_GOLDEN_DIR``, by default ``../shared/golden`` beside the repository."""
    return Path(os.environ.get("EFFACE_GOLDEN_DIR") or HERE.parents[1].parent / "shared" / "golden")


def fixture_files(pattern: str) -> list[Path]:
    """Return the fixture files and folders whose name matches, sorted; empty where the folder is absent."""
    folder = fixture_folder()
    if not folder.is_dir():
        return []
    entries = (path for path in folder.iterdir() if path.suffix != ".md" and not path.name.startswith("."))
    return sorted(path for path in entries if fnmatch(path.name, pattern))


def fixture_params(pattern: str) -> list[Any]:
    """Return the fixtures as parameters for ``pytest.mark.parametrize``, or a skipped one that says why there is none."""
    found = fixture_files(pattern)
    if found:
        return [pytest.param(path, id=path.name) for path in found]
    reason = f"no fixture matches {pattern} (set EFFACE_GOLDEN_DIR to the folder that holds them)"
    return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]


@lru_cache(maxsize=64)
def read_fixture(path: Path) -> Any:
    """Read a fixture file; callers do not change what they get."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a fixture of one object per line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@lru_cache(maxsize=1)
def families() -> list[dict[str, Any]]:
    """Return the table that maps fixtures to tests."""
    return list(tomllib.loads((HERE / "families.toml").read_text(encoding="utf-8"))["family"])


def pending_cases(name: str) -> dict[str, str]:
    """Return the cases of a fixture whose feature is not built yet: case -> feature."""
    return {case: why for family in families() if fnmatch(name, family["pattern"]) for case, why in family.get("cases", {}).items()}
