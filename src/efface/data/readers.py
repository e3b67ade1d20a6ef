"""Read rows from what people have: JSONL, JSON, CSV, parquet, ``datasets`` directories, the hub, or lists in memory.

A place is written as a path or in one of the prefixed forms::

    forget.jsonl                      a file; the suffix names the format (.jsonl, .json, .csv, .tsv, .parquet)
    data/forget                       a directory written by ``datasets``' save_to_disk
    hub:locuslab/TOFU:forget10        a split, or a configuration, of a data set on the hub
    tofu:DIR:forget05                 a part of TOFU's files; every row knows its author
    wmdp:DIR:bio                      a part of a local copy of WMDP, and likewise mmlu:DIR:SUBJECT[,SUBJECT], rwku:DIR:PART,
                                      wpu:DIR:PART, lume:DIR:PART (see :mod:`efface.data.choices`, ``rwku``, ``wpu``, ``lume``)
    muse:DIR:news:forget              a split of MUSE's files; muse:DIR:news:scal:forget_2 for one of another subset
    texts:DIR                         a folder of works, one text file each, cut into passages (texts:DIR:200 of 200 words)
    generic                           sentences shipped with the package, to keep where nothing else is at hand
    neighbours:FILE                   a file whose rows are near the forget rows in kind

A ``.json`` file may hold a list or, whatever its suffix says, one object per line.
"""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from efface.data.schema import Row, RowSet
from efface.data.stand_ins import generic_rows, kind_of
from efface.errors import InputError
from efface.registry import closest

__all__ = ["FORMATS", "LAYOUTS", "Numbered", "is_place_name", "raw_items", "read_rows", "read_sets", "read_text"]

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
LAYOUTS: Mapping[str, str] = {
    "tofu": "efface.data.tofu:read_tofu_part",
    "wmdp": "efface.data.choices:read_wmdp_part",
    "mmlu": "efface.data.choices:read_mmlu_part",
    "rwku": "efface.data.rwku:read_rwku_part",
    "wpu": "efface.data.wpu:read_wpu_part",
    "lume": "efface.data.lume:read_lume_part",
}
"""Published layouts of local folders, written ``NAME:DIR:PART``, and what reads a part of them."""

_HUB_ROWS: Mapping[str, str] = {
    "RWKU": "efface.data.rwku:rwku_row",
    "Wikipedia_Person_Unlearn": "efface.data.wpu:wpu_row",
    "semeval25-unlearning-dataset-public": "efface.data.lume:lume_row",
}
"""Data sets of the hub whose columns have other names, and what makes a row of theirs ours."""

_ACCEPTED = (
    "A set is a .jsonl, .json, .csv, .tsv or .parquet file, a datasets directory, hub:NAME:SPLIT, tofu:DIR:SPLIT, "
    "muse:DIR:CORPUS:SPLIT or texts:DIR."
)
_LISTS = ("messages", "perturbed_answer", "value_aliases", "choices")

Numbered = Iterator[tuple[str, Any]]
"""Pairs of (where it stands, the mapping)."""


def is_place_name(spec: str) -> bool:
    """Whether ``spec`` is a prefixed form (``hub:``, ``tofu:``, ...) or a stand-in's name rather than a path."""
    prefixes = ("hub:", "muse:", "texts:", "sampled:", "generic:", *(f"{name}:" for name in LAYOUTS))
    return spec.startswith(prefixes) or spec in ("generic", "sampled")


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
    if isinstance(spec, str) and spec.partition(":")[0] in LAYOUTS and ":" in spec:
        return _read_layout(spec, base, limit)
    if isinstance(spec, str) and spec.startswith("muse:"):
        return _read_muse_part(spec, base, limit)
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


def read_sets(spec: str, *, base: Path | None = None) -> dict[str, RowSet]:
    """Read all sets of a suite from one place: ``muse:DIR:news``, ``hub:muse-bench/MUSE-News``, or a folder of files.

    In a folder every file is a set and its name without suffix the key, as ``efface world --out`` writes them.

    Raises:
        InputError: When there is nothing there, or the place holds rows of one set only.
    """
    if spec.startswith("muse:"):
        from efface.data.muse import read_muse, split_place

        directory, corpus, _, split = split_place(spec)
        if split:
            raise InputError(f"{spec!r} names one split. A suite takes the whole corpus. Write muse:{directory}:{corpus}.")
        return read_muse(_from(base, directory), corpus)
    if spec.startswith("hub:"):
        name = spec.removeprefix("hub:")
        if not _is_muse(name):
            raise InputError(
                f"{spec!r} is no place of several sets. On the hub these are MUSE-News and MUSE-Books. Name single sets."
            )
        from efface.data.muse import read_muse_hub

        return read_muse_hub(spec, lambda part: _load_from_hub(name, part, spec))
    folder = _from(base, spec)
    files = [path for path in sorted(folder.glob("*")) if path.suffix in FORMATS and path.name != "world.json"]
    if not files:
        raise InputError(f"{folder} holds no file of rows. A place of several sets is a folder, or muse:DIR:news. Check the path.")
    return {path.stem: _build(_file_items(path), str(path), None) for path in files}


def _from(base: Path | None, directory: str) -> Path:
    folder = Path(directory).expanduser()
    return folder if base is None else base / folder


def _is_muse(name: str) -> bool:
    return name.rpartition("/")[2] in ("MUSE-News", "MUSE-Books")


def raw_items(path: Path) -> Numbered:
    """Return (where it stands, what stands there) for every item of a file, before it is made a row.

    Raises:
        InputError: When the format is not known or a line is malformed.
    """
    return _file_items(path)


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
    if _is_muse(name):
        from efface.data.muse import muse_items

        subset, _, split = part.rpartition(":")
        subset = subset or "raw"
        loaded = muse_items(_load_from_hub(name, f"{subset}:{split}", spec), subset, split)
        return _build(_numbered(loaded, spec), spec, limit)
    items = _numbered(_load_from_hub(name, part, spec), spec)
    short = name.rpartition("/")[2]
    if short in _HUB_ROWS:
        from efface.data.layouts import build_rows

        return build_rows(items, partial(_load(_HUB_ROWS[short]), part=part.partition(":")[0]), spec, limit)
    rows = _build(items, spec, limit)
    if short != "TOFU" or not part.startswith(("forget", "retain", "full")):
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


def _read_muse_part(spec: str, base: Path | None, limit: int | None) -> RowSet:
    from efface.data.muse import read_muse_part, split_place

    directory, corpus, subset, split = split_place(spec)
    if not split:
        raise InputError(f"{spec!r} is a whole corpus. A set is one split of it. Write {spec}:forget, or use it as a suite's from.")
    return read_muse_part(_from(base, directory), corpus, subset, split, limit=limit)


def _read_layout(spec: str, base: Path | None, limit: int | None) -> RowSet:
    name, _, rest = spec.partition(":")
    directory, _, part = rest.rpartition(":")
    if not directory or not part:
        raise InputError(
            f"{spec!r} does not name a part. A local copy of a published set is written {name}:DIR:PART. Add the part."
        )
    folder = Path(directory).expanduser()
    read = _load(LAYOUTS[name])
    rows: RowSet = read(folder if base is None else base / folder, part, limit=limit)
    return rows


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
