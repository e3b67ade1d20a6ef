"""Reading OpenUnlearning's settings: a resolved configuration, an experiment file, a command line; all become one tree.

Its configurations are composed by Hydra. A resolved one (``.hydra/config.yaml`` of a run, ``configs/experiment/examples``) says it.
An experiment file or a command line names parts of the repository instead (``trainer=NPO``, ``override /trainer: NPO``); what those
parts hold stands in the tables below, as far as it could be read there (locuslab/open-unlearning, ``configs/``, 2025-12).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from efface.errors import InputError

__all__ = ["Tree", "read_settings"]

Plain = dict[str, Any]

_ACCEPTED = (
    "Settings are a YAML file of OpenUnlearning (an experiment, or a run's .hydra/config.yaml), a run's folder, or a file with its "
    "command line."
)
_BASE: Plain = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
    "learning_rate": 1e-5,
    "bf16": True,
    "weight_decay": 0.0,
    "num_train_epochs": 10,
    "seed": 0,
}
_NLL = {"gamma": 1.0, "alpha": 1.0, "retain_loss_type": "NLL"}
_TRAINERS: Mapping[str, Plain] = {
    "GradAscent": {},
    "GradDiff": {"method_args": _NLL},
    "NPO": {"method_args": {**_NLL, "beta": 0.1}},
    "DPO": {"method_args": {**_NLL, "beta": 0.1}},
    "SimNPO": {"method_args": {"gamma": 0.125, "alpha": 1.0, "beta": 4.5, "delta": 0.0, "retain_loss_type": "NLL"}},
    "RMU": {
        "method_args": {
            "gamma": 1.0,
            "alpha": 1.0,
            "steering_coeff": 2,
            "retain_loss_type": "EMBED_DIFF",
            "module_regex": r"model\.layers\.7",
            "trainable_params_regex": [".*"],
        }
    },
    "UNDIAL": {"args": {"learning_rate": 1e-4}, "method_args": {**_NLL, "alpha": 0.0, "beta": 10.0}},
    "SatImp": {
        "args": {"num_train_epochs": 5},
        "method_args": {"gamma": 0.1, "alpha": 1.0, "beta1": 5.0, "beta2": 1.0, "retain_loss_type": "NLL"},
    },
    "WGA": {"args": {"num_train_epochs": 5}, "method_args": {**_NLL, "beta": 1.0}},
    "CEU": {"method_args": {"ignore_first_n_answer_tokens": 1}},
    "PDU": {},
    "AltPO": {},
}
_UNREAD = ("PDU", "AltPO")
_TOFU_DATA = {
    key: {f"TOFU_QA_{key}": {"args": {"hf_args": {"path": "locuslab/TOFU", "name": f"${{{key}_split}}", "split": "train"}}}}
    for key in ("forget", "retain")
}
_TOFU: Plain = {
    "forget_split": "forget10",
    "retain_split": "retain90",
    "holdout_split": "holdout10",
    "model": {"model_args": {"pretrained_model_name_or_path": "open-unlearning/tofu_Llama-3.2-1B-Instruct_full"}},
    "trainer": {"args": {"warmup_epochs": 1.0, "learning_rate": 1e-5, "weight_decay": 0.01, "num_train_epochs": 10}},
    "data": {"anchor": "forget", **_TOFU_DATA},
    "eval": {"tofu": {"forget_split": "${forget_split}", "holdout_split": "${holdout_split}"}},
}
_MUSE: Plain = {
    "data_split": "News",
    "forget_split": "forget",
    "retain_split": "retain1",
    "model": {"model_args": {"pretrained_model_name_or_path": "muse-bench/MUSE-${data_split}_target"}},
    "trainer": {"args": {"lr_scheduler_type": "constant"}},
    "data": {
        "anchor": "forget",
        **{
            key: {
                f"MUSE_{key}": {
                    "args": {
                        "hf_args": {"path": "muse-bench/MUSE-${data_split}", "name": "raw", "split": f"${{{key}_split}}"},
                        "max_length": 2048,
                    }
                }
            }
            for key in ("forget", "retain")
        },
    },
    "eval": {"muse": {"data_split": "${data_split}"}},
}
_EXPERIMENTS: Mapping[str, tuple[str, str, Plain]] = {
    "unlearn/tofu/default": ("GradAscent", "Llama-3.2-1B-Instruct", _TOFU),
    "unlearn/tofu/idk": ("DPO", "Llama-3.2-1B-Instruct", _TOFU),
    "unlearn/muse/default": ("GradAscent", "Llama-2-7b-hf", _MUSE),
}
"""Experiment -> trainer, model configuration, and what it sets."""
_IDK = "TOFU_QA_forget_idk"
_OVERRIDE = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./@-]*)=(?P<value>.*)", re.DOTALL)
_GROUPS = ("experiment", "trainer", "model", "eval", "data", "collator", "hydra", "paths")


class Tree:
    """Nested settings of which each leaf is taken once; what is left over has not been translated."""

    def __init__(self, values: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
        self.values = deepcopy(dict(values))
        self.notes = list(notes)
        self._taken: set[str] = set()

    def take(self, path: str, default: Any = None) -> Any:
        """Return what stands at ``a.b.c``, interpolations filled in, and remember that it was used."""
        self._taken.add(path)
        return self.peek(path, default)

    def peek(self, path: str, default: Any = None) -> Any:
        """Return what stands there without using it."""
        found = self._at(path)
        return default if found is None else self._filled(found)

    def left(self) -> Iterator[tuple[str, Any]]:
        """Yield every leaf that was not taken, with its path."""
        for path, value in _leaves(self.values):
            if not any(path == taken or path.startswith(f"{taken}.") for taken in self._taken):
                yield path, value

    def _at(self, path: str) -> Any:
        node: Any = self.values
        for part in path.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
        return node

    def _filled(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, Mapping):
            return {key: self._filled(item, depth) for key, item in value.items()}
        if not isinstance(value, str) or "${" not in value or depth > 8:
            return value
        whole = re.fullmatch(r"\$\{([\w.]+)\}", value)
        if whole:
            found = self._at(whole[1])
            return value if found is None or isinstance(found, Mapping) else self._filled(found, depth + 1)

        def known(match: re.Match[str]) -> str:
            found = self._at(match[1])
            return match[0] if found is None or isinstance(found, Mapping) else str(found)

        filled = re.sub(r"\$\{([\w.]+)\}", known, value)
        return filled if filled == value else self._filled(filled, depth + 1)


def read_settings(source: str | Path | Mapping[str, Any] | None, overrides: Sequence[str] = ()) -> Tree:
    """Return the settings of a run as one tree.

    Args:
        source: A YAML file, a run's folder, a file with a command line, parsed YAML, or None where the overrides say all.
        overrides: Hydra's ``key=value`` as they stand on its command line; they win.

    Raises:
        InputError: When there is nothing there, it is neither form, or an override is malformed.
    """
    own, given = (dict(source), []) if isinstance(source, Mapping) else _read(source)
    assignments = [_parsed(text) for text in (*given, *overrides)]
    named = _named_parts(own, assignments)
    is_resolved = isinstance(own.get("trainer"), Mapping) and "handler" in own["trainer"] and "defaults" not in own
    notes: list[str] = []
    tree = {} if is_resolved else _composed(named, notes)
    _merge(tree, {key: value for key, value in own.items() if key != "defaults"})
    if named.get("trainer"):
        tree.setdefault("trainer", {})["handler"] = named["trainer"]
    if named.get("model"):
        tree.setdefault("model", {})["configuration"] = named["model"]
    if named.get("forget_data") == _IDK:
        _rename_forget(tree)
    for sign, key, value in assignments:
        if key not in _GROUPS and "@" not in key and "/" not in key:
            _assign(tree, key, value, removes=sign == "~")
    if not tree:
        raise InputError(f"There are no settings. {_ACCEPTED} Name one.")
    return Tree(tree, notes)


def _read(source: str | Path | None) -> tuple[Plain, list[str]]:
    if source is None:
        return {}, []
    path = Path(source).expanduser()
    if path.is_dir():
        inner = path / ".hydra" / "config.yaml"
        if not inner.is_file():
            raise InputError(f"{path} holds no .hydra/config.yaml. {_ACCEPTED} Name the file.")
        path = inner
    if not path.is_file():
        raise InputError(f"There is no file {path}. {_ACCEPTED} Check the path.")
    text = path.read_text(encoding="utf-8")
    if path.suffix not in (".yaml", ".yml"):
        return {}, _command_overrides(text, path)
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}. {_ACCEPTED} Mend that line.") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds {type(tree).__name__}, not settings. {_ACCEPTED} Name such a file.")
    if path.name == "overrides.yaml":
        raise InputError(f"{path} holds overrides only. {_ACCEPTED} Name config.yaml beside it.")
    return tree, []


def _command_overrides(text: str, path: Path) -> list[str]:
    """Return the overrides of the first training command in a script."""
    commands = [line for line in text.replace("\\\n", " ").splitlines() if "train.py" in line and not line.lstrip().startswith("#")]
    if not commands:
        raise InputError(f"{path} holds no command that runs src/train.py. {_ACCEPTED} Name such a file.")
    try:
        words = shlex.split(commands[0])
    except ValueError as error:
        raise InputError(f"The command in {path} cannot be read ({error}). {_ACCEPTED} Mend its quotes.") from None
    start = next(index for index, word in enumerate(words) if word.endswith("train.py"))
    return [word for word in words[start + 1 :] if "=" in word and not word.startswith("--")]


def _parsed(text: str) -> tuple[str, str, Any]:
    if text.startswith("~") and "=" not in text:
        return "~", text[1:], None
    found = _OVERRIDE.fullmatch(text)
    if found is None:
        raise InputError(f"{text!r} is no override. Hydra writes them key=value, +key=value or ~key. Mend it.")
    try:
        value = yaml.safe_load(found["value"])
    except yaml.YAMLError:
        value = found["value"]
    return found["sign"] or "", found["key"], _number(value)


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-5 as text, since it has no dot."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _numbers(value: Any) -> Any:
    return {key: _numbers(item) for key, item in value.items()} if isinstance(value, Mapping) else _number(deepcopy(value))


def _named_parts(own: Mapping[str, Any], assignments: Iterable[tuple[str, str, Any]]) -> dict[str, str]:
    """Return the parts of the repository that are named: experiment, trainer, model, forget_data."""
    named: dict[str, str] = {}
    for entry in own.get("defaults") or ():
        for key, value in entry.items() if isinstance(entry, Mapping) else ():
            named |= _part(str(key).removeprefix("override ").lstrip("/"), value)
    for _, key, value in assignments:
        named |= _part(key, value)
    experiment = named.get("experiment", "")
    if experiment in _EXPERIMENTS:
        trainer, model, _ = _EXPERIMENTS[experiment]
        named = {"trainer": trainer, "model": model, **({"forget_data": _IDK} if experiment.endswith("/idk") else {}), **named}
    return named


def _part(key: str, value: Any) -> dict[str, str]:
    name = str(value).removesuffix(".yaml")
    if key in ("experiment", "trainer", "model"):
        return {key: name}
    return {"forget_data": name} if key == "data/datasets@data.forget" else {}


def _composed(named: Mapping[str, str], notes: list[str]) -> Plain:
    """Return what the named parts hold."""
    tree: Plain = {}
    trainer, experiment = named.get("trainer", ""), named.get("experiment", "")
    if trainer:
        _merge(tree, {"trainer": {"args": deepcopy(_BASE)}})
        _merge(tree, {"trainer": deepcopy(_TRAINERS.get(trainer, {}))})
        known = "" if trainer in _UNREAD else f" and {trainer}.yaml"
        notes.append(f"What is not said is taken from OpenUnlearning's configs/trainer/finetune.yaml{known} (2025-12).")
        if trainer in _UNREAD:
            notes.append(f"The settings of its {trainer}.yaml are not known here: efface's own defaults stand in for them.")
    if experiment in _EXPERIMENTS:
        _merge(tree, deepcopy(_EXPERIMENTS[experiment][2]))
    elif experiment:
        notes.append(f"The experiment {experiment} is not among those known here ({', '.join(_EXPERIMENTS)}): translate its file.")
    return tree


def _rename_forget(tree: Plain) -> None:
    """Call the forget data by the name of the part with refusals, which tells the method."""
    forget = tree.get("data", {}).get("forget")
    if isinstance(forget, Mapping) and len(forget) == 1 and _IDK not in forget:
        tree["data"]["forget"] = {_IDK: next(iter(forget.values()))}


def _merge(tree: Plain, other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = _numbers(value)


def _assign(tree: Plain, key: str, value: Any, *, removes: bool) -> None:
    *parents, last = key.split(".")
    for part in parents:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            inner = tree[part] = {}
        tree = inner
    if removes:
        tree.pop(last, None)
    else:
        tree[last] = value


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, node
