"""Where a model comes from: the requests it has been through, kept in its ``efface.json`` without a word of their rows.

Per request: its name and hash, method, intention and seed, the weights it started from and those it left, and a keyed digest of
every forget row, so that a later request cannot teach them back by mistake. A digest gives no row away, but whoever guesses a row
word for word can check the guess.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efface.adapters.base import Adapter
from efface.data.overlap import row_digest
from efface.data.schema import RowSet
from efface.errors import InputError
from efface.models.checks import ADAPTER_FILE, ModelInfo, read_json, read_metadata
from efface.models.fingerprint import weights_hash
from efface.models.peft_types import OWN_TYPES

__all__ = ["Lineage", "keep_forgotten", "model_identity", "read_lineage", "require_continuable"]


@dataclass(frozen=True)
class Lineage:
    """The requests a model has been through, oldest first.

    Attributes:
        base: Weights hash of the model the first request started from; empty where there was none.
        entries: What is kept of each request.
    """

    base: str = ""
    entries: tuple[Mapping[str, Any], ...] = field(default=())

    def forgotten(self, rows: RowSet) -> list[int]:
        """Return the positions of rows that an earlier request, not revoked since, had to forget."""
        known = {digest for entry in self.entries for digest in entry["forget"].get("digests", ())}
        return [i for i, row in enumerate(rows) if row_digest(row, self.base) in known] if known else []

    def extended(self, model: str | Path, forget: RowSet, **facts: Any) -> list[dict[str, Any]]:
        """Return the entries with one for a request on ``model`` that makes it forget ``forget``."""
        started_from = model_identity(model)
        base = self.base or started_from
        own = {
            **facts,
            "started_from": started_from,
            "forget": {
                "rows": len(forget),
                "sha256": forget.content_hash,
                "digests": [row_digest(row, base) for row in forget],
            },
        }
        return [*(dict(entry) for entry in self.entries), own]


def read_lineage(model: str | Path | None) -> Lineage:
    """Return the lineage of a model directory; empty for a model that efface has not unlearned."""
    metadata = read_metadata(model) if model is not None and Path(model).is_dir() else {}
    entries = list(metadata.get("lineage", []))
    if not entries:
        return Lineage()
    entries[-1] = {**entries[-1], "weights_hash": metadata.get("weights_hash", "")}
    return Lineage(entries[0]["started_from"], tuple(entries))


def keep_forgotten(lineage: Lineage, forget: RowSet, retain: RowSet | None, *, drops: bool) -> RowSet | None:
    """Return the retain set without rows that an earlier request had to forget, or refuse it.

    Args:
        lineage: The model's.
        forget: Rows of the new request; a warning says how many were forgotten before.
        retain: Rows to keep, or None.
        drops: Take such rows out instead of refusing.

    Raises:
        InputError: When retain rows were forgotten before and are not to be dropped, or none would be left.
    """
    again = lineage.forgotten(forget)
    if again:
        warnings.warn(f"{len(again)} of {len(forget)} forget rows were already in an earlier request on this model.", stacklevel=2)
    clash = set(lineage.forgotten(retain)) if retain is not None else set()
    if retain is None or not clash:
        return retain
    if not drops:
        raise InputError(
            f"{len(clash)} of {len(retain)} retain rows had to be forgotten by an earlier request on this model, and training on "
            "them would teach them back. Give rows that may stay, or pass --drop-overlap (drop_overlap: true) to take them out."
        )
    kept = tuple(row for i, row in enumerate(retain) if i not in clash)
    if not kept:
        raise InputError(
            "Every retain row had to be forgotten by an earlier request on this model, so none would be left. The retain set holds "
            "what must stay. Give other rows, or leave the retain set out."
        )
    return RowSet(kept, retain.source)


def require_continuable(method: str, adapter: Adapter, info: ModelInfo) -> None:
    """Refuse an adapter that cannot be put on a model which already is an adapter's directory.

    Raises:
        InputError: When modules would meet trained weights, or a part would have no base on disk.
    """
    if not info.is_adapter:
        return
    place = Path(info.source).name
    if str(read_json(Path(info.source) / ADAPTER_FILE).get("peft_type", "")) in OWN_TYPES:
        if adapter.trains_weights:
            raise InputError(
                f"{place} holds modules on a frozen original, and adapter {adapter.name} would train the weights under them. "
                "Further requests on it are modules too. Choose a method with adapter grun, or start from the original."
            )
        return
    if not adapter.trains_weights or (method == "whos_harry_potter" and adapter.name == "lora"):
        raise InputError(
            f"{place} is an adapter already, and what {method} adds beside it would have no base on disk. It needs a model with "
            "weights of its own. Merge the adapter into the weights first, or set adapter to full where the method allows it."
        )


def model_identity(model: str | Path) -> str:
    """Return what tells a model from others: the hash of its weights, or of a hub id its name."""
    if not Path(model).is_dir():
        return str(model)
    return str(read_metadata(model).get("weights_hash") or weights_hash(model))
