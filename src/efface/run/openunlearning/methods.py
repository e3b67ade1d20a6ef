"""OpenUnlearning's trainers as methods of ours: names, hyper-parameters, weights, retain terms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from efface.run.openunlearning.settings import Tree

__all__ = ["HANDLERS", "MethodParts", "translate_method"]

_RETENTION = {"NLL": "nll", "KL": "kl", "EMBED_DIFF": "embedding"}
_IDK = re.compile("idk", re.IGNORECASE)
_LAYER = re.compile(r"model(?:\\?\.|\[\.\])layers(?:\\?\.|\[\.\])(\d+)")
_THREE = re.compile(r"layers(?:\\?\.|\[\.\])\((\d+)\|(\d+)\|(\d+)\)(?:\\?\.|\[\.\])mlp(?:\\?\.|\[\.\])down_proj")


@dataclass
class MethodParts:
    """What a trainer becomes in a request.

    Attributes:
        method: ``{"name": ..., **hyper-parameters}``.
        forget_weight: Factor of the forget loss, where it is given.
        retention: Retain term and weight; None leaves the preset's.
        rule: Update rule, where it differs from the preset's.
        problems: (path, value, why it was not translated).
        notes: What differs although it was translated.
    """

    method: dict[str, Any]
    forget_weight: float | None = None
    retention: dict[str, Any] | None = None
    rule: dict[str, Any] | None = None
    problems: list[tuple[str, Any, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Handler:
    """``parameters``: theirs -> ours; ``special``: what is left to a function."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    has_retain: bool = True
    special: Callable[[Tree, MethodParts], None] | None = None


def translate_method(tree: Tree) -> MethodParts | None:
    """Return the method, or None where the handler is none of :data:`HANDLERS`; what was used is taken from the tree."""
    handler = HANDLERS.get(str(tree.peek("trainer.handler")))
    if handler is None:
        return None
    tree.take("trainer.handler")
    parts = MethodParts({"name": handler.name})
    for theirs, ours in handler.parameters.items():
        value = tree.take(f"trainer.method_args.{theirs}")
        if value is not None:
            parts.method[ours] = value
    if handler.has_retain:
        _weights(tree, parts)
    if handler.special is not None:
        handler.special(tree, parts)
    return parts


def _weights(tree: Tree, parts: MethodParts) -> None:
    gamma, alpha = tree.take("trainer.method_args.gamma"), tree.take("trainer.method_args.alpha")
    kind = tree.take("trainer.method_args.retain_loss_type")
    if gamma is not None and gamma > 0:
        parts.forget_weight = float(gamma)
    elif gamma is not None:
        parts.problems.append(("trainer.method_args.gamma", gamma, "a forget weight is above 0"))
    if alpha == 0:
        parts.retention = {"name": "none"}
        return
    if kind is not None and kind not in _RETENTION:
        parts.problems.append(("trainer.method_args.retain_loss_type", kind, f"known here: {', '.join(_RETENTION)}"))
    elif kind is not None:
        parts.retention = {"name": _RETENTION[kind]}
    if alpha is not None:
        parts.retention = {**(parts.retention or {"name": "nll"}), "weight": float(alpha)}


def _forget_data(tree: Tree) -> str:
    return " ".join(tree.peek("data.forget") or {})


def _difference(tree: Tree, parts: MethodParts) -> None:
    """Gradient difference on refusals with a weight below 0 is how their IdkNLL is run: plain descent on the refusals."""
    if _IDK.search(_forget_data(tree)):
        gamma = next((value for path, value, _ in parts.problems if path.endswith("gamma")), None)
        parts.method["name"] = "idk"
        parts.problems = [each for each in parts.problems if not each[0].endswith("gamma")]
        parts.forget_weight = None if gamma is None else abs(float(gamma))
        parts.notes.append("Refusals are drawn from the pool shipped with efface, not from their idk.jsonl.")


def _preference(tree: Tree, parts: MethodParts) -> None:
    data = _forget_data(tree)
    if _IDK.search(data):
        parts.method["name"] = "idk_dpo"
        parts.notes.append("Refusals are drawn from the pool shipped with efface, not from their idk.jsonl.")
    elif re.search("alt", data, re.IGNORECASE):
        parts.method["name"] = "altpo"
        parts.notes.append("altpo has the model write its alternate answers; those of their file are not read.")
    else:
        parts.notes.append("dpo takes a row's own wrong answers (perturbed_answer) as the alternates.")


def _misdirection(tree: Tree, parts: MethodParts) -> None:
    module = tree.take("trainer.method_args.module_regex")
    found = None if module is None else _LAYER.fullmatch(str(module))
    if found is not None:
        parts.method["layer"] = int(found[1])
    elif module is not None:
        parts.problems.append(("trainer.method_args.module_regex", module, "names no single decoder layer: set method.layer"))
    trained = tree.take("trainer.method_args.trainable_params_regex")
    patterns = [trained] if isinstance(trained, str) else list(trained or ())
    if patterns == [".*"]:
        parts.method["trained"] = "all"
    elif len(patterns) == 1 and found is not None and _is_below(str(patterns[0]), int(found[1])):
        parts.method["trained"] = "down_proj"
    elif patterns:
        parts.problems.append(
            ("trainer.method_args.trainable_params_regex", trained, "known: .*, or the down_proj of the layer and the two below")
        )
    parts.notes.append("Their RMU averages over tokens and rows in one step; method.variant: reference does the same.")


def _is_below(pattern: str, layer: int) -> bool:
    found = _THREE.search(pattern)
    return found is not None and [int(each) for each in found.groups()] == [layer - 2, layer - 1, layer]


def _primal_dual(tree: Tree, parts: MethodParts) -> None:
    names = {
        "retain_loss_eps": "epsilon",
        "dual_step_size": "dual_step_size",
        "dual_warmup_epochs": "dual_warmup_epochs",
        "dual_update_upon": "update",
    }
    given = {ours: tree.take(f"trainer.method_args.{theirs}") for theirs, ours in names.items()}
    if tree.take("trainer.method_args.primal_dual") is False:
        parts.rule = {"name": "sum"}
        parts.notes.append("primal_dual is off: the retain bound is a constant without a gradient there, and is left out.")
        return
    settings = {key: value for key, value in given.items() if value is not None}
    parts.rule = {"name": "primal_dual", **settings} if settings else None
    parts.notes.append("Their multiplier moves after every micro-batch, ours after every optimiser step.")


def _alone(tree: Tree, parts: MethodParts) -> None:
    parts.retention = {"name": "none"}


HANDLERS: Mapping[str, _Handler] = {
    "GradAscent": _Handler("ga", has_retain=False, special=_alone),
    "GradDiff": _Handler("grad_diff", special=_difference),
    "NPO": _Handler("npo", {"beta": "beta"}),
    "SimNPO": _Handler("simnpo", {"beta": "beta", "delta": "delta"}),
    "DPO": _Handler("dpo", {"beta": "beta"}, special=_preference),
    "AltPO": _Handler("altpo", {"beta": "beta"}),
    "RMU": _Handler("rmu", {"steering_coeff": "steering_coefficient"}, special=_misdirection),
    "UNDIAL": _Handler("undial", {"beta": "beta"}),
    "SatImp": _Handler("satimp", {"beta1": "beta1", "beta2": "beta2"}),
    "WGA": _Handler("wga", {"beta": "beta"}),
    "CEU": _Handler("ceu", {"ignore_first_n_answer_tokens": "skip"}, has_retain=False, special=_alone),
    "PDU": _Handler("pdu", special=_primal_dual),
}
"""Their trainers by the name of the class."""
