"""The folder of a bench: whose it is, which nodes are done, and what each of them took.

    bench.json  suite.yaml  nodes/  references/  runs/  axes/  leaderboard.{html,json,csv,tex}

A finished node is a record in ``nodes/``; it is never run again. A failed one is recorded with its reason and run again next time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from efface.errors import InputError
from efface.run.bench.graph import Node
from efface.run.folder import environment, write_json

__all__ = ["SCHEMA", "BenchFolder", "NodeRecord", "is_bench"]

SCHEMA = "efface-bench/1"
_MARK = "bench.json"


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """How a node ended.

    Attributes:
        key: The node's key.
        label: What it was.
        group: Its group, for estimates.
        state: "done" or "failed".
        seconds: Wall-clock seconds.
        finished: When, RFC 3339 in UTC.
        reason: Why it failed.
        efface: Version of efface that did it.
    """

    key: str
    label: str
    group: str
    state: Literal["done", "failed"]
    seconds: float
    finished: str
    reason: str = ""
    efface: str = ""


def is_bench(path: Path) -> bool:
    """Whether a folder is a bench's."""
    return (path / _MARK).is_file()


class BenchFolder:
    """A bench on disk.

    Args:
        path: The folder; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self, suite: Mapping[str, Any]) -> Iterator[BenchFolder]:
        """Lock the folder and hold it until the block ends.

        Args:
            suite: The suite as asked, plain types; a later one may ask for more, and finds what is done.

        Raises:
            InputError: When another bench works here, or the folder holds something else.
        """
        self.check()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(self.path / ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"Another bench is working in {self.path}. One at a time may use a folder. Wait for it, or give another --output."
            ) from None
        try:
            for name in ("nodes", "references", "runs", "axes"):
                (self.path / name).mkdir(exist_ok=True)
            created = self.read(_MARK).get("created") or now()
            write_json(self.path / _MARK, {"schema": SCHEMA, "created": created, "suite": suite, **environment()})
            yield self
        finally:
            lock.release()

    def check(self) -> None:
        """Raise ``InputError`` when the folder cannot be a bench's; change nothing."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise InputError(f"The output {self.path} is a file. A bench writes a folder. Give another --output.")
        if is_bench(self.path):
            schema = self.read(_MARK).get("schema")
            if schema != SCHEMA:
                raise InputError(
                    f"The bench in {self.path} has the schema {schema!r}. This version of efface continues {SCHEMA!r}. "
                    "Give another --output, or use the version that began it."
                )
            return
        foreign = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if foreign:
            raise InputError(
                f"The output folder {self.path} holds files that are not a bench's: {', '.join(foreign[:5])}. "
                "A bench writes to a new folder or continues its own. Give another --output."
            )

    def read(self, name: str) -> dict[str, Any]:
        """Return a JSON file of the folder; empty when there is none."""
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is not valid JSON ({error}). A bench writes it whole. Delete it and run again.") from None
        return found

    def record(self, key: str) -> NodeRecord | None:
        """Return how a node ended, or None when it has not."""
        found = self.read(f"nodes/{key[:16]}.json")
        return NodeRecord(**found) if found else None

    def records(self) -> list[NodeRecord]:
        """Return how every node ended, of whatever suite."""
        if not (self.path / "nodes").is_dir():
            return []
        names = sorted(p.name for p in (self.path / "nodes").glob("*.json") if not p.name.endswith(".task.json"))
        return [NodeRecord(**self.read(f"nodes/{name}")) for name in names]

    def is_done(self, node: Node) -> bool:
        """Whether a node ended well and what it made is there."""
        record = self.record(node.key)
        return record is not None and record.state == "done" and (node.kind == "models" or self.result(node).is_file())

    def result(self, node: Node) -> Path:
        """Return the file that holds what a node made."""
        return self.path / node.folder / {"run": "metrics.json", "axis": "axis.json"}.get(node.kind, "results.json")

    def write_task(self, node: Node, task: Mapping[str, Any], nodes: Mapping[str, Node]) -> Path:
        """Write what the worker of a node is told, and return the file."""
        path = self.path / "nodes" / f"{node.key[:16]}.task.json"
        places = {role: str(self.result(nodes[key]).resolve()) for role, key in task.get("references", {}).items()}
        whole = {
            **task,
            "references": places,
            "key": node.key,
            "kind": node.kind,
            "label": node.label,
            "group": node.group,
            "folder": str((self.path / node.folder).resolve()),
            "record": str(path.with_name(f"{node.key[:16]}.json").resolve()),
        }
        write_json(path, whole)
        return path

    def write_record(self, record: NodeRecord) -> None:
        """Note how a node ended."""
        write_json(self.path / "nodes" / f"{record.key[:16]}.json", asdict(record))

    def progress(self, node: Node) -> float | None:
        """Return the share of a running node's present stage that is done, where its worker has told."""
        try:
            found = json.loads((self.path / "nodes" / f"{node.key[:16]}.progress").read_text(encoding="utf-8"))
            return float(found["done"]) / max(1.0, float(found["total"]))
        except (OSError, ValueError, KeyError):
            return None


def now() -> str:
    """Return the time as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
