"""Where to look inside a model: its decoder layers, its output head, and what flows through them.

Wrappers (PEFT, DistributedDataParallel, ``torch.compile``) are seen through. Layers are found by the attribute paths in use among
the causal language models of transformers, then by being the one block list whose length is the configured number of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from efface.errors import EffaceError, InputError

__all__ = [
    "Slot",
    "adapter_off",
    "capture_layers",
    "change_head_input",
    "decoder_layers",
    "evaluating",
    "final_hidden",
    "hidden_size",
    "layer_index",
    "num_layers",
    "output_head",
    "text_config",
    "unwrap",
]

# Attribute paths from the unwrapped model to its list of blocks; the first that leads to one wins.
LAYER_PATHS = (
    "model.language_model.layers",
    "language_model.model.layers",
    "language_model.layers",
    "model.decoder.layers",
    "decoder.layers",
    "model.text_model.layers",
    "model.layers",
    "transformer.h",
    "transformer.blocks",
    "transformer.layers",
    "transformer.layer",
    "gpt_neox.layers",
    "gpt_neox_japanese.layers",
    "backbone.layers",
    "backbone.blocks",
    "rwkv.blocks",
    "biogpt.layers",
    "cpmant.encoder.layers",
    "bert.encoder.layer",
    "roberta.encoder.layer",
    "electra.encoder.layer",
    "git.encoder.layer",
    "prophetnet.decoder.layers",
    "reformer.encoder.layers",
)
# Where a model that does not answer ``get_output_embeddings`` keeps its head.
HEAD_PATHS = ("lm_head", "embed_out", "output", "head", "output_projection", "pred_layer.proj", "lm_loss")


class Slot:
    """Holds one captured tensor."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._value: Tensor | None = None

    @property
    def is_filled(self) -> bool:
        """Whether a forward pass has come through."""
        return self._value is not None

    @property
    def value(self) -> Tensor:
        """The tensor of the last forward pass."""
        if self._value is None:
            raise EffaceError(f"Nothing was captured of {self._what}. The forward pass did not go through it. Run the model first.")
        return self._value

    def fill(self, value: Tensor) -> None:
        """Keep ``value``."""
        self._value = value


def unwrap(model: Any) -> Any:
    """Return the transformers model behind PEFT, DistributedDataParallel and ``torch.compile`` wrappers."""
    while True:
        if hasattr(model, "get_base_model") and hasattr(model, "peft_config"):
            model = model.get_base_model()
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def text_config(model: Any) -> Any:
    """Return the configuration of the model's text decoder."""
    config = unwrap(model).config
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def hidden_size(model: Any) -> int:
    """Return the width of the activations between layers."""
    config = text_config(model)
    for name in ("hidden_size", "d_model", "n_embd", "dim"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    weight: Any = output_head(model).weight
    return int(weight.shape[-1])


def decoder_layers(model: Any) -> list[nn.Module]:
    """Return the model's blocks, first to last.

    Raises:
        InputError: When no list of blocks is found.
    """
    inner = unwrap(model)
    for path in LAYER_PATHS:
        blocks = _follow(inner, path)
        if isinstance(blocks, nn.ModuleList) and len(blocks) > 0:
            return list(blocks)
    found = _blocks_by_length(inner)
    if found:
        return found
    raise InputError(
        f"The decoder layers of {type(inner).__name__} could not be found. Methods that read activations need a model with one "
        "list of blocks. Use a method without hidden states, or add the attribute path to efface.models.hooks.LAYER_PATHS."
    )


def num_layers(model: Any) -> int:
    """Return the number of decoder layers."""
    return len(decoder_layers(model))


def layer_index(model: Any, layer: int) -> int:
    """Turn a layer number that may count from the end into one from the start.

    Raises:
        InputError: When the model has no such layer.
    """
    total = num_layers(model)
    if not -total <= layer < total:
        raise InputError(
            f"Layer {layer} does not exist. The model has layers 0 to {total - 1} (or -{total} to -1). Choose one of them."
        )
    return layer % total


def output_head(model: Any) -> nn.Module:
    """Return the module that turns the final hidden state into logits (through a LoRA wrapper, its base layer).

    Raises:
        InputError: When the model has none.
    """
    head = _raw_head(unwrap(model))
    return getattr(head, "base_layer", head)


@contextmanager
def capture_layers(model: Any, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Collect the output activations (B, T, d) of ``layers`` in the forward passes inside the context.

    The dictionary is filled under the numbers given (a negative one stays negative). Gradients are kept. Without layers nothing
    is looked up or hooked.
    """
    captured: dict[int, Tensor] = {}
    if not layers:
        yield captured
        return
    blocks = decoder_layers(model)
    handles = []
    try:
        for layer in dict.fromkeys(layers):
            handles.append(blocks[layer_index(model, layer)].register_forward_hook(_keep_output(captured, layer)))
        yield captured
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def final_hidden(model: Any) -> Iterator[Slot]:
    """Collect what the output head is given in the last forward pass inside the context."""
    slot = Slot("the output head's input")

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = args or tuple(kwargs.values())
        if values and isinstance(values[0], Tensor):
            slot.fill(values[0])

    handle = _raw_head(unwrap(model)).register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield slot
    finally:
        handle.remove()


@contextmanager
def change_head_input(model: Any, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Give the output head what ``change`` makes of its input inside the context; None leaves it as it is.

    A model without a head of its own is left alone.
    """

    def replace_first(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        changed = change(args[0]) if args and isinstance(args[0], Tensor) else None
        return None if changed is None else (changed, *args[1:])

    try:
        handle = _raw_head(unwrap(model)).register_forward_pre_hook(replace_first)
    except InputError:
        handle = None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Run without gradients and dropout; every module's own mode is put back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def adapter_off(model: Any) -> AbstractContextManager[Any]:
    """Switch a PEFT adapter off inside the context; nothing happens to a model without one."""
    if hasattr(model, "disable_adapter") and hasattr(model, "peft_config"):
        switched: AbstractContextManager[Any] = model.disable_adapter()
        return switched
    return nullcontext()


def _raw_head(inner: Any) -> nn.Module:
    head = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    if isinstance(head, nn.Module):
        return head
    for path in HEAD_PATHS:
        head = _follow(inner, path)
        if isinstance(head, nn.Module):
            return head
    raise InputError(
        f"{type(inner).__name__} has no output head that efface knows. A causal language model with one output layer is needed. "
        "Use such a model."
    )


def _keep_output(captured: dict[int, Tensor], layer: int) -> Any:
    def keep(_: nn.Module, __: Any, output: Any) -> None:
        # Decoder layers return a tensor or a tuple that starts with it; output[0] of a tensor would be the first row.
        captured[layer] = output if isinstance(output, Tensor) else output[0]

    return keep


def _follow(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            return None
    return module


def _blocks_by_length(inner: nn.Module) -> list[nn.Module]:
    """Return the outermost block list that has the configured length and is the only one such."""
    config = text_config(inner)
    wanted = getattr(config, "num_hidden_layers", None) or getattr(config, "n_layer", None)
    lists = [
        (name, module)
        for name, module in inner.named_modules()
        if isinstance(module, nn.ModuleList) and (len(module) == wanted or wanted is None) and len(module) > 0
    ]
    if not lists:
        return []
    depth = min(name.count(".") for name, _ in lists)
    outer = [module for name, module in lists if name.count(".") == depth]
    return list(outer[0]) if len(outer) == 1 else []
