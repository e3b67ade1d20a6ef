"""The caller's data as rows of ``(x, y)``: tensors, NumPy arrays, data frames, data sets and folders of images.

A set of rows is map-style: ``len(rows)`` and ``rows[i] -> (x, y)``, ``x`` a tensor, or a tuple or mapping of tensors, ``y`` a
tensor, or None where there are no labels. Nothing is scaled or shuffled here.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ArrayRows", "Part", "as_rows", "broken_rows", "collate", "image_folder", "labels_of"]

_CHUNK = 64
_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class ArrayRows:
    """Rows held as tensors, one entry per row in each.

    Attributes:
        x: Inputs: a tensor, or a tuple or mapping of tensors of one length.
        y: Labels or targets, or None.
    """

    x: Any
    y: Tensor | None = None

    def __len__(self) -> int:
        return len(_first(self.x))

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.take(index)

    def take(self, rows: Any) -> tuple[Any, Any]:
        """Return ``(x, y)`` of one row, or of several stacked."""
        return _mapped(self.x, lambda tensor: tensor[rows]), None if self.y is None else self.y[rows]


@dataclass(frozen=True)
class Part:
    """Some rows of a set, in the given order.

    Attributes:
        rows: The whole set.
        indices: Which of its rows.
    """

    rows: Any
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.rows[int(self.indices[index])]


def as_rows(data: Any, labels: Any = None, *, target: str | None = None, name: str = "the data") -> Any:
    """Return what a caller has as map-style rows of ``(x, y)``.

    Args:
        data: Map-style rows (returned as they are), a ``DataLoader`` that keeps its order, a pair ``(x, y)``, a tensor, an array, a
            mapping of tensors or arrays, or a data frame. float64 becomes float32.
        labels: Labels or targets of the rows, where ``data`` has none.
        target: Column of a data frame that is the target; the others are the inputs.
        name: How the data are called in an error.

    Raises:
        InputError: When the kind is not known, lengths differ, a value is not a number, or the order is another one each time.
    """
    if data is None:
        raise InputError(f"There is nothing in {name}. Rows are tensors, arrays, a data frame or a data set. Pass them.")
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return _from_frame(data, labels, target, name)
    if hasattr(data, "batch_sampler") and hasattr(data, "dataset"):
        return _from_loader(data, name)
    if isinstance(data, tuple | list) and len(data) == 2 and labels is None and not isinstance(data[0], int | float):
        data, labels = data
    if isinstance(data, Mapping) or _is_array(data) or (isinstance(data, tuple) and all(map(_is_array, data))):
        return _from_arrays(data, labels, name)
    if labels is None and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return data
    raise InputError(
        f"{name} is a {type(data).__name__}. Rows are tensors, arrays, a mapping of them, a data frame, or a data set with a "
        "length and items (x, y). Convert it; an iterable data set has no order to count rows in."
    )


def collate(items: Sequence[Any]) -> tuple[Any, Any]:
    """Stack rows to a batch ``(x, y)``; ``y`` is None where the rows have no labels.

    Raises:
        InputError: When rows differ in form.
    """
    from torch.utils.data import default_collate

    pairs = [item if isinstance(item, tuple | list) and len(item) == 2 else (item, None) for item in items]
    inputs, labels = zip(*pairs, strict=True)
    missing = [label is None for label in labels]
    if any(missing) and not all(missing):
        raise InputError(
            f"{sum(missing)} of {len(missing)} rows have no label. All rows of a set have one, or none has. Label or drop them."
        )
    try:
        return default_collate(list(inputs)), None if missing[0] else default_collate(list(labels))
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"Rows of one set cannot be put into a batch ({type(error).__name__}). Rows have one form and shape. Check the data."
        ) from error


def labels_of(rows: Any) -> NDArray[Any] | None:
    """Return the labels of all rows as an array, or None where they have none."""
    if isinstance(rows, ArrayRows):
        return None if rows.y is None else np.asarray(rows.y)
    if isinstance(rows, Part):
        labels = labels_of(rows.rows)
        return None if labels is None else labels[rows.indices]
    items = [rows[index] for index in range(len(rows))]
    pairs = [item for item in items if isinstance(item, tuple | list) and len(item) == 2 and item[1] is not None]
    return np.stack([np.asarray(y) for _, y in pairs]) if items and len(pairs) == len(items) else None


def image_folder(
    folder: str | Path,
    *,
    size: tuple[int, int],
    target: Callable[[Path], float] | str = "folder",
    grey: bool = False,
) -> tuple[ArrayRows, tuple[str, ...]]:
    """Read a folder of images into memory, pixels in [0, 1], in the order of their paths.

    Args:
        folder: Where they are.
        size: (height, width) that every image is brought to.
        target: "folder": a class per sub-folder, in the order of their names. A path to a CSV with the columns ``file`` and
            ``target``, or a function of an image's path: a number per image, as for age ("12_name_35_f.jpg" -> 35).
        grey: One channel instead of three.

    Returns:
        Rows with x (channels, height, width), and the class names; none for numbers.

    Raises:
        InputError: When there is no image, an image has no target, or a file cannot be read.
    """
    import torch

    root = Path(folder)
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in _IMAGES) if root.is_dir() else []
    if not paths:
        raise InputError(f"There is no image in {root.name}. Images are {', '.join(sorted(_IMAGES))}. Check the folder.")
    names: tuple[str, ...] = ()
    if target == "folder":
        names = tuple(sorted({path.parent.name for path in paths}))
        y = torch.tensor([names.index(path.parent.name) for path in paths])
    else:
        read = _targets_of_file(root, Path(target)) if isinstance(target, str) else target
        y = torch.tensor([float(read(path)) for path in paths])
    return ArrayRows(torch.stack([_pixels(path, size, grey) for path in paths]), y), names


def _targets_of_file(root: Path, table: Path) -> Callable[[Path], float]:
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"file", "target"} <= set(reader.fieldnames or ()):
            raise InputError(
                f"{table.name} has the columns {', '.join(reader.fieldnames or ())}. A table of targets has file and target. "
                "Rename them."
            )
        targets = {row["file"]: row["target"] for row in reader}

    def read(path: Path) -> float:
        key = path.relative_to(root).as_posix()
        if key not in targets:
            raise InputError(f"{table.name} has no target for {key}. Each image has one row. Add it or remove the image.")
        return float(targets[key])

    return read


def _pixels(path: Path, size: tuple[int, int], grey: bool) -> Tensor:
    import torch
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            shown = image.convert("L" if grey else "RGB").resize((size[1], size[0]))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path.name} cannot be read as an image. Images are whole files. Mend or remove it.") from error
    array = np.asarray(shown, dtype=np.float32) / 255
    return torch.from_numpy(array[None] if grey else np.ascontiguousarray(array.transpose(2, 0, 1)))


def _from_frame(frame: Any, labels: Any, target: str | None, name: str) -> ArrayRows:
    if target is not None:
        if target not in frame.columns:
            known = ", ".join(map(str, frame.columns))
            raise InputError(f"{name} has no column {target!r}. It has {known}. Name one of these as the target.")
        labels = frame[target].to_numpy()
        frame = frame.drop(columns=[target])
    kinds = [str(column) for column in frame.columns if not np.issubdtype(np.asarray(frame[column]).dtype, np.number)]
    if kinds:
        raise InputError(
            f"{name} has columns that are not numbers: {', '.join(kinds)}. A net takes numbers. Encode them first, such as one-hot."
        )
    return _from_arrays(frame.to_numpy(dtype=np.float32), labels, name)


def _from_loader(loader: Any, name: str) -> Any:
    from torch.utils.data import SequentialSampler

    if not isinstance(loader.sampler, SequentialSampler):
        raise InputError(
            f"{name} is a loader that shuffles, with another order each time. Rows are counted, so their order must stay. "
            "Pass its dataset, or a loader with shuffle=False; training shuffles by its own seed."
        )
    return loader.dataset


def _from_arrays(x: Any, y: Any, name: str) -> ArrayRows:
    inputs = _mapped(x, _tensor)
    lengths = {len(tensor) for tensor in _leaves(inputs)}
    if len(lengths) != 1:
        raise InputError(
            f"The inputs of {name} have {sorted(lengths)} rows. All inputs have one entry per row. Make them equally long."
        )
    targets = None if y is None else _tensor(y)
    if targets is not None and len(targets) != next(iter(lengths)):
        raise InputError(
            f"{name} has {next(iter(lengths))} inputs and {len(targets)} labels. Each row has one label. Make them equally long."
        )
    for part, values in (("inputs", inputs), ("labels", targets)):
        _check_finite(values, f"the {part} of {name}")
    return ArrayRows(inputs, targets)


def broken_rows(tensor: Tensor) -> list[int]:
    """Return the numbers of the rows that hold NaN or an infinite value.

    A few rows are looked at at a time: ``isfinite`` of a whole column takes nearly twice its bytes.
    """
    if not tensor.is_floating_point():
        return []
    marks = [(~chunk.isfinite()).reshape(len(chunk), -1).any(1).nonzero().ravel() for chunk in tensor.split(_CHUNK)]
    return [_CHUNK * number + int(row) for number, rows in enumerate(marks) for row in rows]


def _check_finite(values: Any, name: str) -> None:
    for tensor in _leaves(values) if values is not None else ():
        broken = broken_rows(tensor)
        if broken:
            raise InputError(
                f"{len(broken)} rows in {name} hold NaN or infinite values, such as row {broken[0]}. A net needs finite "
                "numbers. Fill these values or drop the rows."
            )


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (hasattr(value, "is_floating_point") and hasattr(value, "shape"))


def _tensor(values: Any) -> Tensor:
    import torch

    if not hasattr(values, "is_floating_point"):
        values = np.require(values, requirements="W")  # a read-only array (of a data frame, say) is copied
    tensor = torch.as_tensor(values)
    if tensor.dtype == torch.float64:
        return tensor.float()
    return tensor.long() if tensor.dtype in (torch.int8, torch.int16, torch.int32) else tensor


def _mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(tree, Mapping):
        return {key: function(value) for key, value in tree.items()}
    return tuple(function(value) for value in tree) if isinstance(tree, tuple) else function(tree)


def _leaves(tree: Any) -> list[Any]:
    return list(tree.values()) if isinstance(tree, Mapping) else list(tree) if isinstance(tree, tuple) else [tree]


def _first(tree: Any) -> Any:
    return _leaves(tree)[0]
