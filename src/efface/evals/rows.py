"""Measured rows on disk: parquet files per (model fingerprint, settings), one per chunk, each written atomically.

A file names the fingerprint and settings it was measured under; one that was copied from elsewhere is never used. A file that
cannot be read (a truncated copy, a full disk) is dropped with a warning and its items are measured again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from efface.data.items import TokenRow

__all__ = ["RowCache"]

_LOG = logging.getLogger(__name__)
_VERSION = "1"
_SCORES, _TEXTS, _NORMS = "scores", "texts", "norms"
_SCORE_SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("targets", pa.list_(pa.int64())),
        ("logp", pa.list_(pa.float32())),
        ("rank", pa.list_(pa.int32())),
        ("mean", pa.list_(pa.float32())),
        ("var", pa.list_(pa.float32())),
        ("hit", pa.list_(pa.bool_())),
        ("ends_in_eos", pa.bool_()),
        ("text", pa.string()),
    ]
)
_TEXT_SCHEMA = pa.schema([("item", pa.string()), ("text", pa.string())])
_NORM_SCHEMA = pa.schema([("item", pa.string()), ("norm", pa.float64())])
_SCHEMAS = {_SCORES: _SCORE_SCHEMA, _TEXTS: _TEXT_SCHEMA, _NORMS: _NORM_SCHEMA}
_ARRAYS: Mapping[str, Any] = {
    "targets": np.int64,
    "logp": np.float32,
    "rank": np.int32,
    "mean": np.float32,
    "var": np.float32,
    "hit": np.bool_,
}


class RowCache:
    """What was measured of one model, kept between runs.

    Args:
        directory: Cache folder; the rows of a fingerprint have a folder of their own in it.
        fingerprint: Fingerprint of the measured model.
        settings: Whatever else changes a row and is in neither the fingerprint nor the item.
    """

    def __init__(self, directory: str | Path, fingerprint: str, settings: Mapping[str, Any] | None = None) -> None:
        self.fingerprint = fingerprint
        self.settings = json.dumps(dict(settings or {}), sort_keys=True)
        name = hashlib.sha256(f"{_VERSION}\n{fingerprint}\n{self.settings}".encode()).hexdigest()[:32]
        self.directory = Path(directory) / name

    def read_scores(self) -> dict[str, TokenRow]:
        """Return every kept row by item hash."""
        return self._read(_SCORES, _to_row)

    def read_texts(self) -> dict[str, str]:
        """Return every kept generation by item hash."""
        return self._read(_TEXTS, lambda entry: str(entry["text"]))

    def write_scores(self, rows: Mapping[str, TokenRow]) -> None:
        """Keep a chunk of rows, by item hash; a reader sees all of it or nothing."""
        columns: dict[str, list[Any]] = {name: [] for name in _SCORE_SCHEMA.names}
        for item, row in rows.items():
            columns["item"].append(item)
            for name in _ARRAYS:
                columns[name].append(getattr(row, name))
            columns["ends_in_eos"].append(row.ends_in_eos)
            columns["text"].append(row.text)
        self._write(_SCORES, list(rows), pa.table(columns, schema=_SCORE_SCHEMA))

    def write_texts(self, texts: Mapping[str, str]) -> None:
        """Keep a chunk of generations, by item hash."""
        table = pa.table({"item": list(texts), "text": list(texts.values())}, schema=_TEXT_SCHEMA)
        self._write(_TEXTS, list(texts), table)

    def read_norms(self) -> dict[str, float | None]:
        """Return every kept gradient norm by item hash."""
        return self._read(_NORMS, lambda entry: entry["norm"])

    def write_norms(self, norms: Mapping[str, float | None]) -> None:
        """Keep a chunk of gradient norms, by item hash."""
        table = pa.table({"item": list(norms), "norm": list(norms.values())}, schema=_NORM_SCHEMA)
        self._write(_NORMS, list(norms), table)

    def _stamp(self) -> dict[str, str]:
        return {"version": _VERSION, "fingerprint": self.fingerprint, "settings": self.settings}

    def _write(self, kind: str, items: list[str], table: pa.Table) -> None:
        if not items:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("\n".join(items).encode()).hexdigest()[:24]
        target = self.directory / f"{kind}-{name}.parquet"
        partial = target.with_suffix(f".{os.getpid()}.part")
        stamped = table.replace_schema_metadata({b"efface": json.dumps(self._stamp()).encode()})
        with partial.open("wb") as sink:
            pq.write_table(stamped, sink, compression="zstd")
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(target)

    def _read(self, kind: str, convert: Callable[[Mapping[str, Any]], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if not self.directory.is_dir():
            return found
        for path in sorted(self.directory.glob(f"{kind}-*.parquet")):
            table = self._load(path)
            if table is not None:
                found |= {entry["item"]: convert(entry) for entry in table.to_pylist()}
        return found

    def _load(self, path: Path) -> pa.Table | None:
        try:
            table = pq.read_table(path)
            stamp = json.loads((table.schema.metadata or {}).get(b"efface", b"null"))
            expected = _SCHEMAS[path.name.partition("-")[0]]
            if stamp == self._stamp() and table.schema.names == expected.names:
                return table
            problem = "was measured of another model or with other settings"
        except (OSError, pa.ArrowException, ValueError) as error:
            problem = f"cannot be read ({type(error).__name__})"
        _LOG.warning("The measured rows in %s: the file %s. It is left out and its items are measured again.", path.name, problem)
        path.unlink(missing_ok=True)
        return None


def _to_row(entry: Mapping[str, Any]) -> TokenRow:
    arrays = {name: np.asarray(entry[name], dtype=dtype) for name, dtype in _ARRAYS.items()}
    return TokenRow(**arrays, ends_in_eos=bool(entry["ends_in_eos"]), text=str(entry["text"]))
