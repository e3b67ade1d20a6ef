"""Presets of the weight-space methods: task vectors and Who's Harry Potter."""

from __future__ import annotations

from efface.methods.preset import Preset, Training, scaled

__all__ = ["WEIGHTS"]

_BASIS = "the best of nine settings on a world that no table shows (docs/results/tuning.md)"
_MUSE = "MUSE's task vectors: 10 epochs of fine-tuning on the forget rows, learning rate 1e-5, 32 rows, constant; scale 5"
_MUSE_TRAINING = Training(10.0, 1e-5, 32, "constant", 0.0, 0.0, "off")
_REINFORCED = "MUSE's reinforced model: 10 epochs of fine-tuning on the forget rows, learning rate 1e-5, 32 rows, constant; alpha 5"

WEIGHTS: tuple[Preset, ...] = (
    Preset(
        "task_vector",
        {"name": "nll"},
        {"name": "none"},
        _MUSE_TRAINING,
        scaled(2e-4, 10, stop="off", weights={"scale": 2.0}, basis=_BASIS),
        _MUSE,
        notes=(
            "Nothing protects the rest: where forget and retain rows are alike, both go.",
            "Full weights are held twice while it works; with adapter lora they are not.",
        ),
        weights={"name": "task_vector"},
    ),
    Preset(
        "whos_harry_potter",
        {"name": "nll"},
        {"name": "none"},
        _MUSE_TRAINING,
        scaled(2.5e-3, 10, stop="off", basis=_BASIS),
        _REINFORCED,
        adapter="lora",
        notes=(
            "The target's weights stay as they are: whoever holds them has the knowledge.",
            "LoRA is the default: one set of weights serves both passes. Published runs reinforce full weights (adapter: full).",
            "Two forward passes per token; the saved directory names the original and holds the reinforced part.",
        ),
        weights={"name": "whos_harry_potter"},
    ),
    Preset(
        "whos_harry_potter_distilled",
        {"name": "nll"},
        {"name": "nll"},
        Training(2.0, 1e-5, 8, "constant", 0.0, 0.0, "auto"),
        scaled(2e-4, 8, weights={"reinforce_learning_rate": 1e-3, "reinforce_epochs": 10.0}, basis=_BASIS),
        "the paper's two epochs over the new labels, 8 rows; learning rate and retain term ours",
        notes=("The paper uses no retain rows; without them (retention: none) the rest drifts.",),
        weights={"name": "whos_harry_potter_distilled"},
    ),
)
