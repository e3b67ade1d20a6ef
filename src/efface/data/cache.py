"""Where efface keeps what is costly to make again: trained worlds and measured rows."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import platformdirs

__all__ = ["KINDS", "CacheEntry", "cache_root", "clear_cache", "list_cache"]

KINDS = ("models", "rows")
"""Folders of the cache: ``models/<recipe hash>`` and ``rows/<fingerprint>``."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One cached thing.

    Attributes:
        kind: "models" or "rows".
        name: Its hash.
        bytes: Size on disk.
        path: Its folder.
    """

    kind: str
    name: str
    bytes: int
    path: Path


def cache_root() -> Path:
    """Return the cache folder: ``EFFACE_CACHE_DIR``, else the platform's user cache."""
    given = os.environ.get("EFFACE_CACHE_DIR")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("efface", appauthor=False)


def list_cache(root: Path | None = None) -> list[CacheEntry]:
    """Return what is cached, largest first within each kind; locks and half-written folders are no entries."""
    root = root or cache_root()
    entries = []
    for kind in KINDS:
        folder = root / kind
        found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")] if folder.is_dir() else []
        entries += sorted((CacheEntry(kind, path.name, _size(path), path) for path in found), key=lambda entry: -entry.bytes)
    return entries


def clear_cache(kind: str | None = None, root: Path | None = None) -> list[CacheEntry]:
    """Remove every entry (of ``kind``, when given) and return what was removed; nothing outside the two folders is touched."""
    removed = [entry for entry in list_cache(root) if kind in (None, entry.kind)]
    for entry in removed:
        shutil.rmtree(entry.path)
    return removed


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
