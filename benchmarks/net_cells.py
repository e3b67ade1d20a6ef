"""What the results page on ordinary nets runs: which methods on which problem, at which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.net_problems import IAU_PROBLEMS

__all__ = ["CURVE_SHARES", "GROUPS", "IAU_METHODS", "PARTS", "Cell", "cells_of", "curve_cells"]


@dataclass(frozen=True)
class Cell:
    """One method on one problem.

    Attributes:
        label: Row of the table.
        method: Name of the method.
        settings: Its settings, over its defaults.
        labelled: Share of the retain rows that the method is given at all, with their labels.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    labelled: float = 1.0

    @property
    def name(self) -> str:
        """File name; equal cells share it."""
        return self.label.replace(" ", "_").replace("/", "-").replace("%", "pc")


FASTER = {"epochs": 10, "lr_ue": 2e-4, "lr_ra": 4e-4}
"""LAF at four times its rates: its published rates were set for thousands of steps, these runs take hundreds."""
LONGER = {"epochs": 30, "lr_ue": 4e-4, "lr_ra": 8e-4}
"""500 forget rows are 16 steps an epoch; the published 20 epochs of a class of MNIST are 3,750."""

LISSA = {"solver": "lissa", "iterations": 50}
"""Each iteration goes through all retain rows: fifty are as many passes."""

ALL_LAYERS = {"last_layer": False, "damping": 0.1}
"""At the default damping of 0.01 the step over all layers is far too long: a class takes all others with it."""

_CLASSIFIERS = (
    Cell("fine_tune", "fine_tune"),
    Cell("neg_grad", "neg_grad"),
    Cell("neg_grad_plus", "neg_grad_plus"),
    Cell("neg_grad_plus (alpha 0.95)", "neg_grad_plus", {"alpha": 0.95}),
    Cell("random_label", "random_label", {"learning_rate": 1e-3}),
    Cell("bad_teacher", "bad_teacher"),
    Cell("scrub", "scrub"),
    Cell("salun", "salun", {"within": {"name": "random_label", "learning_rate": 1e-3}}),
    Cell("fisher", "fisher"),
    Cell("influence (woodfisher)", "influence"),
    Cell("influence (woodfisher, all layers, damping 0.1)", "influence", ALL_LAYERS),
    Cell("influence (cg)", "influence", {"solver": "cg", "iterations": 20}),
    Cell("influence (lissa)", "influence", LISSA),
    Cell("l1_sparse", "l1_sparse"),
    Cell("boundary_shrink", "boundary_shrink", {"learning_rate": 1e-4}),
    Cell("boundary_expand", "boundary_expand", {"learning_rate": 1e-4}),
    Cell("ssd", "ssd"),
    Cell("iau", "iau"),
    Cell("iau (step 1e-3, as published)", "iau", {"learning_rate": 1e-3}),
    Cell("iau (tolerance 0.2)", "iau", {"tolerance": 0.2}),
    Cell("iau (3 steps)", "iau", {"steps": 3}),
    Cell("laf", "laf", FASTER),
    Cell("laf_r", "laf_r", FASTER),
)
_LAF_TRIED = (
    Cell("laf (published rates)", "laf"),
    Cell("laf (linear decoder, VAE on retain)", "laf", {**FASTER, "decoder_out": "linear", "vae_data": "retain"}),
    Cell("laf (30 epochs, eight times its rates)", "laf", LONGER),
    Cell("laf (30 epochs, four times its rates, temperature 5)", "laf", {**FASTER, "epochs": 30, "temp": 5.0}),
    Cell("laf_r (30 epochs, eight times its rates)", "laf_r", LONGER),
)
"""What else was tried with LAF, on the problem with the fewest forget rows, where it costs least."""
_LAF_ON_ROWS = (
    Cell("laf (temperature 5, as published for random rows)", "laf", {**FASTER, "temp": 5.0}),
    Cell("laf (30 epochs, eight times its rates, temperature 5)", "laf", {**LONGER, "temp": 5.0}),
)
"""What else was tried where rows of classes that stay must go; benchmarks/laf_apart.py says what LAF can see of them."""
_ON_CLASS = (
    Cell("ssd (selection 5)", "ssd", {"selection": 5.0}),
    Cell("unsir", "unsir"),
    Cell("unsir (rates 1e-3)", "unsir", {"learning_rate": 1e-3, "repair_learning_rate": 1e-3}),
)
_ON_ROWS = (Cell("ssd (selection 1)", "ssd", {"selection": 1.0}),)
_SHOWN_FOR_SEEDS = ("fine_tune", "neg_grad", "iau", "iau (tolerance 0.2)", "iau (3 steps)", "laf", "laf_r")
_SEED_CLASSIFIERS = tuple(cell for cell in _CLASSIFIERS if cell.label in _SHOWN_FOR_SEEDS)
_REGRESSORS = (
    Cell("fine_tune", "fine_tune"),
    Cell("neg_grad", "neg_grad"),
    Cell("gaussian_amnesiac", "gaussian_amnesiac"),
    Cell("blindspot", "blindspot"),
    Cell("blindspot (beta 0)", "blindspot", {"beta": 0.0}),
    Cell("blindspot (2 epochs of B)", "blindspot", {"blindspot_epochs": 2}),
    Cell("blindspot (20 epochs)", "blindspot", {"epochs": 20}),
    Cell(
        "blindspot (20 epochs, 20 of B at 2e-3)",
        "blindspot",
        {"epochs": 20, "blindspot_epochs": 20, "blindspot_learning_rate": 2e-3},
    ),
    Cell("iau", "iau"),
)
_ON_BIKE = (Cell("blindspot (40 epochs of B at 3e-3)", "blindspot", {"blindspot_epochs": 40, "blindspot_learning_rate": 3e-3}),)
_ON_EXCHANGE = (Cell("blindspot (60 epochs)", "blindspot", {"epochs": 60}),)
"""What else was tried where the defaults stop short of the retrained model: B trained like it, and more passes."""
IAU_METHODS = (
    Cell("iau", "iau"),
    Cell("woodfisher", "influence"),
    Cell("woodfisher (all layers)", "influence", ALL_LAYERS),
    Cell("cg (all layers)", "influence", {"solver": "cg", "iterations": 20, "last_layer": False}),
    Cell("lissa", "influence", LISSA),
    Cell("scrub", "scrub"),
    Cell("fine_tune", "fine_tune"),
)
CURVE_SHARES = (0.0, 0.01, 0.05, 0.1, 0.5, 1.0)
CURVE_PROBLEM = "fashion_class"


def curve_cells() -> list[Cell]:
    """Return LAF, repaired with labels of a share of the retain rows, beside methods that get these labelled rows alone."""
    found = []
    for share in CURVE_SHARES:
        percent = f"{100 * share:g}%"
        laf = Cell(f"curve laf {percent}", "laf", LONGER)
        found.append(laf if share == 0 else Cell(f"curve laf {percent}", "laf_r", {**LONGER, "labelled_share": share}))
        if share:
            found += [Cell(f"curve {name} {percent}", name, labelled=share) for name in ("fine_tune", "neg_grad_plus", "scrub")]
    return found


PARTS: Mapping[str, tuple[str, ...]] = {
    "fashion": ("fashion_class", "fashion_random", "fashion_noise"),
    "others": ("mnist", "abalone", "bike", "rotated", "exchange", "stsb"),
    "curve": (CURVE_PROBLEM,),
    "iau": IAU_PROBLEMS,
}
"""Part of the page -> its problems."""

GROUPS: Mapping[str, tuple[Cell, ...]] = {
    "fashion_class": (*_CLASSIFIERS, *_LAF_TRIED, *_ON_CLASS),
    "fashion_random": (*_CLASSIFIERS, *_LAF_ON_ROWS, *_ON_ROWS),
    "fashion_noise": (*_CLASSIFIERS, *_LAF_ON_ROWS, *_ON_ROWS),
    "mnist": _SEED_CLASSIFIERS,
    **dict.fromkeys(("abalone", "rotated", "stsb"), _REGRESSORS),
    "bike": (*_REGRESSORS, *_ON_BIKE),
    "exchange": (*_REGRESSORS, *_ON_EXCHANGE),
}


def cells_of(part: str, problem: str) -> tuple[Cell, ...]:
    """Return the cells of a part on one of its problems."""
    if part == "curve":
        return tuple(curve_cells())
    return IAU_METHODS if part == "iau" else GROUPS[problem]
