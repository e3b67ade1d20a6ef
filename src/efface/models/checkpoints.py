"""Which template a checkpoint of OpenUnlearning, TOFU or MUSE was trained with.

Their folders hold no template of ours. What says it, best first: ``.hydra/config.yaml`` beside the weights (or beside the folder
that a ``checkpoint-N`` stands in), which spells out ``model.template_args``; the name of the model configuration in the folder's or
hub id's name (``tofu_Llama-3.2-1B-Instruct_full``); the name the weights were initialised from. A folder that plainly comes from
there but tells none of this is asked about: a wrong template moves every figure. Names and tags: locuslab/open-unlearning,
``configs/model/*.yaml``. Specification: evaluation §1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from efface.data.encoding import TEMPLATES, Template
from efface.errors import InputError
from efface.models.checks import has_files, read_json, read_metadata

__all__ = ["MODEL_TEMPLATES", "stored_template", "template_of_checkpoint", "template_of_configuration"]

MODEL_TEMPLATES: Mapping[str, str] = {
    "llama-2-7b-chat-hf": "llama2_chat",
    "llama2-7b-chat": "llama2_chat",
    "tofu_ft_llama2-7b": "llama2_chat",
    "llama-2-7b-hf": "question_answer",
    "llama-2-13b-hf": "question_answer",
    "muse-news": "question_answer",
    "muse-books": "question_answer",
    "phi-1_5": "question_answer",
    "phi-1.5": "question_answer",
    "llama-3.1-8b-instruct": "assistant_chat_dated",
    "llama-3.2-1b-instruct": "assistant_chat_dated",
    "llama-3.2-3b-instruct": "assistant_chat_dated",
    "zephyr-7b-beta": "assistant_chat_dated",
    "qwen2.5-1.5b-instruct": "assistant_chat",
    "qwen2.5-3b-instruct": "assistant_chat",
    "qwen2.5-7b-instruct": "assistant_chat",
    "phi-3.5-mini-instruct": "assistant_chat",
    "gemma-7b-it": "chat",
}
"""Part of a name, in lower case -> named template; the longest part that occurs decides."""

_THEIRS = re.compile(r"(^|[/_-])(open-unlearning|tofu|muse|muse-bench|wmdp)([/_-]|$)", re.IGNORECASE)
_LOGS = ("TOFU_SUMMARY.json", "TOFU_EVAL.json", "MUSE_SUMMARY.json", "MUSE_EVAL.json")
_TAGS = {
    "user_start": "user_start_tag",
    "user_end": "user_end_tag",
    "assistant_start": "asst_start_tag",
    "assistant_end": "asst_end_tag",
}


def stored_template(place: str | Path) -> Template | str | Mapping[str, Any] | None:
    """Return the template a model was left with: as our own record says, else as a checkpoint of theirs tells; None for neither."""
    own = read_metadata(place).get("template") if Path(place).is_dir() else None
    return own if own is not None else template_of_checkpoint(place)


def template_of_checkpoint(place: str | Path) -> Template | None:
    """Return the template of a folder or hub id that comes from OpenUnlearning, TOFU or MUSE; None where it does not.

    Raises:
        InputError: When it does, but nothing says which template.
    """
    folder = Path(place)
    homes = [folder, folder.parent] if folder.name.startswith("checkpoint-") else [folder]
    for home in homes:
        file = home / ".hydra" / "config.yaml"
        if file.is_file():
            return template_of_configuration(_template_args(file), source=str(file))
    name = str(place) if not folder.is_dir() else "/".join(home.resolve().name for home in reversed(homes))
    has_logs = any(has_files(str(home / inner), _LOGS) for home in homes for inner in (".", "evals"))
    if not _THEIRS.search(name) and not has_logs:
        return None
    for said in (name, _initialised_from(folder)):
        found = _template_in(said)
        if found is not None:
            return TEMPLATES[found]
    if not has_logs and not name.startswith("open-unlearning/"):
        return None  # a name alone is no proof
    raise InputError(
        f"{place} looks like a checkpoint of OpenUnlearning, but neither its name nor a .hydra/config.yaml says which model "
        f"configuration it was trained with. The templates are {', '.join(TEMPLATES)}. Name one: --set template=NAME."
    )


def template_of_configuration(arguments: Mapping[str, Any], *, source: str = "template_args") -> Template:
    """Return the template that OpenUnlearning's ``template_args`` spell out, by its name here where it has one.

    Raises:
        InputError: When a tag is missing or not text.
    """
    if arguments.get("apply_chat_template"):
        made = Template(
            name="checkpoint",
            kind="chat",
            system=str(arguments.get("system_prompt") or ""),
            date_string=str(arguments.get("date_string") or ""),
        )
    else:
        missing = [tag for tag in _TAGS.values() if not isinstance(arguments.get(tag), str)]
        if missing:
            raise InputError(
                f"{source} gives no {', '.join(missing)}. A template without apply_chat_template has four tags. Name a template "
                "yourself: --set template=NAME."
            )
        tags = {field: str(arguments[tag]) for field, tag in _TAGS.items()}
        system = str(arguments.get("system_prompt_with_special_tokens") or "")
        made = Template(name="checkpoint", answer_prefix="", system=system, **tags)
    same = (known for known in TEMPLATES.values() if known.model_copy(update={"name": made.name}) == made)
    return next(same, made)


def _template_args(file: Path) -> Mapping[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        arguments = tree["model"]["template_args"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        arguments = None
    if not isinstance(arguments, Mapping):
        raise InputError(
            f"{file} holds no model.template_args. Hydra writes them there for a run of OpenUnlearning. Name a template yourself: "
            "--set template=NAME."
        )
    return arguments


def _initialised_from(folder: Path) -> str:
    file = folder / "config.json"
    return str(read_json(file).get("_name_or_path") or "") if file.is_file() else ""


def _template_in(name: str) -> str | None:
    parts = [part for part in MODEL_TEMPLATES if part in name.lower()]
    return MODEL_TEMPLATES[max(parts, key=len)] if parts else None
