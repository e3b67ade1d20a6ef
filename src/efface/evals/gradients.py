"""The stage of a measuring pass that needs gradients: one norm per item, kept like any other measured row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from efface.data.items import ScoreItem
from efface.evals.measure import Measured
from efface.evals.rows import RowCache

if TYPE_CHECKING:
    from efface.models.protocol import LanguageModel, Progress

__all__ = ["GRADIENT_CHUNK", "with_gradient_norms"]

GRADIENT_CHUNK = 32
"""Items per cache file; a backward pass takes about as long as several scored rows."""


def with_gradient_norms(
    measured: Measured,
    model: LanguageModel,
    items: Sequence[ScoreItem],
    *,
    p: float = 2.0,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Return ``measured`` with the gradient norm of each distinct item.

    A model that gives no gradients (a remote or a guarded one) leaves the reason instead.

    Args:
        measured: What the pass has found so far.
        model: The model of that pass; it needs a method ``gradient_norms(items, p=...) -> list of norms``.
        items: What gradients are wanted of.
        p: Which norm.
        cache: Folder for measured rows; None keeps nothing.
        progress: Called with (items done, items to do).
    """
    if not items:
        return measured
    norms_of = getattr(model, "gradient_norms", None)
    if norms_of is None:
        return replace(measured, no_gradients="needs gradients, which this model does not give (a local model does)")
    wanted = {item.hash: item for item in items}
    store = RowCache(cache, model.fingerprint, {"gradient_p": p}) if cache is not None else None
    found = {key: norm for key, norm in (store.read_norms() if store else {}).items() if key in wanted}
    missing = [item for key, item in wanted.items() if key not in found]
    for start in range(0, len(missing), GRADIENT_CHUNK):
        part = missing[start : start + GRADIENT_CHUNK]
        fresh = {item.hash: norm for item, norm in zip(part, norms_of(part, p=p), strict=True)}
        if store is not None:
            store.write_norms(fresh)
        found |= fresh
        if progress is not None:
            progress(start + len(part), len(missing))
    return replace(measured, gradient_norms={**measured.gradient_norms, **{(key, p): norm for key, norm in found.items()}})
