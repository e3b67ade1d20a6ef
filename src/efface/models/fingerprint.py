"""Hashes of weights and of everything else that decides what a model answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from efface.data.encoding import Template
from efface.errors import InputError
from efface.models.checks import contrast_hash, contrast_parts, is_contrast
from efface.models.contrast import ContrastModel
from efface.models.hooks import unwrap

__all__ = ["fingerprint", "tokenizer_hash", "weights_hash"]

_HASH_THREADS = 4


def weights_hash(source: Any) -> str:
    """Return the SHA-256 (64 hex digits) of a model's weights.

    A directory is hashed by its safetensors tensors (name, dtype, shape, bytes), whatever the shards; other weight files by their
    bytes. A model in memory is hashed by its state in the same way. Tied weights are counted once, under their first name.

    Args:
        source: A directory or a ``torch.nn.Module``.
    """
    if isinstance(source, str | Path):
        return _directory_hash(Path(source))
    return _combine(_tensor_digests(_distinct_state(source)))


def tokenizer_hash(tokenizer: Any) -> str:
    """Return 16 hex digits that change with the vocabulary, the merges, special tokens or the chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    extra = json.dumps(
        {
            "chat_template": getattr(tokenizer, "chat_template", None),
            "special": {k: str(v) for k, v in tokenizer.special_tokens_map.items()},
            "class": type(tokenizer).__name__,
        },
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(f"{content}\n{extra}".encode()).hexdigest()[:16]


def fingerprint(
    model: Any,
    tokenizer: Any,
    template: Template,
    *,
    weights: str | None = None,
    settings: dict[str, Any] | None = None,
) -> str:
    """Return 32 hex digits that cover weights, adapter, tokenizer, template, dtype and attention kernel.

    Args:
        model: The model, wrapped or not.
        tokenizer: Its tokenizer.
        template: How questions become prompts.
        weights: Hash of the weights where it is known already; else the tensors in memory are hashed.
        settings: Whatever else changes the answers (longest sequence, variant, adapter switched off).
    """
    inner = unwrap(model)
    parameter = next(model.parameters())
    peft = getattr(model, "peft_config", None)
    content = {
        "weights": weights or weights_hash(model),
        "adapter": getattr(model, "adapter_record", None)
        or ({k: str(v.peft_type) for k, v in peft.items()} if isinstance(peft, dict) else None),
        "tokenizer": tokenizer_hash(tokenizer),
        "template": template.hash,
        "dtype": str(parameter.dtype),
        "device": parameter.device.type,
        "attention": getattr(inner.config, "_attn_implementation", None),
        "architecture": type(inner).__name__,
        "settings": settings or {},
    }
    if isinstance(model, ContrastModel):
        content["contrast"] = model.settings
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _distinct_state(model: Any) -> Iterator[tuple[str, Tensor]]:
    seen: set[tuple[int, ...]] = set()
    state = model.full_state_dict() if hasattr(model, "full_state_dict") else model.state_dict()
    for name, tensor in sorted(state.items()):
        if not isinstance(tensor, Tensor):
            continue
        place = (tensor.data_ptr(), *tensor.shape)
        if tensor.numel() and tensor.device.type != "meta" and place in seen:
            continue
        seen.add(place)
        yield name, tensor


def _directory_hash(directory: Path) -> str:
    if is_contrast(directory):
        return contrast_hash(directory, _directory_hash(Path(contrast_parts(directory)["reinforced"])))
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        digest = hashlib.sha256()
        for file in sorted([*directory.glob("*.bin"), *directory.glob("*.pt")]):
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 24):
                    digest.update(block)
        return digest.hexdigest()
    return _combine(_tensor_digests(_stored_tensors(files)))


def _stored_tensors(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="pt") as shard:
                for name in sorted(shard.keys()):
                    yield name, shard.get_tensor(name)
        except SafetensorError as error:
            raise InputError(
                f"The weights in {file.name} cannot be read ({error}). A copy that broke off looks like that. Copy the model again."
            ) from None


def _tensor_digests(tensors: Iterator[tuple[str, Tensor]]) -> list[str]:
    # A bounded window keeps a few tensors in flight; hashlib lets go of the interpreter lock, so threads help.
    digests: list[str] = []
    window: list[Any] = []
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        for name, tensor in tensors:
            window.append(pool.submit(_tensor_digest, name, tensor))
            if len(window) >= 2 * _HASH_THREADS:
                digests.append(window.pop(0).result())
        digests += [job.result() for job in window]
    return digests


def _tensor_digest(name: str, tensor: Tensor) -> str:
    header = f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|"
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.sha256(header.encode())
    if flat.numel():
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _combine(digests: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
