"""Presets of the newer losses: reweighted, bounded and distilled ones, answers of the model's own, answer preservation."""

from __future__ import annotations

from typing import Any

from efface.methods.base import Paper
from efface.methods.preset import Preset, Scaled, Training
from efface.methods.preset import scaled as _scaled

__all__ = ["LOSSES_NEWER"]

_BASIS = "the best of nine settings on a world that no table shows (docs/results/tuning.md)"
_FIVE = Training(epochs=5.0, warmup=0.2)
_CLOSER_LOOK = Paper(
    "A Closer Look at Machine Unlearning for Large Language Models",
    "2410.08109",
    "Yuan et al.",
    2024,
    "https://github.com/sail-sg/closer-look-LLM-unlearning",
)


def scaled(learning_rate: float, epochs: float, **changes: Any) -> Scaled:
    """Return small-model defaults that were chosen as _BASIS says."""
    return _scaled(learning_rate, epochs, basis=_BASIS, **changes)


LOSSES_NEWER: tuple[Preset, ...] = (
    Preset(
        "satimp",
        {"name": "satimp"},
        {"name": "nll"},
        _FIVE,
        scaled(2e-4, 8, objective={"beta1": 1.0, "beta2": 0.0}, forget_weight=0.3),
        "OpenUnlearning's configuration: beta1 5, beta2 1, forget weight 0.1, retain weight 1, 5 epochs, learning rate 1e-5",
        forget_weight=0.1,
        notes=("Starts slowly on what is memorised well: the weight of a token with p = 0.999 is a thousandth. beta2 0 does not.",),
    ),
    Preset(
        "ceu",
        {"name": "ceu"},
        {"name": "nll"},
        Training(epochs=9.0, learning_rate=2e-6),
        scaled(3e-4, 8, stop="off", forget_weight=0.1),
        "the author's run: 9 epochs, learning rate 2e-6; the retain term is ours",
        notes=("The published method has no retain term and takes the rest of the model along; this preset adds one.",),
    ),
    Preset(
        "undial",
        {"name": "undial"},
        {"name": "nll"},
        Training(learning_rate=1e-4),
        scaled(5e-4, 8, stop="off", objective={"beta": "auto"}, forget_weight=0.3),
        "OpenUnlearning's configuration: beta 10, 10 epochs, learning rate 1e-4; the retain term is ours",
        notes=(
            "beta must exceed the logit margin of the memorised tokens, or greedy answers stay as they are; beta auto measures it.",
            "The paper has no retain term; this preset adds one.",
        ),
    ),
    Preset(
        "me",
        {"name": "me"},
        {"name": "nll"},
        _FIVE,
        scaled(5e-4, 10, stop="off", forget_weight=0.133),
        "the paper: forget weight 0.1, retain weight 1, 5 epochs, learning rate 1e-5",
        forget_weight=0.1,
        notes=("The forget answers end at ln V nats per token, which no model that never saw them shows.",),
    ),
    Preset(
        "idk_ap",
        {"name": "idk"},
        {"name": "ap"},
        _FIVE,
        scaled(3e-4, 10, stop="off", forget_weight=0.3),
        "the paper: beta 0.1, both weights 1, 5 epochs, learning rate 1e-5",
        summary="learn to refuse the forget prompts, and prefer the answer to a refusal on the retain rows",
        paper=_CLOSER_LOOK,
        notes=("Hides rather than removes, as idk does.", "The retain rows must be questions with answers."),
    ),
    Preset(
        "ihl",
        {"name": "ihl"},
        {"name": "nll"},
        _FIVE,
        scaled(2e-4, 6, stop="off", forget_weight=0.5),
        "TOFU's own schedule, which the released code takes over: 5 epochs, 32 rows, one epoch of warm-up",
    ),
    Preset(
        "jensun",
        {"name": "jensun"},
        {"name": "js"},
        Training(learning_rate=8e-6),
        scaled(7.5e-4, 18, stop="off", retention={"weight": 3.0}, forget_weight=0.333),
        "the released code: both weights 1, 10 epochs, learning rate 8e-6, weight decay 0.01",
        notes=(
            "Nothing happens until the refusal's tokens are plausible, and then much at once: watch what no retain row covers.",
        ),
    ),
    Preset(
        "adaptive_rmu",
        {"name": "rmu", "scale": 5.0},
        {"name": "embedding", "weight": 1200.0},
        Training(1.0, 5e-5, 4, "constant", 0.0, 0.01, "off"),
        scaled(3e-3, 12, stop="off", objective={"layer": 1, "trained": "mlp", "scale": 2.0}, retention={"weight": 10.0}),
        "the released script: layer 7, scale 5, alpha 1200, learning rate 5e-5, 4 rows, one pass of at most 500 batches",
        summary="RMU whose target is as long as the frozen activations say",
        paper=Paper(
            "On Effects of Steering Latent Representation for Large Language Model Unlearning",
            "2408.06223",
            "Huu-Tien et al.",
            2024,
            "https://github.com/RebelsNLU-jaist/llm-unlearning",
        ),
        notes=("Like rmu, but for its length: the layer and the retain weight still matter, and what it hides returns.",),
    ),
    Preset(
        "altpo",
        {"name": "altpo"},
        {"name": "nll"},
        Training(learning_rate=5e-5, batch_size=35),
        scaled(7.5e-4, 9, objective={"writing": "deviate"}, forget_weight=0.0333),
        "the released configuration for Llama 3.2: 10 epochs, learning rate 5e-5, 5 rows x 7 accumulation steps, retain weight 1",
        notes=(
            "writing prompt asks the model for other answers and needs one that follows instructions; deviate needs none.",
            "Without a value in the rows, an answer that deviates may say the same in other words.",
        ),
    ),
)
