"""A request as a tree of plain values: read from YAML, changed by ``--set``, its paths made absolute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from efface.data.readers import LAYOUTS, is_place_name
from efface.errors import InputError
from efface.registry import closest

__all__ = [
    "EMBEDDED",
    "EMBEDDED_CONTACTS",
    "EMBEDDED_CONTACTS_MINI",
    "EMBEDDED_MINI",
    "EMBEDDED_WORLDS",
    "SETS",
    "anchor",
    "assign",
    "read_yaml",
]

EMBEDDED = "embedded"
EMBEDDED_MINI = "embedded:mini"
EMBEDDED_CONTACTS = "embedded:contacts"
EMBEDDED_CONTACTS_MINI = "embedded:contacts-mini"
EMBEDDED_WORLDS = (EMBEDDED, EMBEDDED_MINI, EMBEDDED_CONTACTS, EMBEDDED_CONTACTS_MINI)
"""Models that need no files: the default world, a smaller one, and both with people who have contacts."""
"""The model name that stands for the small embedded world; its data comes with it."""

SETS = ("forget", "retain", "holdout")
_MODELS = ("model", "retrained", "retrained_2")
_CHOICES = ("method", "retention", "rule", "adapter")


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the keys and values of a request.

    Raises:
        InputError: When the file is missing (names the nearest), is not YAML or holds something else.
    """
    if not file.is_file():
        folder = file.parent if str(file.parent) else Path()
        names = (
            [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml") and not p.name.startswith(".")]
            if folder.is_dir()
            else []
        )
        near = closest(file.name, names)
        guess = f" The nearest name there is {near[0]!r}." if near else ""
        raise InputError(f"There is no request {file}.{guess} A request is a YAML file. Check the path.")
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} is not valid YAML: {reason}. A request holds keys and values. Mend that line.") from None
    if not isinstance(tree, dict):
        raise InputError(
            f"{file} holds {type(tree).__name__}, not keys and values. A request names at least model and forget. Add them."
        )
    return tree


def assign(tree: dict[str, Any], assignment: str) -> None:
    """Apply one ``a.b=c``; a choice given as a bare name becomes a mapping when a hyper-parameter of it is set.

    Raises:
        InputError: When it is no assignment, or its value no YAML.
    """
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise InputError(
            f"{assignment!r} is not an assignment. --set takes path=value, for example --set method.beta=0.2. Mend it."
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"The value of {assignment!r} is not valid YAML. --set takes path=value. Quote the value.") from None
    node = tree
    for key in keys[:-1]:
        below = node.get(key)
        if isinstance(below, str) and key in _CHOICES:
            below = {"name": below}
        node[key] = dict(below) if isinstance(below, Mapping) else {}
        node = node[key]
    node[keys[-1]] = value


def anchor(tree: dict[str, Any], base: Path) -> None:
    """Make the paths of a request absolute, so that it means the same wherever it is read."""
    for key in SETS:
        if isinstance(tree.get(key), (str, Path)):
            tree[key] = _anchored_rows(str(tree[key]), base)
    for key in _MODELS:
        if isinstance(tree.get(key), (str, Path)):
            tree[key] = _anchored_model(str(tree[key]), base)
    for key in ("method", "retention"):
        plug = tree.get(key)
        if isinstance(plug, Mapping) and isinstance(plug.get("refusals"), (str, Path)):
            tree[key] = {**plug, "refusals": str((base / Path(plug["refusals"]).expanduser()).resolve())}
    if isinstance(tree.get("problem"), (str, Path)) and str(tree["problem"]).endswith(".py"):
        tree["problem"] = str((base / Path(tree["problem"]).expanduser()).resolve())
    if isinstance(tree.get("output"), (str, Path)):
        tree["output"] = str((base / Path(tree["output"]).expanduser()).resolve())
    if isinstance(tree.get("evaluate"), list):
        tree["evaluate"] = [_anchored_suite(item, base) for item in tree["evaluate"]]
    elif isinstance(tree.get("evaluate"), Mapping):
        tree["evaluate"] = [_anchored_suite(tree["evaluate"], base)]


def _anchored_rows(spec: str, base: Path) -> str:
    layout, colon, rest = spec.partition(":")
    if colon and layout in LAYOUTS:
        directory, _, part = rest.rpartition(":")
        return f"{layout}:{(base / Path(directory).expanduser()).resolve()}:{part}" if directory else spec
    if spec.startswith("muse:"):
        directory, _, rest = spec.removeprefix("muse:").partition(":")
        return f"muse:{(base / Path(directory).expanduser()).resolve()}:{rest}" if rest else spec
    if spec.startswith("texts:"):
        directory, colon, words = spec.removeprefix("texts:").rpartition(":")
        named, tail = (directory, f":{words}") if colon and words.isdigit() else (spec.removeprefix("texts:"), "")
        return f"texts:{(base / Path(named).expanduser()).resolve()}{tail}"
    if spec.startswith("neighbours:"):
        return f"neighbours:{_anchored_rows(spec.removeprefix('neighbours:'), base)}"
    return spec if is_place_name(spec) else str((base / Path(spec).expanduser()).resolve())


def _anchored_model(spec: str, base: Path) -> str:
    """A model is a path where it reads like one or exists; otherwise a hub id is left alone."""
    path = base / Path(spec).expanduser()
    looks_like_path = spec.startswith((".", "/", "~")) or spec.count("/") > 1
    return str(path.resolve()) if spec not in EMBEDDED_WORLDS and (looks_like_path or path.exists()) else spec


def _anchored_suite(item: Any, base: Path) -> Any:
    if not isinstance(item, Mapping):
        return item
    own = ("suite", "variant", "data", "options", "judges")
    anchored = {k: _anchored_rows(v, base) if isinstance(v, str) and k not in own else v for k, v in item.items()}
    judges = item.get("judges")
    if isinstance(judges, Mapping):
        anchored["judges"] = {k: _anchored_model(v, base) if isinstance(v, str) else v for k, v in judges.items()}
    return anchored
