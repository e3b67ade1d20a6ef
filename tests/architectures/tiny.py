"""Build any causal language model of transformers small enough for a CPU, from nothing but its configuration class.

Configuration fields are shrunk by name, through nested configurations; lists with one entry per layer are cut to the layers that
are left, keeping as many kinds of layer as fit. The names, and what a family needs besides, stand in ``shrink.toml``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

MODEL_TYPES = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
VOCAB = 128
MAX_PARAMETERS = 6_000_000
LAYERS, WIDTH, HEADS, HEAD_DIM = 2, 32, 4, 8
_RULES: dict[str, Any] = tomllib.loads((Path(__file__).parent / "shrink.toml").read_text(encoding="utf-8"))
_SIZES = {
    **dict.fromkeys(_RULES["width"], WIDTH),
    **dict.fromkeys(_RULES["feed_forward"], 2 * WIDTH),
    **dict.fromkeys(_RULES["layer_counts"], LAYERS),
    **dict.fromkeys(_RULES["heads"], HEADS),
    **dict.fromkeys(_RULES["head_dims"], HEAD_DIM),
    **_RULES["small"],
}

_DROPPED = {"model_type", "transformers_version", "architectures", "torch_dtype", "dtype", "_name_or_path"}


def tiny_config(model_type: str) -> Any:
    """Return a configuration of the family with the smallest sizes that keep its structure."""
    overrides = dict(_RULES["overrides"].get(model_type, {}))
    kind = CONFIG_MAPPING[model_type]
    default = kind(**overrides.pop("_default", {}))
    settings = _shrink(default.to_dict())
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            settings[key] = {**settings[key], **value}
        else:
            settings[key] = value
    config = kind(**settings)
    if hasattr(config, "is_decoder"):
        config.is_decoder = True
    return config


def tiny_model(model_type: str, *, seed: int = 0) -> Any:
    """Build the family's causal language model in float32, in evaluation mode.

    Raises:
        ValueError: When it is still too large.
    """
    config = tiny_config(model_type)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > MAX_PARAMETERS:
        raise ValueError(f"{size} parameters after shrinking")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not torch.isfinite(parameter).all():  # left uninitialised by the family's own code
                parameter.normal_(0, 0.02)
    return model


def _shrink(settings: dict[str, Any]) -> dict[str, Any]:
    layers = next(
        (settings[name] for name in ("num_hidden_layers", "n_layer", "num_layers") if isinstance(settings.get(name), int)), None
    )
    shrunk = {key: _shrink_value(key, value, layers) for key, value in settings.items() if key not in _DROPPED}
    if shrunk.get("kv_lora_rank"):  # latent attention has as many keys as queries
        shrunk["num_key_value_heads"] = shrunk.get("num_attention_heads", HEADS)
    if "head_dim" in shrunk and shrunk["head_dim"] is None:
        shrunk["head_dim"] = HEAD_DIM
    return {key: value for key, value in shrunk.items() if value is not ...}


def _shrink_value(key: str, value: Any, layers: int | None) -> Any:
    if key == "per_layer_config":
        # Where no entry is left, the family makes its own from the layers there are.
        return {index: _shrink(entry) for index, entry in (value or {}).items() if int(index) < LAYERS} or ...
    if isinstance(value, dict):
        if key in {"id2label", "label2id", "rope_parameters", "rope_scaling", "task_specific_params"}:
            return _shrink_rope(value)
        return _shrink(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, list | tuple) and key != "eos_token_id":
        return _shrink_list(key, list(value), layers)
    return _SIZES.get(key, value)


def _shrink_list(key: str, value: list[Any], layers: int | None) -> list[Any]:
    if key not in _RULES["per_layer"] and (layers is None or len(value) != layers or len(value) <= LAYERS):
        return value
    other = next((item for item in value if item != value[0]), value[min(1, len(value) - 1)])
    return [value[0], other]


def _shrink_rope(value: dict[str, Any]) -> dict[str, Any]:
    shrunk = {}
    for key, item in value.items():
        if isinstance(item, dict):
            shrunk[key] = _shrink_rope(item)
        elif key == "mrope_section":
            pairs = int(HEAD_DIM * float(value.get("partial_rotary_factor", 1.0))) // 2
            shrunk[key] = [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]
        elif key == "original_max_position_embeddings":
            shrunk[key] = 128
        else:
            shrunk[key] = item
    return shrunk
