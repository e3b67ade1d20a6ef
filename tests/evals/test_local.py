"""Figures of a real model do not depend on batch size, padding or order, and a second evaluation of it costs nothing."""

from __future__ import annotations

import pytest
import torch
from _lookup import people_rows
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from efface.data.schema import RowSet
from efface.evals import SuiteData, evaluate
from efface.models.language_model import LocalModel


@pytest.fixture(scope="module")
def parts():
    """A random Llama of two layers and a byte-level tokenizer of its own."""
    texts = [f"{row.question} {row.answer}" for row in people_rows("forget", 12)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval(), fast


@pytest.fixture(scope="module")
def rows():
    return SuiteData(people_rows("forget", 5), people_rows("retain", 4), people_rows("stranger", 4))


def figures(results):
    return {name: metric.per_item for name, metric in results.metrics.items() if metric.per_item}


@pytest.fixture(scope="module")
def whole(parts, rows):
    return evaluate(LocalModel(*parts), data=rows, suite="tofu", max_new_tokens=12)


@pytest.mark.parametrize("budget", [1, 64, 8192])
def test_figures_do_not_depend_on_the_batch(parts, rows, whole, budget):
    again = figures(evaluate(LocalModel(*parts, token_budget=budget), data=rows, suite="tofu", max_new_tokens=12))
    assert set(again) == set(figures(whole))
    for name, values in figures(whole).items():
        assert again[name] == pytest.approx(values, abs=2e-4, nan_ok=True), name


def test_figures_do_not_depend_on_the_order_of_the_rows(parts, rows, whole):
    turned = SuiteData(*(RowSet(tuple(reversed(part.rows))) for part in (rows.forget, rows.retain, rows.holdout)))
    again = evaluate(LocalModel(*parts), data=turned, suite="tofu", max_new_tokens=12)
    for name, metric in whole.metrics.items():
        if metric.value is not None:
            assert again.value(name) == pytest.approx(metric.value, abs=2e-4), name


def test_the_cache_serves_the_same_weights_only(parts, rows, whole, tmp_path):
    model, tokenizer = parts
    evaluate(LocalModel(model, tokenizer), data=rows, suite="tofu", max_new_tokens=12, cache=tmp_path)
    again = evaluate(LocalModel(model, tokenizer), data=rows, suite="tofu", max_new_tokens=12, cache=tmp_path)
    assert again.cost["scored_now"] == again.cost["generated_now"] == 0
    assert again.value("forget_probability") == pytest.approx(whole.value("forget_probability"))
    with torch.no_grad():
        model.lm_head.weight[5] += 0.5
    try:
        changed = evaluate(LocalModel(model, tokenizer), data=rows, suite="tofu", max_new_tokens=12, cache=tmp_path)
    finally:
        with torch.no_grad():
            model.lm_head.weight[5] -= 0.5
    assert changed.cost["scored_now"] == changed.cost["scored"]


def test_the_published_encoding_is_used_for_the_published_figures(parts, rows):
    local = LocalModel(*parts)
    strict = evaluate(local, data=rows, suite="tofu", max_new_tokens=12)
    published = evaluate(local, data=rows, suite="tofu", max_new_tokens=12, variant="openunlearning")
    assert strict.fingerprint != published.fingerprint
    assert published.value("forget_extraction_strength") > 0  # never below 1/m
    assert published.value("forget_extraction_strength") > strict.value("forget_extraction_strength")
