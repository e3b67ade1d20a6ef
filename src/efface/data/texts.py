"""``texts:DIR``: a folder of works, one file each, as passages of equal length.

Every file is cut into windows of so many words, one after the other; each window is a ``{"text"}`` row whose entity is the work, so
that intervals resample works. The first third of a window's tokens is what a model is given, the rest what it is judged by, as for
any plain text. Equal files give equal rows on every machine, and blanks and line breaks inside a window stay as they are.
"""

from __future__ import annotations

from pathlib import Path

from efface.data.readers import read_text
from efface.data.schema import Row, RowSet
from efface.errors import InputError
from efface.text import word_spans

__all__ = ["LEAST_WORDS", "TEXT_SUFFIXES", "WINDOW_WORDS", "cut_windows", "read_texts"]

TEXT_SUFFIXES = (".txt", ".md", ".text")
WINDOW_WORDS = 150
"""Words of a passage: about 50 are given and 100 to be continued."""
LEAST_WORDS = 12
"""A passage of fewer words cannot be split into a beginning and a continuation worth the name."""


def cut_windows(text: str, size: int = WINDOW_WORDS) -> list[str]:
    """Cut a text into windows of ``size`` words; what is left over at the end joins the last window if it is under half of one.

    In scripts without blanks every character counts as a word. A text of fewer than ``LEAST_WORDS`` words has no window.
    """
    spans = word_spans(text)
    if len(spans) < LEAST_WORDS:
        return []
    starts = list(range(0, len(spans), size))
    if len(starts) > 1 and len(spans) - starts[-1] < size / 2:
        starts.pop()
    stops = [*starts[1:], len(spans)]
    return [text[spans[start][0] : spans[stop - 1][1]] for start, stop in zip(starts, stops, strict=True)]


def read_texts(directory: str | Path, *, words: int = WINDOW_WORDS, limit: int | None = None) -> RowSet:
    """Read every text file of a folder and its subfolders, in the order of their names, as windows of ``words`` words.

    Raises:
        InputError: When the folder is missing, holds no text file or short ones only, a file is not UTF-8, or ``words`` is small.
    """
    folder = Path(directory).expanduser()
    if words < LEAST_WORDS:
        raise InputError(f"Passages of {words} words were asked for. A passage has at least {LEAST_WORDS}. Ask for longer ones.")
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. texts:DIR names a folder with one text file per work. Check the path.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in TEXT_SUFFIXES and path.is_file())
    rows = [
        Row(id=f"{work}-{number:04d}", text=window, entity=work)
        for path in files
        for work in [path.relative_to(folder).with_suffix("").as_posix()]
        for number, window in enumerate(cut_windows(read_text(path), words))
    ]
    if not rows:
        found = f"{len(files)} text files, all of under {LEAST_WORDS} words" if files else "no text file"
        raise InputError(
            f"{folder} holds {found}. texts:DIR reads files that end in {', '.join(TEXT_SUFFIXES)}, one per work. Put them there."
        )
    return RowSet.build(rows[:limit], source=str(folder))
