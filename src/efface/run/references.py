"""Figures of another model from a file: results that were kept, or a log of OpenUnlearning."""

from __future__ import annotations

import json
from pathlib import Path

from efface.errors import InputError
from efface.evals import SuiteData
from efface.evals.metrics.base import Variant
from efface.evals.openunlearning import is_openunlearning_log, read_openunlearning
from efface.results import Results

__all__ = ["is_results_file", "read_results"]

_ACCEPTED = "Figures are read from what `efface evaluate --output` wrote, or from a log of OpenUnlearning."


def is_results_file(place: object) -> bool:
    """Whether a place names a JSON file rather than a model."""
    return isinstance(place, str | Path) and Path(place).suffix == ".json"


def read_results(
    path: str | Path, *, data: SuiteData | None = None, variant: Variant | None = None, role: str = "retrained", seed: int = 0
) -> Results:
    """Read the figures of a model.

    Args:
        path: A JSON file.
        data: The sets a log of OpenUnlearning was made on; it names no rows itself.
        variant: Definitions the figures are to be compared in; None takes any.
        role: What the model of such a log is called.
        seed: Seed of the bootstraps.

    Raises:
        InputError: When the file is missing, holds neither form, or follows other definitions than ``variant``.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"There is no file {file}. {_ACCEPTED} Check the path.")
    try:
        tree = json.loads(file.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{file} is not JSON ({error}). {_ACCEPTED} Copy the file again.") from None
    if is_openunlearning_log(tree):
        results = read_openunlearning(file, data=data, role=role, seed=seed)
    elif isinstance(tree, dict) and {"role", "suite", "metrics", "fingerprint"} <= tree.keys():
        results = Results.from_dict(tree)
    else:
        raise InputError(f"{file} holds no figures of a model. {_ACCEPTED} Name such a file.")
    found = {metric.variant for metric in results.metrics.values()}
    if variant is not None and found and variant not in found:
        raise InputError(
            f"The figures in {file.name} follow the {', '.join(sorted(found))} definitions, and {variant} ones were asked for. "
            f"Models are compared in one variant only. Pass --variant {min(found)}."
        )
    return results
