"""Presets of the update rules: gradient rectification, bi-level, sharpness-aware and primal-dual unlearning."""

from __future__ import annotations

from efface.methods.base import Paper
from efface.methods.preset import Preset, Training, scaled

__all__ = ["RULE_PRESETS"]

_GRU = Paper(
    "GRU: Mitigating the Trade-off between Unlearning and Retention for Large Language Models",
    "2503.09117",
    "Wang et al.",
    2025,
    "https://github.com/tmlr-group/GRU",
)
_BLUR = Paper(
    "BLUR: A Bi-Level Optimization Approach for LLM Unlearning",
    "2506.08164",
    "Reisizadeh et al.",
    2025,
    "https://github.com/hadireisizadeh/BLURLLMUnlearning",
)
_SAM = Paper(
    "Towards LLM Unlearning Resilient to Relearning Attacks: A Sharpness-Aware Minimization Perspective and Beyond",
    "2502.05374",
    "Fan et al.",
    2025,
    "https://github.com/OPTML-Group/Unlearn-Smooth",
)
_BASIS = "the best of nine settings on a world that no table shows (docs/results/tuning.md)"
_TWO_PASSES = "Two backward passes a step, over forget and retain rows apart, and memory for one more gradient."

RULE_PRESETS: tuple[Preset, ...] = (
    Preset(
        "gru",
        {"name": "npo"},
        {"name": "nll"},
        Training(),
        scaled(3e-4, 8, objective={"beta": 0.5}, rule={"adds_retain": True}, forget_weight=0.0333, basis=_BASIS),
        "OpenUnlearning's TOFU runs; smoothing 0.8 and no retain gradient in the update, as in the code contributed there",
        rule={"name": "gru", "smoothing": 0.8, "adds_retain": False},
        summary="NPO whose gradient gives way where it would harm the retain rows",
        paper=_GRU,
        notes=(
            "As published nothing pulls the retain rows back, which costs small models most of theirs; rule.adds_retain adds it.",
            _TWO_PASSES,
        ),
    ),
    Preset(
        "blur",
        {"name": "npo"},
        {"name": "nll"},
        Training(10.0, 2.5e-5, 32, "constant", 0.0, 0.0),
        scaled(3e-4, 8, objective={"beta": 0.5}, forget_weight=0.0333, basis=_BASIS),
        "the released MUSE runs: 10 epochs, learning rate 2.5e-5 constant, gamma 1",
        rule={"name": "blur"},
        summary="NPO first, retain rows only across it: bi-level unlearning",
        paper=_BLUR,
        notes=(_TWO_PASSES,),
    ),
    Preset(
        "sam_npo",
        {"name": "npo"},
        {"name": "nll"},
        Training(),
        scaled(3e-4, 8, objective={"beta": 0.5}, forget_weight=0.0333, basis=_BASIS),
        "OpenUnlearning's TOFU runs; rho 0.01 as in the paper, whose own runs are on WMDP and MUSE",
        rule={"name": "sam"},
        summary="NPO at the worst point nearby, so that relearning undoes less",
        paper=_SAM,
        notes=("The forget rows of a step are run twice.",),
    ),
    Preset(
        "pdu",
        {"name": "pdu"},
        {"name": "nll", "weight": 100.0},
        Training(),
        scaled(
            5e-4,
            10,
            stop="off",
            retention={"weight": 50.0},
            rule={"epsilon": 0.05, "dual_warmup_epochs": 1.0},
            forget_weight=0.0167,
            basis=f"{_BASIS}; the facts outside the retain set suffer most",
        ),
        "the authors' TOFU runs in OpenUnlearning: retain weight 100 at the start, bound 0.3, dual step 5 after 5 epochs",
        rule={"name": "primal_dual"},
        summary="flatten the forget answers' logits while the retain loss stays below a bound",
        notes=("The bound rule.epsilon must lie slightly above the retain loss at the start, or the retain weight only grows.",),
    ),
)
