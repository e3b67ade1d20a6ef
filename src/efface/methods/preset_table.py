"""Methods by their public names: a preset is an alias for four plugs, their weights and the training defaults of its paper.

Below :data:`SMALL_MODEL` parameters the papers' learning rates cannot work (a step of 1e-5 is lost against weights that were
trained from scratch at 5e-3), so every preset also has scaled defaults and says how they were chosen. What a caller sets wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from efface.methods.base import Paper
from efface.results import Intention

__all__ = ["ALIASES", "PRESETS", "SMALL_MODEL", "Preset", "Scaled", "Training", "general_preset", "is_small"]

SMALL_MODEL = 5_000_000
"""Models with fewer parameters get a preset's scaled defaults."""


@dataclass(frozen=True, slots=True)
class Training:
    """Training defaults of a method.

    Attributes:
        epochs: Passes over the forget set.
        learning_rate: Peak learning rate.
        batch_size: Forget rows per optimiser step.
        scheduler: "constant", "linear" or "cosine".
        warmup: Share of all steps spent warming up.
        weight_decay: AdamW's weight decay.
        stop: "auto" ends once the forget rows are less likely than rows never seen; "off" where a method raises their NLL long
            before the facts are gone.
    """

    epochs: float = 10.0
    learning_rate: float = 1e-5
    batch_size: int = 32
    scheduler: Literal["constant", "linear", "cosine"] = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.01
    stop: Literal["auto", "off"] = "auto"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields under their names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scaled:
    """What a preset changes for models below :data:`SMALL_MODEL` parameters.

    Attributes:
        training: Training defaults there.
        objective: Hyper-parameters of the objective that differ.
        retention: Hyper-parameters of the retention term that differ.
        forget_weight: Factor of the forget loss, where it differs.
        basis: How these values were chosen.
    """

    training: Training
    objective: Mapping[str, Any] = field(default_factory=dict)
    retention: Mapping[str, Any] = field(default_factory=dict)
    forget_weight: float | None = None
    basis: str = "a small grid on embedded models of 0.5 to 1.4 million parameters; starting points, not optima"


@dataclass(frozen=True, slots=True)
class Preset:
    """A method's public name, spelt out.

    Attributes:
        name: Lower snake case.
        objective: Objective name and the hyper-parameters that differ from its own defaults.
        retention: The same for the retention term.
        training: The paper's (or its benchmark's) training defaults.
        scaled: Defaults for small models.
        source: Where ``training`` and the weights come from.
        rule: Update rule.
        adapter: What is trained.
        forget_weight: Factor of the forget loss.
        summary: One line; by default the objective's.
        paper: Paper; by default the objective's.
        intention: What it sets out to do; by default the objective's.
        notes: What a user should know before choosing it.
    """

    name: str
    objective: Mapping[str, Any]
    retention: Mapping[str, Any]
    training: Training
    scaled: Scaled
    source: str
    rule: Mapping[str, Any] = field(default_factory=lambda: {"name": "sum"})
    adapter: str = "auto"
    forget_weight: float = 1.0
    summary: str = ""
    paper: Paper | None = None
    intention: Intention | None = None
    notes: tuple[str, ...] = ()

    def training_for(self, parameters: int | None) -> Training:
        """Return the training defaults for a model of ``parameters`` parameters (None: not known, the paper's)."""
        return self.scaled.training if is_small(parameters) else self.training

    def warning_for(self, learning_rate: float, parameters: int | None) -> str | None:
        """Return a sentence when ``learning_rate`` is below the workable range for a model of that size, else None.

        The range starts at a tenth of the default for the size: there a run of the default length no longer reaches forgetting.
        """
        default = self.training_for(parameters).learning_rate
        if learning_rate * 10 >= default:
            return None
        size = f"a model of {parameters:,} parameters" if parameters is not None else "a model of unknown size"
        return (
            f"The learning rate {learning_rate:g} is far below what {self.name} works with on {size} (about {default:g}); it is "
            "used as given, and will probably change next to nothing. Raise it, or leave it out to use the default."
        )


def is_small(parameters: int | None) -> bool:
    """Whether a model of ``parameters`` parameters gets scaled defaults; an unknown size counts as large."""
    return parameters is not None and parameters < SMALL_MODEL


_TOFU = "OpenUnlearning's TOFU runs: 10 epochs, learning rate 1e-5, 32 rows, one epoch of warm-up, linear decay"
_TOFU_5 = "TOFU's own runs: 5 epochs, learning rate 1e-5, 32 rows, one epoch of warm-up, linear decay"
_TEN = Training()
_FIVE = Training(epochs=5.0, warmup=0.2)
_FLAT_TRAINING = Training(epochs=5.0, batch_size=64, warmup=0.2)
_FLAT_SOURCE = "the released code: 5 epochs, learning rate 1e-5, 16 rows x 4 accumulation steps, one epoch of warm-up"
_FLAT_NOTES = (
    "Nothing anchors the retain rows unless a retention term is added, which departs from the paper.",
    "Learns the refusals only where the model already finds them plausible; a warning says when it does not.",
)


def _scaled(learning_rate: float, epochs: float, *, stop: Literal["auto", "off"] = "auto", **changes: Any) -> Scaled:
    batch_size = changes.pop("batch_size", 8)
    training = Training(epochs, learning_rate, batch_size, "constant", 0.1, 0.0, stop)
    return Scaled(training, **changes)


def _flat(divergence: str) -> Preset:
    return Preset(
        f"flat_{divergence}",
        {"name": "flat", "divergence": divergence},
        {"name": "none"},
        _FLAT_TRAINING,
        _scaled(1e-4, 4),
        _FLAT_SOURCE,
        summary=f"FLAT with the {divergence} divergence: raise a refusal and lower the forget answer, from forget data alone",
        notes=_FLAT_NOTES,
    )


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "ga",
            {"name": "ga"},
            {"name": "none"},
            _TEN,
            _scaled(2e-4, 4),
            _TOFU,
            notes=("Unbounded and unprotected: collapses soon after the answers are gone. Keep the stop rule on.",),
        ),
        Preset(
            "grad_diff",
            {"name": "ga"},
            {"name": "nll"},
            _TEN,
            _scaled(5e-4, 5, forget_weight=0.2),
            _TOFU,
            summary="gradient ascent on the forget answers, gradient descent on the retain rows",
            paper=Paper("Continual Learning and Private Unlearning", "2203.12817", "Liu, Liu and Stone", 2022),
            notes=("Over-forgets: the forget answers become less likely than in a model that never saw them.",),
        ),
        Preset(
            "ga_kl",
            {"name": "ga"},
            {"name": "kl"},
            _TEN,
            _scaled(3e-4, 8, forget_weight=0.2),
            _TOFU,
            summary="gradient ascent on the forget answers, KL to the original on the retain rows",
            paper=Paper(
                "TOFU: A Task of Fictitious Unlearning for LLMs",
                "2401.06121",
                "Maini et al.",
                2024,
                "https://github.com/locuslab/tofu",
            ),
        ),
        Preset(
            "idk",
            {"name": "idk"},
            {"name": "nll"},
            _FIVE,
            _scaled(5e-4, 10),
            _TOFU_5,
            notes=("Hides rather than removes: the answers come back after a few relearning steps.",),
        ),
        Preset(
            "dpo",
            {"name": "dpo", "alternate": "row"},
            {"name": "nll"},
            _FIVE,
            _scaled(3e-4, 6, forget_weight=0.1),
            f"{_TOFU}; 5 epochs, since 10 cost most of the utility there",
            notes=("Needs perturbed_answer in every forget row; idk_dpo uses refusals instead.",),
        ),
        Preset(
            "idk_dpo",
            {"name": "dpo", "alternate": "refusal"},
            {"name": "nll"},
            _FIVE,
            _scaled(5e-4, 10),
            f"{_TOFU}; 5 epochs, since 10 cost most of the utility there",
            summary="prefer a refusal to the forget answer",
            paper=Paper(
                "TOFU: A Task of Fictitious Unlearning for LLMs",
                "2401.06121",
                "Maini et al.",
                2024,
                "https://github.com/locuslab/tofu",
            ),
        ),
        Preset("npo", {"name": "npo"}, {"name": "nll"}, _TEN, _scaled(3e-4, 8, objective={"beta": 0.5}, forget_weight=0.1), _TOFU),
        Preset(
            "npo_forget",
            {"name": "npo"},
            {"name": "none"},
            _TEN,
            _scaled(2e-4, 4, objective={"beta": 0.5}),
            _TOFU,
            summary="NPO's loss alone",
            notes=("Slower to collapse than gradient ascent, but it does collapse: nothing protects the rest.",),
        ),
        Preset(
            "npo_kl",
            {"name": "npo"},
            {"name": "kl"},
            _TEN,
            _scaled(3e-4, 8, objective={"beta": 0.5}, forget_weight=0.1),
            _TOFU,
            summary="NPO with KL to the original on the retain rows",
        ),
        Preset(
            "simnpo",
            {"name": "simnpo"},
            {"name": "nll"},
            _TEN,
            _scaled(5e-4, 10, forget_weight=0.3),
            f"{_TOFU}; beta 2.5 and forget weight 0.1375 as in the paper's TOFU forget05 run",
            forget_weight=0.1375,
            notes=("Sensitive to beta: the forget gradient vanishes once beta times the mean NLL is well above 1.",),
        ),
        Preset("wga", {"name": "wga"}, {"name": "nll"}, _TEN, _scaled(5e-4, 6, forget_weight=0.5), _TOFU),
        Preset(
            "rmu",
            {"name": "rmu"},
            {"name": "embedding", "weight": 100.0},
            Training(1.0, 5e-5, 4, "constant", 0.0, 0.01, "off"),
            _scaled(3e-3, 12, stop="off", objective={"layer": 1, "trained": "mlp"}, retention={"weight": 5.0}),
            "the released code: layer 7, c 20, alpha 100, learning rate 5e-5, 4 rows, one pass of at most 150 batches",
            notes=("Sensitive to its settings (layer, c, retain weight); what it hides returns after a few relearning steps.",),
        ),
        *(_flat(divergence) for divergence in ("kl", "js", "pearson", "tv")),
    )
}

ALIASES: Mapping[str, str] = {
    "gradient_ascent": "ga",
    "gd": "grad_diff",
    "graddiff": "grad_diff",
    "gradient_difference": "grad_diff",
    "ga_gdr": "grad_diff",
    "ga_klr": "ga_kl",
    "kl_minimization": "ga_kl",
    "po": "idk",
    "idk_nll": "idk",
    "preference_optimization": "idk",
    "npo_gd": "npo",
    "npo_gdr": "npo",
    "npo_rt": "npo",
    "npo_klr": "npo_kl",
    "sim_npo": "simnpo",
    "flat": "flat_kl",
}
"""Other spellings of methods, all in this table."""


def general_preset(name: str, retention: str) -> Preset:
    """Return general defaults for an objective that no preset names, such as one of another package."""
    return Preset(
        name,
        {"name": name},
        {"name": retention},
        _TEN,
        _scaled(5e-4, 8, basis="the middle of the range the built-in methods use; not measured for this one"),
        "general defaults; this objective has no preset",
    )
