"""Measures a tiny model and writes its rows: run by one process, or by several under ``accelerate launch``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from efface.data.items import GenerateItem, ScoreItem
from efface.errors import EffaceError
from efface.evals import Measured, measure
from efface.models.language_model import LocalModel
from efface.models.processes import count, is_main, leave, rank

WORDS = ["<pad>", "</s>", "Question", "Answer", ":", *(f"w{number}" for number in range(60))]
CHUNK = 8


def tiny_model(seed: int = 0) -> LocalModel:
    """Return an untrained Llama whose tokens are words."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")
    shape = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=128, pad_token_id=0, eos_token_id=1, **shape)
    return LocalModel(LlamaForCausalLM(config).eval(), tokenizer)


def items(number: int = 30) -> tuple[list[ScoreItem], list[GenerateItem]]:
    """Return items of many lengths."""
    texts = [" ".join(f"w{(3 * i + j) % 60}" for j in range(1 + i % 7)) for i in range(number)]
    scores = [ScoreItem(f"s{i}", text, f"w{i % 60} w{(7 * i) % 60}") for i, text in enumerate(texts)]
    return scores, [GenerateItem(f"g{i}", text, max_new_tokens=3 + i % 9) for i, text in enumerate(texts)]


def plain(measured: Measured) -> dict[str, Any]:
    """Return rows as JSON that keeps every bit."""
    names = ("targets", "logp", "rank", "mean", "var", "hit")
    rows = {key: [getattr(row, name).tobytes().hex() for name in names] for key, row in measured.scores.items()}
    return {"rows": rows, "texts": dict(measured.texts), "counts": [measured.counts.scored_now, measured.counts.generated_now]}


class Failing(LocalModel):
    """Fails in one process only, as a device that runs out of memory does."""

    def generate(self, items: Any, *, progress: Any = None) -> list[str]:
        """Fail in the last process."""
        if rank() == count() - 1:
            raise EffaceError("this process is out of memory")
        return super().generate(items, progress=progress)


def error(model: LocalModel) -> str:
    """Return what measuring ends with."""
    try:
        measure(model, *items(10), chunk=2)
    except EffaceError as failed:
        return str(failed)
    return ""


def main(output: Path) -> None:
    """Measure with a cache and without, again from the cache, and in two ways that must fail in every process."""
    found = {
        "cached": plain(measure(tiny_model(), *items(), cache=output / "cache", chunk=CHUNK)),
        "not cached": plain(measure(tiny_model(), *items(), chunk=CHUNK)),
        "again": plain(measure(tiny_model(), *items(), cache=output / "cache", chunk=CHUNK)),
        "failing": error(Failing(tiny_model().model, tiny_model().tokenizer)),
        "another model": error(tiny_model(seed=rank())),
        "is_main": is_main(),
    }
    (output / f"{rank()}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()
