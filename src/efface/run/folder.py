"""A run's folder: whose it is, what is done, and how it is continued."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from efface.errors import InputError
from efface.places import require_replaceable
from efface.request import ForgetRequest

__all__ = ["RunFolder", "environment", "output_folder", "write_json"]

_OURS = {
    ".lock",
    "audit",
    "checkpoints",
    "entities.json",
    "examples-plaintext.json",
    "logs",
    "manifest.json",
    "metrics.json",
    "model",
    "report.html",
    "report.json",
    "request.yaml",
    "rows",
    "unlearned.json",
}


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n", encoding="utf-8")
    temporary.replace(path)


def environment() -> dict[str, Any]:
    """Return the versions and the machine's kind, for the manifest; nothing that names a person or a path."""
    versions = {"python": platform.python_version()}
    for name in ("efface", "torch", "transformers", "peft", "accelerate", "numpy", "scipy", "rouge-score"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {"versions": versions, "platform": f"{sys.platform} {platform.machine()}", "cpus": os.cpu_count()}


def output_folder(request: ForgetRequest, output: str | Path | None, name: str) -> Path:
    """Return where a run writes: what was asked for, else the request's own choice, else ``runs/<name>``."""
    place = output or request.output
    return Path(place).expanduser() if place else Path("runs") / name


class RunFolder:
    """One run on disk.

    Args:
        path: The folder; made when it is not there.
        request: The resolved request as plain types; equal requests continue a run.
        overwrite: Remove what another request left here.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = path
        self.request = json.loads(json.dumps(request, default=str))
        self.overwrite = overwrite
        self._lock = FileLock(str(path / ".lock"))

    @contextmanager
    def open(self) -> Iterator[RunFolder]:
        """Lock the folder, check that it is ours to continue, and hold it until the block ends.

        Bad input that the block finds before it has left anything here gives the folder up, so that a mended request may use it.

        Raises:
            InputError: When another process works here, the folder belongs to another request, or holds foreign files.
        """
        self.check()
        was_there = self.path.is_dir()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"Another run is working in {self.path}. One run at a time may use a folder. Wait for it, or give another --output."
            ) from None
        claimed = False
        try:
            if self.overwrite and self.differences():
                self._clear()
            if not self.manifest:
                write_json(self.path / "manifest.json", {"request": self.request, "created": _now(), "stages": {}, **environment()})
                claimed = True
            yield self
        except InputError:
            if claimed:
                self._give_up(is_new=not was_there)
            raise
        finally:
            self._lock.release()

    def check(self) -> None:
        """Raise ``InputError`` when the folder cannot be used for this request; change nothing."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"The output {self.path} is a file. A run writes a folder. Give another --output.")
        if not self.is_done("unlearning"):
            require_replaceable(self.path / "model")
        if not self.path.exists():
            return
        if self.overwrite:
            self._require_no_own_input()
            return
        foreign = sorted(p.name for p in self.path.iterdir() if p.name not in _OURS and not _is_temporary(p.name))
        if foreign:
            raise InputError(
                f"The output folder {self.path} holds files that are not a run's: {', '.join(foreign[:5])}. "
                "A run writes to a new folder or continues its own. Give another --output, or --overwrite to write beside them."
            )
        differences = self.differences()
        if differences:
            raise InputError(
                f"The output folder {self.path} belongs to another request: {'; '.join(differences[:5])}. "
                "The same request continues a run. Give another --output, or --overwrite to start anew."
            )

    def _require_no_own_input(self) -> None:
        """Refuse to remove what the request itself names."""
        here = Path(os.path.abspath(self.path))
        inside = [text for text in _texts(self.request) if text and here in Path(os.path.abspath(Path(text).expanduser())).parents]
        if inside and self.differences():
            raise InputError(
                f"The request names {inside[0]}, which lies in the output folder {self.path} that --overwrite would clear. "
                "Give another --output."
            )

    def differences(self) -> list[str]:
        """Name the keys in which the request on disk differs from this one."""
        manifest = self.manifest
        if not manifest:
            return []
        return [
            f"{key} was {old!r}, now {new!r}"
            for key, (old, new) in sorted(_compare(manifest.get("request", {}), self.request).items())
        ]

    @property
    def manifest(self) -> dict[str, Any]:
        """What ``manifest.json`` holds; empty when there is none."""
        return self.read("manifest.json") or {}

    def read(self, name: str) -> Any:
        """Return a JSON file of the folder, or None when it is not there."""
        path = self.path / name
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is not valid JSON ({error}). A run writes it whole. Delete it and run again.") from None

    def write(self, name: str, data: Any) -> None:
        """Write a JSON file of the folder."""
        write_json(self.path / name, data)

    def is_done(self, stage: str) -> bool:
        """Whether ``stage`` has ended."""
        return stage in self.manifest.get("stages", {})

    def finish(self, stage: str, facts: Mapping[str, Any]) -> None:
        """Note in the manifest that ``stage`` has ended, with its facts (seconds, hashes)."""
        manifest = self.manifest
        manifest["stages"][stage] = {"finished": _now(), **facts}
        self.write("manifest.json", manifest)

    def _give_up(self, *, is_new: bool) -> None:
        """Take back the claim on a folder where nothing has been computed."""
        ours = [self.path / name for name in ("manifest.json", "request.yaml")]
        left = [path for path in self.path.iterdir() if path.name in _OURS and path not in ours and path.name != ".lock"]
        if any(path.is_file() or any(path.rglob("*")) for path in left):
            return
        for path in ours:
            path.unlink(missing_ok=True)
        for path in left:
            path.rmdir()
        if is_new:
            (self.path / ".lock").unlink(missing_ok=True)
            with suppress(OSError):  # another process may have come in
                self.path.rmdir()

    def _clear(self) -> None:
        for name in _OURS - {".lock"}:
            target = self.path / name
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)


def _texts(tree: Any) -> Iterator[str]:
    """Yield every text in a request."""
    if isinstance(tree, str):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _texts(part)


def _is_temporary(name: str) -> bool:
    """Whether a file is what a killed run left of an atomic write."""
    return name.startswith(".") or name.endswith(".tmp")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _compare(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted({*old, *new}):
            found |= _compare(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return {} if old == new else {prefix: (old, new)}
