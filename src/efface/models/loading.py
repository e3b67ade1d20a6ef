"""Loading and saving models: plain directories, hub ids and PEFT adapters; checks that need no weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.checks import (
    ADAPTER_FILE,
    CONTRAST_FILE,
    METADATA_FILE,
    TOKENIZER_FILES,
    ModelInfo,
    adapter_base,
    check_model,
    contrast_parts,
    count_parameters,
    expand_user,
    first_line,
    has_files,
    is_adapter,
    read_json,
    read_metadata,
    require_trainable,
    resolve_dtype,
)
from efface.models.contrast import ContrastModel
from efface.models.fingerprint import weights_hash
from efface.models.hooks import unwrap
from efface.models.peft_types import OWN_TYPES, register_peft_types
from efface.places import atomic_directory
from efface.registry import ADAPTERS

__all__ = [
    "METADATA_FILE",
    "CastSurvival",
    "ModelInfo",
    "SaveReport",
    "atomic_directory",
    "cast_survival",
    "check_model",
    "count_parameters",
    "default_device",
    "load_model",
    "load_tokenizer",
    "read_metadata",
    "resolve_dtype",
    "save_model",
]


@dataclass(frozen=True, slots=True)
class CastSurvival:
    """How much of a change of weights is still there in the dtype that is saved.

    Attributes:
        compared: Weights compared.
        changed: Weights that training changed (in the trained dtype).
        survived: Changed weights that still differ from the original after the cast.
    """

    compared: int
    changed: int
    survived: int

    @property
    def share(self) -> float | None:
        """Share of changed weights that survived the cast; None when nothing changed."""
        return self.survived / self.changed if self.changed else None


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What was written.

    Attributes:
        directory: Where.
        weights_hash: Hash of the weights on disk.
        dtype: Dtype on disk.
        survival: How much of the change survived the cast, where an original was named.
    """

    directory: Path
    weights_hash: str
    dtype: str
    survival: CastSurvival | None = None


def default_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(
    path_or_id: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    trainable: bool = False,
    attention: str | None = None,
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer; a PEFT adapter is put on its base.

    Args:
        path_or_id: A directory, an adapter's directory, or a hub id.
        dtype: "auto" is the checkpoint's own dtype, or float32 when ``trainable``.
        device: Where to; the accelerator by default.
        trainable: Return it in training mode with its weights (or the adapter's) requiring gradients.
        attention: Attention kernel ("eager", "sdpa", ...); transformers chooses by default.

    Returns:
        The model and its tokenizer.

    Raises:
        InputError: As :func:`check_model`.
    """
    from transformers import AutoModelForCausalLM

    register_peft_types()
    info = check_model(path_or_id)
    tokenizer = load_tokenizer(path_or_id)
    if info.is_pair:
        if trainable:
            require_trainable(info)
        return _load_pair(info, dtype=dtype, device=device, attention=attention), tokenizer
    kind = resolve_dtype(dtype, stored=info.dtype, trainable=trainable)
    options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
    with _without_bars():
        model: Any = AutoModelForCausalLM.from_pretrained(info.base, dtype=kind, **options)
    if info.is_adapter:
        model = _attach(model, info.source, trainable=trainable)
    model = model.to(device if device is not None else default_device())
    if not info.is_adapter:
        model.requires_grad_(trainable)
    return model.train(trainable), tokenizer


def _load_pair(info: ModelInfo, **options: Any) -> ContrastModel:
    parts = contrast_parts(info.source)
    reinforced, _ = load_model(parts["reinforced"], **options)
    base = None if is_adapter(parts["reinforced"]) else load_model(parts["base"], **options)[0]
    return ContrastModel(base, reinforced, alpha=parts["alpha"], variant=parts["variant"]).eval()


def _attach(model: Any, source: str, *, trainable: bool) -> Any:
    """Put an adapter on its base: one of efface's own by its registered class, any other by PEFT."""
    kind = str(read_json(Path(source) / ADAPTER_FILE).get("peft_type", ""))
    if kind in OWN_TYPES:
        return ADAPTERS.get(OWN_TYPES[kind]).load(model, source, trainable=trainable)
    from peft import PeftModel

    return PeftModel.from_pretrained(model, source, is_trainable=trainable)


def load_tokenizer(path_or_id: str | Path) -> Any:
    """Load a tokenizer; a missing pad token is filled by an existing one, so that no embedding is ever resized."""
    from transformers import AutoTokenizer

    source = expand_user(path_or_id)
    if is_adapter(source) and not has_files(source, TOKENIZER_FILES):
        source = adapter_base(source, read_json(Path(source) / ADAPTER_FILE))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"The tokenizer of {source} cannot be read ({first_line(error)}). A model needs its tokenizer beside its weights. "
            "Save the tokenizer into the same directory."
        ) from error
    if tokenizer.pad_token is None:
        # Padding is masked by length, so its id never matters; EOS is always in the vocabulary.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def save_model(
    model: Any,
    tokenizer: Any,
    directory: str | Path,
    *,
    dtype: str | torch.dtype,
    metadata: Mapping[str, Any],
    original: str | Path | None = None,
) -> SaveReport:
    """Write a model (or adapter), its tokenizer and ``efface.json``; the directory appears whole or not at all.

    Args:
        model: The model to write; it is not changed.
        tokenizer: Its tokenizer.
        directory: Where to; a directory that efface wrote is replaced.
        dtype: Dtype of full weights on disk ("float32", "bfloat16", ...). Adapters keep the dtype they were trained in.
        metadata: What ``efface.json`` holds besides the hash and the dtype.
        original: Directory of the model before training, to measure how much of the change survives the cast.
    """
    target = Path(directory)
    if isinstance(model, ContrastModel):
        return _save_pair(model, tokenizer, target, dtype=dtype, metadata=metadata, original=original)
    kind = resolve_dtype(dtype)
    has_adapter = hasattr(model, "peft_config") and hasattr(model, "get_base_model")
    if has_adapter:
        kind = next((p.dtype for p in model.parameters() if p.requires_grad), kind)
    survival = None
    before = _weights_directory(original) if original is not None and not has_adapter else None
    if before is not None:
        survival = cast_survival(_stored_state(before, model), unwrap(model).state_dict(), kind)
    with atomic_directory(target) as temporary, _without_bars():
        if has_adapter:
            _write_adapter(model, temporary)
        else:
            _write_weights(unwrap(model), temporary, kind)
        tokenizer.save_pretrained(temporary)
        digest = weights_hash(temporary)
        content = {**metadata, "weights_hash": digest, "dtype": str(kind).removeprefix("torch.")}
        if survival is not None:
            content["cast_survival"] = {"compared": survival.compared, "changed": survival.changed, "survived": survival.survived}
        _write_json(temporary / METADATA_FILE, content)
    return SaveReport(target, digest, str(kind).removeprefix("torch."), survival)


def _save_pair(
    model: ContrastModel,
    tokenizer: Any,
    target: Path,
    *,
    dtype: str | torch.dtype,
    metadata: Mapping[str, Any],
    original: str | Path | None,
) -> SaveReport:
    if original is None:
        raise ValueError("A pair was saved without its original. Its directory names both parts. Pass original=...")
    place = Path(original).expanduser()
    parts = {
        "base": str(place.resolve()) if place.is_dir() else str(original),
        "base_weights_hash": weights_hash(place) if place.is_dir() else str(original),
        "reinforced": "reinforced",
        **model.settings,
    }
    with atomic_directory(target) as temporary:
        inner = save_model(model.reinforced, tokenizer, temporary / "reinforced", dtype=dtype, metadata={}, original=original)
        tokenizer.save_pretrained(temporary)
        _write_json(temporary / CONTRAST_FILE, parts)
        digest = weights_hash(temporary)
        _write_json(temporary / METADATA_FILE, {**metadata, "weights_hash": digest, "dtype": inner.dtype})
    return SaveReport(target, digest, inner.dtype, inner.survival)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def cast_survival(original: Iterator[tuple[str, Tensor]], trained: Mapping[str, Tensor], dtype: torch.dtype) -> CastSurvival:
    """Count changed weights, and those whose change is still there in ``dtype``.

    Args:
        original: Names and tensors of the original, read one at a time, so that no second model is in memory.
        trained: State of the trained model.
        dtype: Dtype the trained model is saved in.
    """
    compared = changed = survived = 0
    for name, before in original:
        after = trained.get(name)
        if after is None or after.shape != before.shape or not after.is_floating_point():
            continue
        after = after.detach().cpu()
        differs = after != before.to(after.dtype)
        compared += before.numel()
        changed += int(differs.sum())
        survived += int((differs & (after.to(dtype).double() != before.to(dtype).double())).sum())
    return CastSurvival(compared, changed, survived)


def _weights_directory(source: str | Path) -> Path | None:
    """Return where the weights of a path or hub id lie on disk, or None."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(source), local_files_only=True, allow_patterns=["*.safetensors"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError):
        return None


def _stored_state(directory: Path, model: Any) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    known = unwrap(model).state_dict().keys()
    prefix = getattr(unwrap(model), "base_model_prefix", "")
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 - not a dict
                # Checkpoints of the bare body leave the prefix of the head's class away.
                yield name if name in known else f"{prefix}.{name}", shard.get_tensor(name)


def _write_adapter(model: Any, directory: Path) -> None:
    model.save_pretrained(directory)
    file = directory / ADAPTER_FILE
    config = read_json(file)
    base = config.get("base_model_name_or_path")
    if base and Path(base).is_dir():
        # A path relative to today's working directory would be lost tomorrow.
        config["base_model_name_or_path"] = str(Path(base).resolve())
        _write_json(file, config)


def _write_weights(model: nn.Module, directory: Path, dtype: torch.dtype) -> None:
    casts: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    state = {}
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != dtype:
            # Tied weights stay tied: one cast per storage.
            place = (tensor.data_ptr(), tuple(tensor.shape))
            casts[place] = casts[place] if place in casts else tensor.to(dtype)
            tensor = casts[place]
        state[name] = tensor
    model.save_pretrained(directory, state_dict=state)  # type: ignore[operator]
    _set_config_dtype(directory / "config.json", dtype)


def _set_config_dtype(file: Path, dtype: torch.dtype) -> None:
    # save_pretrained writes the dtype of the model in memory, not of the state it was given.
    config = read_json(file)
    name = str(dtype).removeprefix("torch.")
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in ("dtype", "torch_dtype"):
            if key in part:
                part[key] = name
    config["dtype"] = name
    _write_json(file, config)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers' own progress bars off the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
