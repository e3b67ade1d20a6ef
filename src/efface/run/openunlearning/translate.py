"""From OpenUnlearning's settings to a request, and the list of what could not be carried over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from efface.data.encoding import TEMPLATES
from efface.errors import InputError
from efface.evals.names import OPENUNLEARNING_KEYS
from efface.evals.openunlearning import MUSE_KEYS
from efface.models.checkpoints import MODEL_TEMPLATES, template_of_configuration
from efface.registry import unknown_name
from efface.request import ForgetRequest
from efface.run.openunlearning.methods import HANDLERS, MethodParts, translate_method
from efface.run.openunlearning.settings import Tree, read_settings

__all__ = ["Translation", "Untranslated", "translate"]

_PLUMBING = (
    "hydra",
    "paths",
    "collator",
    "mode",
    "data_split",
    "forget_split",
    "retain_split",
    "holdout_split",
    "trainer.cl",
    *(
        f"trainer.args.{name}"
        for name in (
            "output_dir",
            "logging_dir",
            "logging_steps",
            "report_to",
            "ddp_find_unused_parameters",
            "save_strategy",
            "save_only_model",
            "save_steps",
            "save_total_limit",
            "do_train",
            "do_eval",
            "eval_on_start",
            "eval_strategy",
            "eval_steps",
            "per_device_eval_batch_size",
            "bf16_full_eval",
            "remove_unused_columns",
        )
    ),
)
"""What moves no figure: where things are written, when they are logged, how they are collated."""

_REASONS = {
    "trainer.args.optim": "the optimiser is AdamW with float32 states, not paged",
    "model.model_args.torch_dtype": "weights are trained in float32: a step of 1e-5 is lost in bfloat16 (unlearning.dtype sets it)",
    "model.model_args.attn_implementation": "the attention kernel is transformers' default",
    "model.tokenizer_args.pretrained_model_name_or_path": "the tokenizer is the one in the model's folder",
    "data.anchor": "rows are paired with forget as the anchor",
}
_CAUSES_NOTHING = {"data.anchor": ("forget",), "model.model_args.torch_dtype": ("float32",), "trainer.args.optim": ("adamw_torch",)}
_SCHEDULERS = ("constant", "linear", "cosine")


@dataclass(frozen=True, slots=True)
class Untranslated:
    """One setting without a counterpart.

    Attributes:
        key: Its path.
        value: What it was set to.
        reason: Why it was left out, or what to do instead.
    """

    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        shown = str(self.value)
        return f"{self.key}: {shown if len(shown) <= 80 else shown[:77] + '...'} ({self.reason})"


@dataclass(frozen=True)
class Translation:
    """A request, and what is not in it.

    Attributes:
        request: Keys and values of the request.
        untranslated: Settings that may matter and have no counterpart.
        notes: What differs although it was translated.
    """

    request: Mapping[str, Any]
    untranslated: tuple[Untranslated, ...] = ()
    notes: tuple[str, ...] = ()

    def as_yaml(self) -> str:
        """Return the request as YAML; what is missing from it stands above as comments."""
        lines = ["# Translated from settings of OpenUnlearning."]
        lines += [f"# Note: {note}" for note in self.notes]
        lines += ["# Not translated:", *(f"#   {each}" for each in self.untranslated)] if self.untranslated else []
        return "\n".join(" ".join(line.splitlines()) for line in lines) + "\n" + yaml.safe_dump(dict(self.request), sort_keys=False)


def translate(source: str | Path | Mapping[str, Any] | None = None, *, overrides: Sequence[str] = ()) -> Translation:
    """Translate the settings of an unlearning run.

    Args:
        source: A YAML file, a run's folder with ``.hydra/config.yaml``, a file with a command line, or parsed YAML.
        overrides: Hydra's ``key=value``; they win.

    Returns:
        The request and everything that is not in it.

    Raises:
        InputError: When the settings cannot be read, name no trainer, or one without a method here.
    """
    tree = read_settings(source, overrides)
    method = translate_method(tree)
    if method is None:
        handler = tree.peek("trainer.handler")
        if handler is None:
            raise InputError(
                "The settings name no trainer (trainer.handler, or trainer=NAME). It decides the method. Name the file of an "
                "unlearning run, or add trainer=NAME."
            )
        raise unknown_name("method for OpenUnlearning's trainer", str(handler), list(HANDLERS))
    problems: list[Untranslated] = [Untranslated(*each) for each in method.problems]
    request: dict[str, Any] = {}
    request |= _model(tree, problems)
    request |= _rows(tree, problems)
    request |= _method(method)
    request["adapter"] = "lora" if tree.take("model.model_args.use_lora") else "full"
    training, seed = _training(tree, problems)
    request["unlearning"] = {**training, "stop": {"forget_nll": "off"}}  # they have no stop rule
    request |= {} if seed is None else {"seeds": seed}
    request |= _evaluation(tree, problems)
    task = tree.take("task_name")
    if isinstance(task, str) and task != "???":
        request["output"] = f"runs/{Path(task).name}"
    problems += _left(tree)
    _check(request)
    notes = dict.fromkeys((*tree.notes, *method.notes, *_lacking(request)))
    return Translation(request, tuple(problems), tuple(notes))


def _method(parts: MethodParts) -> dict[str, Any]:
    found: dict[str, Any] = {"method": parts.method if len(parts.method) > 1 else parts.method["name"]}
    if parts.forget_weight is not None:
        found["forget_weight"] = parts.forget_weight
    if parts.retention is not None:
        found["retention"] = parts.retention
    if parts.rule is not None:
        found["rule"] = parts.rule
    return found


def _model(tree: Tree, problems: list[Untranslated]) -> dict[str, Any]:
    key = "model.model_args.pretrained_model_name_or_path"
    place, configuration = tree.take(key), tree.take("model.configuration")
    found: dict[str, Any] = {}
    if isinstance(place, str) and "${" not in place and "$" not in place:
        found["model"] = place
    elif place is not None:
        problems.append(Untranslated(key, place, "a variable stands in it: write the model's place yourself"))
    arguments = tree.take("model.template_args")
    if isinstance(arguments, Mapping):
        template = template_of_configuration(arguments, source="model.template_args")
        if template.name in TEMPLATES:
            found["template"] = template.name
        else:
            problems.append(Untranslated("model.template_args", "...", "tags of its own: no named template has them"))
    elif configuration is not None:
        named = MODEL_TEMPLATES.get(str(configuration).lower())
        if named is None:
            problems.append(Untranslated("model", configuration, "its template is not known here: set template"))
        else:
            found["template"] = named
    tokenizer = tree.peek("model.tokenizer_args.pretrained_model_name_or_path")
    if tokenizer is not None and tokenizer == place:
        tree.take("model.tokenizer_args.pretrained_model_name_or_path")
    return found


def _rows(tree: Tree, problems: list[Untranslated]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("forget", "retain"):
        sets = tree.peek(f"data.{key}") or {}
        if len(sets) > 1:
            problems.append(Untranslated(f"data.{key}", ", ".join(sets), "a request has one set of each kind: the first is taken"))
        for name in list(sets)[:1]:
            place = _place(tree, f"data.{key}.{name}", key, problems)
            found |= {} if place is None else {key: place}
    holdout = tree.take("eval.tofu.holdout_split") or tree.peek("holdout_split")
    if isinstance(holdout, str) and "${" not in holdout and "TOFU" in str(found.get("forget", "")):
        found["holdout"] = f"hub:locuslab/TOFU:{holdout}"
    return found


def _place(tree: Tree, path: str, key: str, problems: list[Untranslated]) -> str | None:
    for inner in ("handler", "args.text_key", "args.question_key", "args.answer_key"):
        tree.take(f"{path}.{inner}")
    longest = tree.take(f"{path}.args.max_length")
    if key == "forget" and longest is not None:
        tree.values["_max_length"] = longest
        tree.take("_max_length")
    given = tree.take(f"{path}.args.hf_args")
    if not isinstance(given, Mapping) or not isinstance(given.get("path"), str):
        problems.append(Untranslated(f"{path}.args.hf_args", given, f"names no data set: set {key} in the request"))
        return None
    if given["path"] == "json" and isinstance(given.get("data_files"), str):
        return str(given["data_files"])
    parts = [str(part) for part in (given.get("name"), given.get("split")) if part not in (None, "train")]
    spec = f"hub:{given['path']}:{':'.join(parts) or 'train'}"
    if "$" in spec:
        problems.append(Untranslated(f"{path}.args.hf_args", spec, f"a variable stands in it: set {key} in the request"))
        return None
    if key == "forget" and given["path"] == "locuslab/TOFU" and not spec.endswith("_perturbed"):
        return f"{spec}_perturbed"  # the same questions and answers, with what the truth ratio needs
    return spec


def _training(tree: Tree, problems: list[Untranslated]) -> tuple[dict[str, Any], int | None]:
    def take(name: str) -> Any:
        return tree.take(f"trainer.args.{name}")

    found: dict[str, Any] = {}
    names = {
        "num_train_epochs": "epochs",
        "learning_rate": "learning_rate",
        "weight_decay": "weight_decay",
        "max_grad_norm": "max_grad_norm",
        "bf16": "bf16",
        "gradient_checkpointing": "gradient_checkpointing",
    }
    for theirs, ours in names.items():
        value = take(theirs)
        if value is not None:
            found[ours] = value
    steps = take("max_steps")
    if steps is not None and steps > 0:
        found["max_steps"] = steps
    rows, parts = take("per_device_train_batch_size"), take("gradient_accumulation_steps")
    if rows is not None:
        found |= {"batch_size": rows * (parts or 1), "micro_batch_size": rows}
        tree.notes.append(f"batch_size {rows * (parts or 1)} is that of one device: multiply it by the number they ran on.")
    scheduler = take("lr_scheduler_type") or "linear"
    if scheduler in _SCHEDULERS:
        found["scheduler"] = scheduler
    else:
        problems.append(Untranslated("trainer.args.lr_scheduler_type", scheduler, f"known: {', '.join(_SCHEDULERS)}"))
    found |= _warmup(take, found.get("epochs"))
    longest = tree.peek("_max_length")
    if longest is not None:
        found["max_length"] = longest
    return found, take("seed")


def _warmup(take: Any, epochs: Any) -> dict[str, Any]:
    passes, steps, share = take("warmup_epochs"), take("warmup_steps"), take("warmup_ratio")
    if passes and epochs:
        return {"warmup": min(float(passes) / float(epochs), 0.99)}  # a share of all steps; 1 would be a number of steps
    if steps:
        return {"warmup": float(steps)}
    return {"warmup": float(share or 0.0)}


def _evaluation(tree: Tree, problems: list[Untranslated]) -> dict[str, Any]:
    suites: list[dict[str, Any]] = []
    for name in tree.peek("eval") or {}:
        path = f"eval.{name}"
        known = _EVALUATORS.get(name)
        if known is None:
            if name == "lm_eval":
                tasks = tree.take(f"{path}.tasks")
                problems.append(Untranslated(f"{path}.tasks", tasks, "run by `efface evaluate MODEL --lm-eval TASKS`"))
            continue
        keys, handlers = known
        for inner in ("handler", "output_dir", "overwrite", "batch_size", "data_split", "forget_split", "question_key"):
            tree.take(f"{path}.{inner}")
        metrics = tree.take(f"{path}.metrics") or {}
        named = list(metrics) if isinstance(metrics, Mapping) else [str(each) for each in metrics]
        problems += [Untranslated(f"{path}.metrics.{each}", "", "no figure of that name") for each in named if each not in keys]
        logs = tree.take(f"{path}.retain_logs_path") or tree.peek("retain_logs_path")
        if logs is not None:
            reason = "compare with it by `efface evaluate --against FILE --variant openunlearning`, or set retrained to the model"
            problems.append(Untranslated(f"{path}.retain_logs_path", logs, reason))
        suites.append(handlers(tree))
    tree.take("retain_logs_path")
    return {"evaluate": suites} if suites else {}


def _tofu(tree: Tree) -> dict[str, Any]:
    sets = ("retain_perturbed", "real_authors_perturbed", "world_facts_perturbed")
    data = {name if name == "retain_perturbed" else name.removesuffix("_perturbed"): f"hub:locuslab/TOFU:{name}" for name in sets}
    return {"suite": "tofu", "variant": "openunlearning", **data}


def _muse(tree: Tree) -> dict[str, Any]:
    corpus = tree.peek("eval.muse.data_split") or tree.peek("data_split") or "News"
    places = {
        "verbmem": "verbmem:forget",
        "forget_qa": "knowmem:forget_qa",
        "forget_qa_icl": "knowmem:forget_qa_icl",
        "retain_qa": "knowmem:retain_qa",
        "retain_qa_icl": "knowmem:retain_qa_icl",
        "privleak_forget": "privleak:forget",
        "privleak_holdout": "privleak:holdout",
    }
    data = {key: f"hub:muse-bench/MUSE-{corpus}:{place}" for key, place in places.items()}
    return {"suite": "muse", "variant": "openunlearning", **data}


_EVALUATORS: Mapping[str, Any] = {
    "tofu": (set(OPENUNLEARNING_KEYS.values()), _tofu),
    "muse": (set(MUSE_KEYS.values()), _muse),
}


def _left(tree: Tree) -> Iterator[Untranslated]:
    for path, value in tree.left():
        if any(path == each or path.startswith(f"{each}.") for each in _PLUMBING) or value in _CAUSES_NOTHING.get(path, ()):
            continue
        if value is None or value == {} or path.startswith("_"):
            continue
        yield Untranslated(path, value, _REASONS.get(path, "no counterpart"))


def _lacking(request: Mapping[str, Any]) -> list[str]:
    missing = [key for key in ("model", "forget") if key not in request]
    return [f"The request lacks {' and '.join(missing)}: write it in before it is run."] if missing else []


def _check(request: Mapping[str, Any]) -> None:
    """Refuse a translation that would be no request: what is missing is filled in for the check only."""
    ForgetRequest.from_tree({"model": "model", "forget": "forget.jsonl", **request})
