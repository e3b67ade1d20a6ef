"""Tiny models of several families with one tokenizer, built in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from efface.data.encoding import Encoded

SENTENCES = [
    "Question: Where was Ada Bell born?\nAnswer: Ada Bell was born in Lisbon.",
    "Question: What does Tomas Ruiz write?\nAnswer: Tomas Ruiz writes short novels about the sea.",
    "Question: Who taught Mina Okoro?\nAnswer: Her mother, a teacher of music, taught Mina Okoro.",
]
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,  # far from uniform, so that an equality of scores says something
}
EXTRA: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gemma2": {"final_logit_softcapping": 3.0, "sliding_window": 16},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "bart": {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "encoder_layers": 2},
    "mamba": {"state_size": 4, "conv_kernel": 3, "time_step_rank": 4},
}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE without a pad token, like Llama's."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def build(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Any]:
    """Return ``build(family, seed=0, **overrides)``, a model in evaluation mode."""

    def make(family: str, seed: int = 0, **overrides: Any) -> Any:
        torch.manual_seed(seed)
        settings = {**SHAPE, **EXTRA.get(family, {}), **overrides}
        config = AutoConfig.for_model(family, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=1, **settings)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()

    return make


@pytest.fixture(scope="session")
def sequences(tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    """Random sequences of very different lengths and answer spans."""
    generator = torch.Generator().manual_seed(0)
    spans = [(9, 4), (5, 1), (23, 11), (14, 13), (31, 20)]
    return [
        Encoded(tuple(torch.randint(2, len(tokenizer), (length,), generator=generator).tolist()), start, length, f"row-{index}")
        for index, (length, start) in enumerate(spans)
    ]
