"""Read rows from what people have: JSONL, JSON, CSV, parquet, ``datasets`` directories, the hub, or lists in memory.

A place is written as a path or as one of the two prefixed forms::

    forget.jsonl                      a file; the suffix names the format (.jsonl, .json, .csv, .tsv, .parquet)
    data/forget                       a directory written by ``datasets``' save_to_disk
    hub:locuslab/TOFU:forget10        a split, or a configuration, of a data set on the hub
    tofu:DIR:forget05                 a part of TOFU's files; every row knows its author
    texts:DIR                         a folder of works, one text file each, cut into passages (texts:DIR:200 of 200 words)
    generic                           sentences shipped with the package, to keep where nothing else is at hand
    neighbours:FILE                   a file whose rows are near the forget rows in kind

A ``.json`` file may hold a list or, whatever its suffix says, one object per line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from efface.data.schema import Row, RowSet
from efface.data.stand_ins import generic_rows, kind_of
from efface.errors import InputError
from efface.registry import closest

__all__ = ["FORMATS", "is_place_name", "read_rows", "read_text"]

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_ACCEPTED = (
    "A set is a .jsonl, .json, .csv, .tsv or .parquet file, a datasets directory, hub:NAME:SPLIT, tofu:DIR:SPLIT or texts:DIR."
)
_LISTS = ("messages", "perturbed_answer", "value_aliases")

Numbered = Iterator[tuple[str, Any]]
"""Pairs of (where it stands, the mapping)."""


def is_place_name(spec: str) -> bool:
    """Whether ``spec`` is a prefixed form (``hub:``, ``tofu:`` or ``texts:``) or a stand-in's name rather than a path."""
    return spec.startswith(("hub:", "tofu:", "texts:", "sampled:", "generic:")) or spec in ("generic", "sampled")


def read_rows(
    spec: str | Path | RowSet | Iterable[Mapping[str, Any] | Row],
    *,
    base: Path | None = None,
    limit: int | None = None,
) -> RowSet:
    """Read a set of rows and check every one of them.

    Args:
        spec: A path, a prefixed form, a ``datasets.Dataset``, or mappings in memory.
        base: Folder that relative paths start from; the working directory by default.
        limit: Read only so many rows.

    Raises:
        InputError: When there is nothing there, the format is not known or a row is malformed; names the file and the line.

    Example:
        >>> rows = read_rows([{"question": "Where was Ada Quill born?", "answer": "In Ostrava."}])
        >>> len(rows), rows[0].answer
        (1, 'In Ostrava.')
    """
    if isinstance(spec, RowSet):
        return spec if limit is None else RowSet(spec.rows[:limit], spec.source)
    if isinstance(spec, str) and kind_of(spec) is not None:
        return _read_stand_in(spec, base, limit)
    if isinstance(spec, str) and spec.startswith("tofu:"):
        return _read_tofu_part(spec, base, limit)
    if isinstance(spec, str) and spec.startswith("texts:"):
        return _read_texts(spec, base, limit)
    if isinstance(spec, str) and spec.startswith("hub:"):
        return _read_hub(spec, limit)
    if isinstance(spec, (str, Path)):
        path = _existing(Path(spec).expanduser() if base is None else base / Path(spec).expanduser())
        return _build(_file_items(path), str(path), limit)
    if isinstance(spec, Mapping) or not isinstance(spec, Iterable):
        raise InputError(
            f"A set of rows cannot be made of {type(spec).__name__}. {_ACCEPTED} In Python a list of mappings also works."
        )
    return RowSet.build(islice(spec, limit))


def _build(items: Numbered, source: str, limit: int | None) -> RowSet:
    rows = [Row.build(data, where=where) for where, data in islice(items, limit)]
    return RowSet.build(rows, source=source)


def _existing(path: Path) -> Path:
    if path.exists():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}, so no {path.name} in it. {_ACCEPTED} Check the path.")
    near = closest(path.name, [entry.name for entry in folder.iterdir() if entry.is_dir() or entry.suffix in FORMATS])
    guess = f" The nearest name there is {near[0]!r}." if near else ""
    raise InputError(f"There is no file {path}.{guess} {_ACCEPTED} Check the path.")


def _file_items(path: Path) -> Numbered:
    if path.is_dir():
        return _directory_items(path)
    readers = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json_document,
        ".csv": _table_lines,
        ".tsv": _table_lines,
        ".parquet": _parquet_items,
    }
    if path.suffix.lower() not in readers:
        raise InputError(f"The format of {path} is not known (suffix {path.suffix!r}). {_ACCEPTED} Rename or convert the file.")
    return readers[path.suffix.lower()](path)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte-order mark; raise ``InputError`` for any other."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}). Text files are read as UTF-8. Save it as UTF-8."
        ) from None


def _json_lines(path: Path) -> Numbered:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{where} is not JSON: {error.msg} at column {error.colno}. Each line holds one object. Mend that line."
            ) from None


def _json_document(path: Path) -> Numbered:
    """Read a list of objects, or one object per line, which many published ``.json`` files really hold."""
    text = read_text(path)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise InputError(
                f"{path}, line {error.lineno} is not JSON: {error.msg} at column {error.colno}. "
                "A .json file holds a list of objects, or one object per line. Mend that line."
            ) from None
        yield from _json_lines(path)
        return
    if isinstance(document, Mapping):
        document = [document]
    if not isinstance(document, list):
        raise InputError(f"{path} holds {type(document).__name__}, not rows. A .json file holds a list of objects. Convert it.")
    for number, item in enumerate(document, start=1):
        yield f"{path}, row {number}", item


def _table_lines(path: Path) -> Numbered:
    reader = csv.DictReader(read_text(path).splitlines(keepends=True), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    for record in reader:
        where = f"{path}, line {reader.line_num}"
        if None in record:
            raise InputError(
                f"{where} has more cells than the header names. Every line has the header's columns. Quote the commas."
            )
        yield where, {key.strip(): _cell(key.strip(), value, where) for key, value in record.items()}


def _cell(key: str, value: str | None, where: str) -> Any:
    """Return a table's cell; an empty one is absent, and the list columns hold JSON (or a single text)."""
    if value is None or not value.strip():
        return None
    if key not in _LISTS or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: {key} is not a JSON list ({error.msg}). In a table a list is written as JSON. Mend it."
        ) from None


def _parquet_items(path: Path) -> Numbered:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a parquet file ({reason}). {_ACCEPTED} Write it again or convert it.") from None
    return _numbered(table.to_pylist(), str(path))


def _numbered(items: Iterable[Any], source: str) -> Numbered:
    return ((f"{source}, row {number}", item) for number, item in enumerate(items, start=1))


def _directory_items(path: Path) -> Numbered:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except FileNotFoundError:
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in FORMATS)
        hint = f"Name one of its files: {', '.join(inside[:5])}." if inside else "Check the path."
        raise InputError(f"{path} is a folder that datasets' save_to_disk did not write. {_ACCEPTED} {hint}") from None
    if isinstance(loaded, datasets.DatasetDict):
        if len(loaded) != 1:
            splits = ", ".join(sorted(loaded))
            raise InputError(f"{path} holds several splits ({splits}). A set is one split. Name it: {path / sorted(loaded)[0]}.")
        loaded = next(iter(loaded.values()))
    return _numbered(loaded, str(path))


def _read_hub(spec: str, limit: int | None) -> RowSet:
    name, _, part = spec.removeprefix("hub:").partition(":")
    if not name or not part:
        raise InputError(
            f"{spec!r} does not name a split. A hub set is hub:NAME:SPLIT or hub:NAME:CONFIGURATION:SPLIT. Add the split."
        )
    rows = _build(_numbered(_load_from_hub(name, part, spec), spec), spec, limit)
    if name.rpartition("/")[2] != "TOFU" or not part.startswith(("forget", "retain", "full")):
        return rows
    from efface.data.tofu import with_authors

    return with_authors(rows, _build(_numbered(_load_from_hub(name, "full", spec), spec), spec, None))


def _load_from_hub(name: str, part: str, spec: str) -> Iterable[Any]:
    """Load a split; many sets, TOFU among them, call their splits configurations with a single split ``train``."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    configuration, _, split = part.rpartition(":")
    try:
        if not configuration and part in datasets.get_dataset_config_names(name):
            configuration, split = part, "train"
        loaded: Iterable[Any] = datasets.load_dataset(name, configuration or None, split=split)
    except (OfflineModeIsEnabled, ConnectionError, HfHubHTTPError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{spec} could not be fetched: {reason}. A hub set needs the network or a copy in the local cache. "
            "Connect, unset HF_HUB_OFFLINE, or name a local file."
        ) from None
    except (ValueError, FileNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{spec} is not there: {reason}. A hub set is hub:NAME:SPLIT. Check name and split.") from None
    return loaded


def _read_stand_in(spec: str, base: Path | None, limit: int | None) -> RowSet:
    if spec == "generic":
        rows = generic_rows()
        return rows if limit is None else RowSet(rows.rows[:limit], rows.source)
    if spec.startswith("neighbours:"):
        return read_rows(spec.removeprefix("neighbours:"), base=base, limit=limit)
    raise InputError(f"{spec!r} is text the model has yet to write. It stands for rows to keep only, as retain. Name rows here.")


def _read_texts(spec: str, base: Path | None, limit: int | None) -> RowSet:
    from efface.data.texts import WINDOW_WORDS, read_texts

    directory, colon, words = spec.removeprefix("texts:").rpartition(":")
    if not colon or not words.isdigit():  # the colon is part of the path
        directory, words = spec.removeprefix("texts:"), str(WINDOW_WORDS)
    if not directory:
        raise InputError(f"{spec!r} names no folder. A folder of works is written as texts:DIR or texts:DIR:WORDS. Add it.")
    folder = Path(directory).expanduser()
    return read_texts(folder if base is None else base / folder, words=int(words), limit=limit)


def _read_tofu_part(spec: str, base: Path | None, limit: int | None) -> RowSet:
    from efface.data.tofu import read_tofu_part

    directory, _, part = spec.removeprefix("tofu:").rpartition(":")
    if not directory:
        raise InputError(f"{spec!r} does not name a part. TOFU's files are written as tofu:DIR:forget05. Add the part.")
    folder = Path(directory).expanduser()
    return read_tofu_part(folder if base is None else base / folder, part, limit=limit)
