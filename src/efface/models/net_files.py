"""Ordinary nets on disk: a directory with ``model.safetensors`` and ``efface.json``, or a checkpoint of another tool."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_model
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.checks import METADATA_FILE, first_line
from efface.places import atomic_directory

__all__ = ["PREFIXES", "WEIGHTS_FILE", "load_net", "require_net_files", "save_net"]

WEIGHTS_FILE = "model.safetensors"
_PICKLED = (".pt", ".pth", ".ckpt", ".bin")
PREFIXES = ("module.", "model.", "net.", "_orig_mod.")


def save_net(net: nn.Module, directory: str | Path, metadata: Mapping[str, Any]) -> Path:
    """Write a net's weights and buffers, and what is known of them, in one move; return the directory."""
    target = Path(directory)
    with atomic_directory(target) as temporary:
        save_model(net, str(temporary / WEIGHTS_FILE))
        (temporary / METADATA_FILE).write_text(json.dumps(dict(metadata), indent=1, default=str) + "\n", encoding="utf-8")
    return target


def require_net_files(place: str | Path) -> Path:
    """Return the file of weights behind a place, without reading it.

    Raises:
        InputError: When there is none.
    """
    path = Path(place).expanduser()
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"There are no weights at {place}. A checkpoint of a net is a .safetensors or .pt file with its state, or a directory "
            f"with {WEIGHTS_FILE}. Check the path."
        )
    if file.suffix not in (".safetensors", *_PICKLED):
        raise InputError(
            f"{file.name} is no checkpoint that can be read. Weights lie in {', '.join(('.safetensors', *_PICKLED))} files. Save "
            "the net's state_dict() as one of these."
        )
    return file


def load_net(net: nn.Module, place: str | Path) -> nn.Module:
    """Load weights and buffers into ``net`` and return it.

    Args:
        net: A net of the architecture that was saved.
        place: A directory of :func:`save_net`, or a file of a state dictionary, alone or under ``state_dict``, with or without the
            prefix that a wrapper puts before its names. Pickled files are read as weights only.

    Raises:
        InputError: When the file is missing or broken, or its weights do not fit the net.
    """
    file = require_net_files(place)
    is_directory = Path(place).expanduser().is_dir()
    try:
        if is_directory:
            load_model(net, str(file))  # knows which tied weights were saved once
        else:
            net.load_state_dict(_without_prefix(_state(file), set(net.state_dict())))
    except (RuntimeError, SafetensorError) as error:
        state = _state(file) if is_directory else _without_prefix(_state(file), set(net.state_dict()))
        raise InputError(
            f"The weights in {file.name} do not fit the net: {_misfit(state, net) or first_line(error)}. A checkpoint holds the "
            "weights of exactly the architecture that make_model returns. Name the right file, or mend make_model."
        ) from None
    return net


def _misfit(state: Mapping[str, Tensor], net: nn.Module) -> str:
    """Say what differs first: a shape, a name that only the file has, and one that only the net has."""
    expected = net.state_dict()
    parts = []
    for name, tensor in expected.items():
        if name in state and state[name].shape != tensor.shape:
            parts.append(f"{name} has the shape {tuple(state[name].shape)} there and {tuple(tensor.shape)} in the net")
            break
    surplus = [name for name in state if name not in expected]
    missing = [name for name in expected if name not in state]
    if surplus:
        parts.append(f"it holds {surplus[0]} {tuple(state[surplus[0]].shape)}{_more(surplus)}, which the net has not")
    if missing:
        parts.append(f"it lacks {missing[0]} {tuple(expected[missing[0]].shape)}{_more(missing)}, which the net has")
    return "; ".join(parts)


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _state(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # whatever a reader of files makes of bytes that are none of its own
        if file.suffix != ".safetensors" and _is_pickled(file):
            raise InputError(
                f"{file.name} holds more than tensors and plain values, such as a whole net. Code in a checkpoint is never run. "
                "Load it where it was made, and save its state: torch.save(net.state_dict(), FILE)."
            ) from None
        raise InputError(
            f"{file.name} is damaged, or no {'safetensors file' if file.suffix == '.safetensors' else 'file of torch.save'}. A "
            "checkpoint is a .safetensors file, or one that torch.save wrote. Copy it again, or save net.state_dict() anew."
        ) from None
    state = found.get("state_dict", found) if isinstance(found, Mapping) else found
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            f"{file.name} holds no state dictionary. A checkpoint maps names to tensors, alone or under 'state_dict'. Save "
            "net.state_dict()."
        )
    return dict(state)


def _is_pickled(file: Path) -> bool:
    """Whether a file is whole and of torch's form, today's or the one before 1.6."""
    if zipfile.is_zipfile(file):
        try:
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
        except zipfile.BadZipFile:
            return False
    with file.open("rb") as stream:
        return stream.read(1) == b"\x80" and file.stat().st_size > 2


def _without_prefix(state: dict[str, Tensor], expected: set[str]) -> dict[str, Tensor]:
    """Take off a wrapper's prefix where the names fit without it and not with it."""
    for prefix in PREFIXES:
        if set(state) != expected and state and all(name.startswith(prefix) for name in state):
            return _without_prefix({name.removeprefix(prefix): value for name, value in state.items()}, expected)
    return state
