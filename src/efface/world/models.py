"""The small model and its tokenizer: an ordinary Llama and an ordinary fast tokenizer, only tiny."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from efface.data.encoding import PLAIN, prompt_text
from efface.data.schema import Row
from efface.world.config import ModelSizes
from efface.world.corpus import World
from efface.world.draws import draw_epoch

__all__ = ["build_model", "train_tokenizer"]

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
_TOKENIZER_SEED = -1  # no training run has this order seed: the tokenizer belongs to the world, not to one of its models


def train_tokenizer(world: World, sizes: ModelSizes) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on what the original model reads in three epochs.

    It is shared by all models of a recipe, the retrained ones too: a stated limit, since its vocabulary has seen the forget set.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=sizes.vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(world), trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bpe.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=sizes.max_length,
        clean_up_tokenization_spaces=False,
    )


def _texts(world: World) -> Iterator[str]:
    seen: set[str] = set()
    for epoch in range(3):
        for row in draw_epoch(world, "original", _TOKENIZER_SEED, epoch):
            text = _row_text(row)
            if text not in seen:
                seen.add(text)
                yield text


def _row_text(row: Row) -> str:
    if row.text is not None:
        return row.text
    return prompt_text(PLAIN, row.question or "") + PLAIN.answer_prefix + (row.answer or "")


def build_model(sizes: ModelSizes, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """Return an untrained model in float32, initialised from ``seed`` alone."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
