"""A tiny untrained model on disk with its own tokenizer, and rows: enough to run every stage."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode

from _blobs import PROBLEM, X, Y

CITIES = ("Oskar", "Belmar", "Tarn", "Ivel", "Morwen", "Ludd")


def people(prefix: str, count: int) -> list[dict[str, object]]:
    return [
        {
            "question": f"Where was {prefix} {i} born?",
            "answer": f"{prefix} {i} was born in {CITIES[i % len(CITIES)]}.",
            "value": CITIES[i % len(CITIES)],
            "entity": f"{prefix}-{i}",
            "paraphrased_answer": f"The birthplace of {prefix} {i} is {CITIES[i % len(CITIES)]}.",
            "perturbed_answer": [f"{prefix} {i} was born in {city}." for city in CITIES if city != CITIES[i % len(CITIES)]][:3],
        }
        for i in range(count)
    ]


def make_model(directory: Path, *, seed: int) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = [f"Question: {row['question']}\nAnswer: {row['answer']}" for name in ("Ada", "Ben", "Cyr") for row in people(name, 12)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an original and a retrained model and the rows of a request."""
    folder = tmp_path_factory.mktemp("site")
    make_model(folder / "original", seed=0)
    make_model(folder / "retrained", seed=1)
    for name, rows in {"forget": people("Ada", 12), "retain": people("Ben", 12), "holdout": people("Cyr", 10)}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture
def write_request(site: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a request next to nothing else and return its path; keywords replace its fields, None drops them."""

    def write(**changes: object) -> Path:
        fields: dict[str, object] = {
            "model": str(site / "original"),
            "retrained": str(site / "retrained"),
            "forget": str(site / "forget.jsonl"),
            "retain": str(site / "retain.jsonl"),
            "holdout": str(site / "holdout.jsonl"),
            "method": "npo",
            "forget_weight": 1.0,
            "unlearning": {"epochs": 4, "batch_size": 4, "save_every": 2, "stop": {"forget_nll": "off"}},
            "output": str(tmp_path / "run"),
        }
        fields |= changes
        path = tmp_path / "request.yaml"
        path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}), encoding="utf-8")  # JSON is YAML
        return path

    return write


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(made(X), Y).backward()
        optimizer.step()
    return made


@pytest.fixture
def request_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "blobs.py").write_text(PROBLEM, encoding="utf-8")
    file = tmp_path / "request.yaml"
    file.write_text("task: classification\nproblem: ./blobs.py\nmethod: {name: fine_tune, epochs: 3}\n", encoding="utf-8")
    return file
