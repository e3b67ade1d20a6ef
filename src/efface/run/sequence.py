"""Several requests in a row, each on the model the one before it left, and one of them taken back."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efface.adapters.edit_files import remove_module, require_module
from efface.data.overlap import without_digests
from efface.errors import InputError
from efface.models.checks import ADAPTER_FILE, METADATA_FILE, read_json, read_metadata
from efface.models.loading import atomic_directory
from efface.models.peft_types import OWN_TYPES
from efface.models.processes import share
from efface.request import ForgetRequest
from efface.run.execute import RunResult, execute
from efface.run.folder import write_json
from efface.run.progress import Progress, numbered
from efface.run.verbs import changed

__all__ = ["execute_in_turn", "revoke"]


def execute_in_turn(
    requests: Sequence[ForgetRequest],
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> list[RunResult]:
    """Run requests one after another, each on the model the one before it left.

    Args:
        requests: The first names the model; the others name the same one or none.
        output: Folder that gets a run folder per request ("1-NAME", "2-NAME" ...); None takes each request's own.
        overwrite: As in :func:`execute`.
        allow_code: As in :func:`execute`.
        progress: Told of (stage, done, in all), the stages of all but the first with their number.

    Returns:
        What each run left behind; nothing in a process that is not the main one.

    Raises:
        InputError: When a later request names another model, or :func:`execute` refuses one; earlier runs are kept.
    """
    for number, request in enumerate(requests[1:], start=2):
        if request.model not in (None, requests[0].model):
            raise InputError(
                f"Request {number} names the model {request.model}, and the first one {requests[0].model}. Requests in a row share "
                "one model, each continuing on what the one before left. Leave model out of the later ones, or run them alone."
            )
    results: list[RunResult] = []
    for number, request in enumerate(requests, start=1):
        asked = request if number == 1 else changed(request, {"model": _left_by(results)})
        place = None if output is None else Path(output) / f"{number}-{request.name or 'request'}"
        result = execute(asked, output=place, overwrite=overwrite, allow_code=allow_code, progress=numbered(progress, number))
        results += [] if result is None else [result]
    return results


def _left_by(results: list[RunResult]) -> str:
    """Return where the last run left its model; the main process alone knows."""
    return share(lambda: str(results[-1].unlearned.path))


def revoke(model: str | Path, name: str, output: str | Path) -> Path:
    """Write a copy of a model of modules without one of them; what it says is as if that request had never been made.

    Args:
        model: Directory of a model unlearned with adapter grun or reft.
        name: Module, which is the name of its request.
        output: Directory to write; it must not be there yet.

    Returns:
        The output directory, whose lineage calls the request revoked.

    Raises:
        InputError: When the model has no such module, or its requests changed weights and cannot be taken back.
    """
    source, target = Path(model), Path(output)
    kind = str(read_json(source / ADAPTER_FILE).get("peft_type", "")) if (source / ADAPTER_FILE).is_file() else ""
    if kind not in OWN_TYPES:
        raise InputError(
            f"{source.name} has no modules: its requests changed the weights, and one of them cannot be taken out. Requests made "
            "with adapter grun can be revoked. Go back to the model of an earlier request, and make the later ones again."
        )
    if target.exists():
        raise InputError(f"The output {target} is there already. The result is written to a new folder. Give another --output.")
    require_module(source, name)
    with atomic_directory(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        remove_module(temporary, name)
        metadata = read_metadata(temporary)
        entries = [_revoked(entry) if entry.get("module") == name else entry for entry in metadata.get("lineage", [])]
        write_json(temporary / METADATA_FILE, {**metadata, "lineage": entries})
    return target


def _revoked(entry: dict[str, Any]) -> dict[str, Any]:
    """What is left of a request that was taken back: its rows may be kept again, so that their digests go."""
    return {**without_digests(entry), "revoked": True}
