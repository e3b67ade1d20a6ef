"""A tiny model directory and rows on disk, and a way to run the command in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from efface.cli.main import main

PEOPLE = ["Ada Quill", "Bo Marsh", "Cleo Varga", "Dan Iwu", "Eva Stone", "Finn Ode", "Gil Tarr", "Hana Roe"]
CITIES = ["Ostrava", "Leeds", "Porto", "Ghent", "Turku", "Split", "Lille", "Cadiz"]


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def efface(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``efface ARGUMENTS`` in this process."""

    def run(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run


def rows(start: int, stop: int) -> list[dict[str, object]]:
    return [
        {
            "question": f"Where was {PEOPLE[i]} born?",
            "answer": f"{PEOPLE[i]} was born in {CITIES[i]}.",
            "value": CITIES[i],
            "perturbed_answer": [f"{PEOPLE[i]} was born in {CITIES[(i + k) % 8]}." for k in (1, 2)],
        }
        for i in range(start, stop)
    ]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Llama of some thousand parameters with its own tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<p>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([str(row["answer"]) for row in rows(0, 8)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<p>", bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 256}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **shape, **special)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with forget, retain and holdout rows and a request on the tiny model."""
    for name, (start, stop) in {"forget": (0, 3), "retain": (3, 6), "holdout": (6, 8)}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(start, stop)), encoding="utf-8")
    (tmp_path / "request.yaml").write_text(
        f"model: {model}\nforget: forget.jsonl\nretain: retain.jsonl\nholdout: holdout.jsonl\nmethod: npo\n"
        "unlearning: {max_steps: 2, batch_size: 2, learning_rate: 1.0e-3, stop: {forget_nll: off}}\noutput: out\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path
