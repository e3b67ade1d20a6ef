from __future__ import annotations

import torch

from efface.data.encoding import TEMPLATES
from efface.models.fingerprint import tokenizer_hash, weights_hash
from efface.models.language_model import LocalModel


def test_directory_and_memory_agree_whatever_the_shards(build, tmp_path):
    model = build("llama")
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    assert weights_hash(tmp_path / "one") == weights_hash(tmp_path / "many") == weights_hash(model)


def test_a_single_bit_changes_the_hash(build):
    model = build("llama")
    before = weights_hash(model)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-3
    assert weights_hash(model) != before


def test_fingerprint_follows_the_weights(build, tokenizer):
    model = build("llama")
    local = LocalModel(model, tokenizer)
    before = local.fingerprint
    assert local.fingerprint == before
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(torch.tensor([[3, 4]])).logits.sum().backward()
    optimiser.step()
    assert local.fingerprint != before


def test_fingerprint_covers_template_dtype_and_length(build, tokenizer):
    model = build("llama")
    seen = {
        LocalModel(model, tokenizer).fingerprint,
        LocalModel(model, tokenizer, TEMPLATES["llama2_chat"]).fingerprint,
        LocalModel(model, tokenizer, max_length=7).fingerprint,
        LocalModel(model, tokenizer, variant="openunlearning").fingerprint,
        LocalModel(build("llama").bfloat16(), tokenizer).fingerprint,
        LocalModel(build("llama", attn_implementation="eager"), tokenizer).fingerprint,
    }
    assert len(seen) == 6
    assert LocalModel(build("llama"), tokenizer).fingerprint == LocalModel(build("llama"), tokenizer).fingerprint


def test_tokenizer_hash_covers_the_chat_template(tokenizer):
    before = tokenizer_hash(tokenizer)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    try:
        assert tokenizer_hash(tokenizer) != before
    finally:
        tokenizer.chat_template = None
    assert tokenizer_hash(tokenizer) == before
