"""Models and sequences of the benchmarks: random weights and random tokens, since neither changes what a step costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from efface.data.encoding import Encoded

__all__ = ["SHAPES", "Shape", "make_model", "make_sequences"]

PAD = 0
FIRST_TOKEN = 3  # after padding, beginning and end


@dataclass(frozen=True)
class Shape:
    """What a step costs depends on this and on nothing else.

    Attributes:
        title: How it reads in a table.
        vocab_size: V.
        hidden_size: d.
        intermediate_size: Width of the feed-forward part.
        num_layers: Decoder layers.
        num_heads: Attention heads.
        rows: Forget rows per step; as many retain rows.
        lengths: Shortest and longest sequence in tokens.
        prompt_share: Share of a sequence that is prompt.
    """

    title: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    rows: int
    lengths: tuple[int, int]
    prompt_share: float = 0.5

    def describe(self, parameters: int) -> str:
        """Say in words what is trained on what."""
        low, high = self.lengths
        length = f"{low} to {high}" if low < high else str(low)
        return (
            f"{parameters / 1e6:.1f} M parameters (hidden {self.hidden_size}, {self.num_layers} layers, vocabulary "
            f"{self.vocab_size:,}), {self.rows} forget rows per step and as many retain rows where the method reads them, "
            f"{length} tokens each, {self.prompt_share:.0%} of them prompt"
        )


SHAPES = {
    "tiny": Shape("the embedded model's shape", 1536, 128, 384, 3, 4, 8, (28, 44)),
    "vocab_32k": Shape("32 k vocabulary, half prompt", 32_000, 256, 688, 4, 4, 4, (96, 128)),
}


def make_model(shape: Shape, *, seed: int = 0) -> Any:
    """Build a Llama of this shape in float32 with tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        max_position_embeddings=max(256, shape.lengths[1]),
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def make_sequences(shape: Shape, count: int, *, name: str, seed: int = 0) -> list[Encoded]:
    """Draw ``count`` sequences of random tokens; equal arguments give equal sequences."""
    rng = np.random.default_rng([seed, len(name), *name.encode()])
    sequences = []
    for index in range(count):
        length = int(rng.integers(shape.lengths[0], shape.lengths[1] + 1))
        ids = tuple(int(token) for token in rng.integers(FIRST_TOKEN, shape.vocab_size, length))
        sequences.append(Encoded(ids, max(1, round(length * shape.prompt_share)), length, f"{name}-{index}"))
    return sequences
