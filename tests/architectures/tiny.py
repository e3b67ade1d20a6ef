"""Build any causal language model of transformers small enough for a CPU, from nothing but its configuration class.

Configuration fields are shrunk by name, through nested configurations; lists with one entry per layer are cut to the layers that
are left, keeping as many kinds of layer as fit. ``OVERRIDES`` holds what a family needs besides.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

MODEL_TYPES = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
VOCAB = 128
MAX_PARAMETERS = 6_000_000
LAYERS, WIDTH, HEADS, HEAD_DIM = 2, 32, 4, 8

_WIDTH = {"hidden_size", "d_model", "n_embd", "emb_dim", "embed_dim", "embedding_size", "word_embed_proj_dim", "lru_width",
          "input_embedding_size", "output_embedding_size", "attention_hidden_size", "embedding_dim", "backbone_hidden_size",
          "out_hidden_size"}  # fmt: skip
_FEED_FORWARD = {"intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size", "dff", "dim_ff", "d_inner",
                 "d_ff", "feed_forward_size", "moe_intermediate_size", "shared_expert_intermediate_size", "mlp_dim",
                 "shared_experts_intermediate_size", "shared_intermediate_size", "expert_ffn_hidden_size", "intermediate_size_mlp",
                 "moe_shared_expert_intermediate_size", "dense_intermediate_size", "n_inner"}  # fmt: skip
_LAYER_COUNTS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers", "num_blocks",
                 "num_decoder_layers", "num_encoder_layers", "depth", "num_layers_per_stack"}  # fmt: skip
_HEADS = {"num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads", "attention_heads",
          "swa_num_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads", "linear_num_heads",
          "linear_num_value_heads", "index_n_heads"}  # fmt: skip
_HEAD_DIMS = {"head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "linear_key_head_dim", "linear_value_head_dim",
              "linear_head_dim", "index_head_dim", "swa_head_dim", "global_head_dim", "dim_head", "attention_head_size", "d_head", "d_kv",
              "kv_channels", "query_pre_attn_scalar", "mamba_d_head", "mamba_head_dim", "rotary_dim"}  # fmt: skip
_SMALL = {
    "vocab_size": VOCAB, "decoder_vocab_size": VOCAB, "vocab_size_per_layer_input": VOCAB, "unpadded_vocab_size": VOCAB,
    "max_position_embeddings": 128, "n_positions": 128, "n_ctx": 128, "max_seq_len": 128, "context_length": 128,
    "max_target_positions": 128, "max_source_positions": 32, "model_max_length": 128, "original_max_position_embeddings": 128,
    "num_key_value_heads": 2, "num_kv_heads": 2, "swa_num_key_value_heads": 2, "linear_num_key_heads": 2, "num_query_groups": 2,
    "qk_head_dim": 16, "q_lora_rank": 16, "kv_lora_rank": 16, "o_lora_rank": 16, "o_groups": 2, "index_topk": 8,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "n_shared_experts": 1, "zero_expert_num": 2,
    "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_k": 2, "moe_topk": 2, "n_group": 1, "topk_group": 1, "num_expert_group": 1,
    "first_k_dense_replace": 1, "num_global_layers": 1,
    "sliding_window": 16, "sliding_window_size": 16, "attention_window_size": 16, "window_size": 16, "local_attention": 16,
    "attention_chunk_size": 16, "keep_window_size": 16, "local_attention_window_len": 16,
    "mamba_d_state": 8, "state_size": 8, "ssm_state_size": 8, "mamba_n_heads": 8, "mamba_num_heads": 8, "n_mamba_heads": 2,
    "mamba_chunk_size": 16, "chunk_size": 16, "time_step_rank": 4, "mamba_dt_rank": 4, "mamba_d_ssm": 64, "n_groups": 1, "mamba_n_groups": 1,
    "hidden_size_per_layer_input": 8, "laurel_rank": 8, "num_kv_shared_layers": 0, "block_multiple_of": 8, "image_size": 32,
    "patch_size": 16, "temporal_patch_size": 1, "router_hidden_size": 16, "adapter_rank": 4,
    "vision_output_dim": WIDTH, "projector_input_dim": WIDTH, "projector_output_dim": WIDTH, "num_position_embeddings": 16,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "initializer_range": 0.2, "init_std": 0.2,
}  # fmt: skip
_SHARED_LENGTH = {"layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers", "indexer_types", "num_attention_heads_per_layer",
                  "activation_sparsity_pattern", "layer_rope_theta", "attention_layers", "layers_types"}  # fmt: skip
_DROPPED = {"model_type", "transformers_version", "architectures", "torch_dtype", "dtype", "_name_or_path"}

OVERRIDES: dict[str, dict[str, Any]] = {}


def tiny_config(model_type: str) -> Any:
    """Return a configuration of the family with the smallest sizes that keep its structure."""
    overrides = dict(OVERRIDES.get(model_type, {}))
    kind = CONFIG_MAPPING[model_type]
    default = kind(**overrides.pop("_default", {}))
    settings = _shrink(default.to_dict())
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            settings[key] = {**settings[key], **value}
        else:
            settings[key] = value
    settings = {key: value for key, value in settings.items() if value is not ...}
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
    layers = next((settings[name] for name in ("num_hidden_layers", "n_layer", "num_layers") if isinstance(settings.get(name), int)), None)
    return {key: _shrink_value(key, value, layers) for key, value in settings.items() if key not in _DROPPED}


def _shrink_value(key: str, value: Any, layers: int | None) -> Any:
    if isinstance(value, dict):
        if key in {"id2label", "label2id", "rope_parameters", "rope_scaling", "task_specific_params"}:
            return _shrink_rope(value)
        return _shrink(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, list | tuple) and key != "eos_token_id":
        return _shrink_list(key, list(value), layers)
    for names, small in ((_WIDTH, WIDTH), (_FEED_FORWARD, 2 * WIDTH), (_LAYER_COUNTS, LAYERS), (_HEADS, HEADS), (_HEAD_DIMS, HEAD_DIM)):
        if key in names:
            return small
    return _SMALL.get(key, value)


def _shrink_list(key: str, value: list[Any], layers: int | None) -> list[Any]:
    if key not in _SHARED_LENGTH and (layers is None or len(value) != layers or len(value) <= LAYERS):
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
