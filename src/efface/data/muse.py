"""MUSE's data (Shi et al., arXiv 2407.06460): news articles and books, in the layout of its data sets on the hub.

A local copy holds, per corpus, one folder per subset (``knowmem``, ``verbmem``, ``privleak``, ``raw``, ``scal``, ``sust``,
``train``) with one file per split: parquet as on the hub (``forget_qa-00000-of-00001.parquet``), or json, jsonl and txt as MUSE's
scripts write them. Fields: ``question`` and ``answer``; ``prompt`` and ``gt``; ``text``, or plain strings. In the books corpus
retain splits are called ``retain2``; both names are read.

A text longer than ``CHUNK_CHARACTERS`` (a whole book is one row on the hub) is cut between paragraphs into rows that a model can
take, each of which knows its article or book: MUSE's own code cuts at 2048 tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from efface.data.schema import RowSet
from efface.errors import InputError
from efface.registry import unknown_name

__all__ = ["CHUNK_CHARACTERS", "CORPORA", "MUSE_SETS", "muse_items", "read_muse", "read_muse_hub", "read_muse_part", "split_place"]

CORPORA = ("news", "books")
CHUNK_CHARACTERS = 6000
"""About 1500 tokens of English, so that a chunk fits into MUSE's 2048."""
MUSE_SETS: Mapping[str, tuple[str, str]] = {
    "verbmem": ("verbmem", "forget"),
    "forget_qa": ("knowmem", "forget_qa"),
    "forget_qa_icl": ("knowmem", "forget_qa_icl"),
    "retain_qa": ("knowmem", "retain_qa"),
    "retain_qa_icl": ("knowmem", "retain_qa_icl"),
    "privleak_forget": ("privleak", "forget"),
    "privleak_holdout": ("privleak", "holdout"),
}
"""Key in the suite -> (subset, split) in the data."""
_SUBSETS = ("knowmem", "verbmem", "privleak", "raw", "scal", "sust", "train")
_CHUNKED = ("raw", "scal", "sust", "train")
_SHARD = re.compile(r"-\d+-of-\d+$")
_WRITTEN = "MUSE's data are written as muse:DIR:news, muse:DIR:books:forget or muse:DIR:news:scal:forget_2."


def split_place(spec: str) -> tuple[str, str, str, str]:
    """Return directory, corpus, subset and split of ``muse:DIR:CORPUS[:[SUBSET:]SPLIT]``; the subset is ``raw`` unless named.

    Raises:
        InputError: When it names no corpus or an unknown subset.
    """
    parts = spec.removeprefix("muse:").split(":")
    places = [i for i, part in enumerate(parts) if part in CORPORA and i > 0]
    if not places or len(parts) - places[-1] > 3:
        raise InputError(f"{spec!r} names no corpus. {_WRITTEN} Write it so.")
    at = places[-1]
    subset, split = ("raw", "", *parts[at + 1 :])[-2:] if len(parts) - at == 3 else ("raw", *parts[at + 1 :], "")[:2]
    if subset not in _SUBSETS:
        raise unknown_name("MUSE subset", subset, list(_SUBSETS))
    return ":".join(parts[:at]), parts[at], subset, split


def read_muse(directory: str | Path, corpus: str) -> dict[str, RowSet]:
    """Return the sets of the suite ``muse`` that a local copy holds, by key.

    Raises:
        InputError: When the folder or all of its parts are missing.
    """
    folder = _folder(directory, corpus)
    found = {key: _rows(*place, path) for key, place in MUSE_SETS.items() if (path := _file(folder, *place)) is not None}
    if not found:
        raise InputError(f"{folder} holds none of knowmem, verbmem and privleak. {_WRITTEN} Check the path.")
    return found


def read_muse_part(directory: str | Path, corpus: str, subset: str, split: str, *, limit: int | None = None) -> RowSet:
    """Return one split of one subset ("raw", "forget"); ``limit`` counts rows after long texts were cut."""
    folder = _folder(directory, corpus)
    path = _file(folder, subset, split)
    if path is None:
        known = sorted({_split_name(file) for file in (folder / subset).glob("*.*")})
        raise unknown_name(f"split in {subset}", split, known, _WRITTEN)
    rows = _rows(subset, split, path)
    return rows if limit is None else RowSet(rows.rows[:limit], rows.source)


def read_muse_hub(name: str, load: Callable[[str], Iterable[Any]]) -> dict[str, RowSet]:
    """Return the sets of the suite from a data set on the hub; ``load`` reads a "SUBSET:SPLIT" of it."""
    found = {}
    for key, (subset, split) in MUSE_SETS.items():
        try:
            items = load(f"{subset}:{split}")
        except InputError:
            if not split.startswith("retain"):
                raise
            items = load(f"{subset}:{split.replace('retain', 'retain2')}")
        found[key] = RowSet.build(muse_items(items, subset, split), source=f"{name}:{subset}:{split}")
    return found


def muse_items(items: Iterable[Any], subset: str, split: str) -> Iterator[dict[str, Any]]:
    """Yield rows of one split; ids count its items, and long texts of the corpus are cut."""
    for number, item in enumerate(items):
        where = f"{subset}-{split}-{number:04d}"
        if isinstance(item, str):
            item = {"text": item}
        if isinstance(item, Mapping) and "prompt" in item and "gt" in item:
            yield {"id": where, "question": item["prompt"], "answer": item["gt"]}
        elif isinstance(item, Mapping) and isinstance(item.get("text"), str) and subset in _CHUNKED:
            for part, text in enumerate(_chunks(item["text"])):
                yield {"id": f"{where}-{part:03d}", "text": text, "entity": where}
        else:
            yield {**item, "id": where} if isinstance(item, Mapping) else item


def _folder(directory: str | Path, corpus: str) -> Path:
    root = Path(directory).expanduser()
    for candidate in (root / corpus, root / f"MUSE-{corpus.capitalize()}", root):
        if any((candidate / subset).is_dir() for subset in _SUBSETS):
            return candidate
    raise InputError(
        f"{root} holds no folder {corpus} or MUSE-{corpus.capitalize()} with knowmem, raw or other subsets. {_WRITTEN} "
        "Check the path."
    )


def _split_name(path: Path) -> str:
    stem = _SHARD.sub("", path.name.split(".")[0]).replace("-", "_")
    return stem.replace("retain2_qa", "retain_qa")


def _file(folder: Path, subset: str, split: str) -> Path | None:
    wanted = split.replace("retain2_qa", "retain_qa")
    names = (wanted, f"{wanted}2") if wanted == "retain" else (wanted,)
    found = [path for path in sorted((folder / subset).glob("*")) if path.suffix in _READ and _split_name(path) in names]
    if len(found) > 1 and not all(_SHARD.search(path.stem) for path in found):
        # The hub once held json beside parquet: the same rows twice.
        found = [path for path in found if path.suffix == ".parquet"] or found[:1]
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise InputError(f"{folder / subset} holds {split} in several files ({listed}). One is read. Put them into one file.")
    return found[0] if found else None


def _rows(subset: str, split: str, path: Path) -> RowSet:
    return RowSet.build(muse_items(_READ[path.suffix](path), subset, split), source=str(path))


def _table(path: Path) -> Iterator[Any]:
    from efface.data.readers import raw_items

    return (item for _, item in raw_items(path))


def _paragraphs(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8-sig")
    yield from (block.strip() for block in re.split(r"\n\s*\n", text) if block.strip())


_READ: Mapping[str, Callable[[Path], Iterable[Any]]] = {
    ".parquet": _table,
    ".json": _table,
    ".jsonl": _table,
    ".txt": lambda path: ["\n\n".join(_paragraphs(path))],
}


def _chunks(text: str, longest: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """Cut a text into pieces of at most ``longest`` characters, between paragraphs where there are any, else between words."""
    piece = ""
    for block in _pieces(text, longest):
        if piece and len(piece) + 2 + len(block) > longest:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{block}" if piece else block
    if piece:
        yield piece


def _pieces(text: str, longest: int) -> Iterator[str]:
    for block in filter(None, map(str.strip, re.split(r"\n\s*\n", text))):
        while len(block) > longest:
            at = max(block.rfind(" ", 1, longest), block.rfind("\n", 1, longest))
            at = at if at > 0 else longest
            yield block[:at].rstrip()
            block = block[at:].lstrip()
        if block:
            yield block
