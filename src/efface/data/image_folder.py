"""Folders of images as rows of ``(x, y)``: a class per sub-folder, or a number per image."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efface.data.net_sets import ArrayRows
from efface.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["image_folder"]

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


def image_folder(
    folder: str | Path,
    *,
    size: tuple[int, int] | int,
    target: Callable[[Path], float] | str | os.PathLike[str] = "folder",
    grey: bool = False,
) -> tuple[ArrayRows, tuple[str, ...]]:
    """Read a folder of images into memory, pixels in [0, 1], in the order of their paths.

    Args:
        folder: Where they are.
        size: (height, width) that every image is brought to, or one number for a square.
        target: "folder": a class per sub-folder, in the order of their names. A path to a CSV with the columns ``file`` and
            ``target``, or a function of an image's path: a number per image, as for age ("12_name_35_f.jpg" -> 35).
        grey: One channel instead of three.

    Returns:
        Rows with x (channels, height, width), and the class names; none for numbers.

    Raises:
        InputError: When there is no image, an image has no target, or a file cannot be read.
    """
    import torch

    root, shape = Path(folder), _shape_of(size)
    found = root.rglob("*") if root.is_dir() else ()
    paths = sorted(path for path in found if path.suffix.lower() in _IMAGES and path.is_file())
    if not paths:
        raise InputError(f"There is no image in {root.name}. Images are {', '.join(sorted(_IMAGES))}. Check the folder.")
    names: tuple[str, ...] = ()
    if target == "folder":
        names = _class_names(root, paths)
        y = torch.tensor([names.index(path.parent.name) for path in paths])
    else:
        read = target if callable(target) else _targets_of_file(root, Path(target))
        y = torch.tensor([_target_of(read, path) for path in paths])
    return ArrayRows(torch.stack([_pixels(path, shape, grey) for path in paths]), y), names


def _shape_of(size: Any) -> tuple[int, int]:
    shape = (size, size) if isinstance(size, int) else tuple(size)
    if len(shape) != 2 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise InputError(f"The size is {size!r}. Images are brought to (height, width), both at least 1. Pass such a pair.")
    return shape


def _class_names(root: Path, paths: Sequence[Path]) -> tuple[str, ...]:
    loose = [path.name for path in paths if path.parent == root]
    if loose:
        raise InputError(
            f"{len(loose)} images lie in {root.name} itself, such as {loose[0]}. The class of an image is the name of its "
            "sub-folder. Move them into sub-folders, or pass target= a table or a function."
        )
    return tuple(sorted({path.parent.name for path in paths}))


def _target_of(read: Callable[[Path], float], path: Path) -> float:
    try:
        value = float(read(path))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The target of {path.name} cannot be read ({type(error).__name__}: {error}). A target is a number per image. Mend the "
            "function, or the name of the file."
        ) from error
    if not math.isfinite(value):
        raise InputError(f"The target of {path.name} is {value}. A target is a finite number. Mend it or remove the image.")
    return value


def _targets_of_file(root: Path, table: Path) -> Callable[[Path], float]:
    if not table.is_file():
        raise InputError(
            f'There is no table {str(table)!r}. A target is "folder", the path of a CSV with the columns file and target, or a '
            "function of an image's path. Mend the path."
        )
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"file", "target"} <= set(reader.fieldnames or ()):
            raise InputError(
                f"{table.name} has the columns {', '.join(reader.fieldnames or ()) or '(none)'}. A table of targets has file and "
                "target. Rename them."
            )
        targets = {row["file"]: row["target"] for row in reader}

    def read(path: Path) -> float:
        key = path.relative_to(root).as_posix()
        if key not in targets:
            raise InputError(f"{table.name} has no target for {key}. Each image has one row. Add it or remove the image.")
        try:
            return float(targets[key] or "")
        except ValueError:
            raise InputError(
                f"{table.name} says {targets[key] or ''!r} for {key}. A target is a number. Write one or remove the image."
            ) from None

    return read


def _pixels(path: Path, size: tuple[int, int], grey: bool) -> Tensor:
    import torch
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            shown = image.convert("L" if grey else "RGB").resize((size[1], size[0]))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:  # a damaged PNG is a SyntaxError to Pillow
        raise InputError(f"{path.name} cannot be read as an image. Images are whole files. Mend or remove it.") from error
    array = np.asarray(shown, dtype=np.float32) / 255
    return torch.from_numpy(array[None] if grey else np.ascontiguousarray(array.transpose(2, 0, 1)))
