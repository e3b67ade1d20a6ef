"""Presets of edits of hidden states: GRUN around the losses of its paper, and plain ReFT as its ablation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efface.methods.base import Paper
from efface.methods.preset import Preset, Scaled, Training, scaled
from efface.results import Intention

__all__ = ["GATED"]

_GRUN = Paper(
    "A General Framework to Enhance Fine-tuning-based LLM Unlearning",
    "2502.17823",
    "Ren et al.",
    2025,
    "https://github.com/renjie3/GRUN",
)
_REFT = Paper(
    "ReFT: Representation Finetuning for Language Models",
    "2404.03592",
    "Wu et al.",
    2024,
    "https://github.com/stanfordnlp/pyreft",
)
_TOFU = "the released TOFU commands: 40 epochs, learning rate 4e-3, 16 rows, linear decay, rank 4, blocks 20, 25 and 31 of 32"
_WMDP = "the released WMDP commands: 4 epochs, learning rate 4e-3, 16 rows, gate weight 100, c 300; blocks below the steered one"
_TRAINING = Training(40.0, 4e-3, 16, "linear", 0.0, 0.0, "auto")
_NOTES = (
    "Hides and removes nothing: the weights are untouched, and without the module the knowledge is as it was.",
    "The gate may learn wording rather than content: measure it on questions asked otherwise.",
)


def _grun(
    name: str,
    objective: Mapping[str, Any],
    summary: str,
    small: Scaled,
    *,
    retain: Mapping[str, Any],
    forget_weight: float = 1.0,
    training: Training = _TRAINING,
    source: str = _TOFU,
    gate_weight: float = 10.0,
) -> Preset:
    return Preset(
        name,
        objective,
        retain,
        training,
        small,
        source,
        adapter={"name": "grun", "gate_weight": gate_weight},
        forget_weight=forget_weight,
        summary=summary,
        paper=_GRUN,
        intention=Intention.SUPPRESSION,
        notes=_NOTES,
    )


_SMALL_ADAPTER = {"depths": (0.1,), "gate": "mlp"}
_BASIS = (
    "best of nine rates and weights on a world that no table shows (docs/results/tuning.md), around the first block, a rank and "
    "a weak weight found in two dozen short runs: later edits, and stronger ones, changed a first word and left the facts"
)


def _small(learning_rate: float = 4e-3, epochs: float = 20, *, rank: int = 16, **changes: Any) -> Scaled:
    return scaled(learning_rate, epochs, stop="off", adapter={**_SMALL_ADAPTER, "rank": rank}, basis=_BASIS, **changes)


GATED: tuple[Preset, ...] = (
    _grun(
        "grun_grad_diff",
        {"name": "ga"},
        "gradient difference inside a gated edit of hidden states",
        _small(forget_weight=0.6),
        retain={"name": "nll", "weight": 2.0},
    ),
    _grun(
        "grun_npo",
        {"name": "npo"},
        "NPO inside a gated edit of hidden states",
        _small(1e-2, forget_weight=0.03),
        retain={"name": "nll"},
        forget_weight=100.0,
    ),
    _grun(
        "grun_idk",
        {"name": "idk", "fixed_per_row": True},
        "refusals learnt inside a gated edit of hidden states",
        _small(4e-3, 40, rank=32),
        retain={"name": "nll"},
    ),
    _grun(
        "grun_rmu",
        {"name": "rmu", "layer": -1, "steering_coefficient": 300.0, "trained": "all"},
        "RMU inside a gated edit of hidden states",
        _small(1e-2, objective={"layer": 1, "steering_coefficient": 20.0}, forget_weight=0.333),
        retain={"name": "embedding"},
        training=Training(4.0, 4e-3, 16, "linear", 0.0, 0.0, "off"),
        source=_WMDP,
        gate_weight=100.0,
    ),
    Preset(
        "reft_npo",
        {"name": "npo"},
        {"name": "nll"},
        _TRAINING,
        scaled(1e-2, 20, stop="off", adapter={"rank": 16, "depths": (0.1,)}, forget_weight=0.03, basis=_BASIS),
        "grun_npo's, without the gate: the ablation of its paper",
        adapter="reft",
        forget_weight=100.0,
        summary="NPO inside a low-rank edit of hidden states without a gate",
        paper=_REFT,
        intention=Intention.SUPPRESSION,
        notes=("The ablation of GRUN: every prompt is edited, so the retain rows alone protect the rest.", _NOTES[0]),
    ),
)
