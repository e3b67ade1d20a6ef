"""The lm-evaluation-harness over models of ours: its questions, our answers, and figures with intervals."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import yaml
from _lookup import LookupModel

from efface.errors import InputError, MissingNeed
from efface.evals import harness
from efface.evals.harness import evaluate_tasks

needs_harness = pytest.mark.skipif(not harness.has_harness(), reason="the extra lm-eval is not installed")
CITIES = {"Peru": "Lima", "Norway": "Oslo", "Italy": "Rome", "Japan": "Kyoto"}


@pytest.fixture
def folder(tmp_path):
    """Two tasks on the same four questions: one with choices, one that is answered in writing."""
    rows = [
        {"question": f"The capital of {land} is", "choices": list(CITIES.values()), "label": index, "answer": city}
        for index, (land, city) in enumerate(CITIES.items())
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "metadata": {"version": 1.0},
    }
    choice = {
        **common,
        "task": "capitals_choice",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    written = {
        **common,
        "task": "capitals_written",
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n", "."], "do_sample": False, "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    sampled = {**written, "task": "capitals_sampled", "generation_kwargs": {"until": ["\n"], "do_sample": True, "temperature": 0.8}}
    for task in (choice, written, sampled):
        (tmp_path / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    return tmp_path


def knowing(*lands):
    return LookupModel({f"The capital of {land} is": f" {CITIES[land]}" for land in lands})


@needs_harness
def test_tasks_become_figures_with_intervals(folder, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    model = knowing("Peru", "Norway", "Italy")
    results = evaluate_tasks(model, ["capitals_choice", "capitals_written"], include=folder)
    assert results.suite == "lm_eval"
    assert results.fingerprint == model.fingerprint
    choice = results["capitals_choice_acc"]
    assert choice.value >= 0.75
    assert choice.n == 4
    written = results["capitals_written_exact_match"]
    assert written.value == 0.75
    assert written.interval.high - written.interval.low == pytest.approx(2 * 1.959964 * math.sqrt(0.75 * 0.25 / 3), rel=1e-3)
    assert any("capitals_choice" in note and "version 1" in note for note in results.notes)
    limited = evaluate_tasks(model, ["capitals_written"], include=folder, limit=2)["capitals_written_exact_match"]
    assert (limited.n, limited.reason) == (2, "only a part of the questions was asked")


@needs_harness
def test_what_a_model_cannot_give_is_not_available(folder):
    class OnlyWrites(LookupModel):
        def score(self, items, *, progress=None):
            raise NotImplementedError("this endpoint only generates")

    results = evaluate_tasks(OnlyWrites({}), ["capitals_choice", "capitals_written"], include=folder)
    assert results["capitals_choice_score"].value is None
    assert results["capitals_choice_score"].reason == "this endpoint only generates"
    assert results["capitals_written_exact_match"].value == 0


@needs_harness
def test_bad_tasks(folder, monkeypatch):
    with pytest.raises(InputError, match=r"no task named 'capitals_choise'.*'capitals_choice'"):
        harness._require_known(["capitals_choise"], ["capitals_choice", "capitals_written"])  # the whole index takes long to read
    with pytest.raises(InputError, match="There is no folder"):
        evaluate_tasks(knowing(), ["capitals_choice"], include=folder / "nowhere")
    with pytest.raises(InputError, match="asks for samples"):
        evaluate_tasks(knowing(), ["capitals_sampled"], include=folder)

    def fail(*arguments, **settings):
        raise FileNotFoundError("the hub cannot be reached")

    monkeypatch.setattr("lm_eval.simple_evaluate", fail)
    with pytest.raises(InputError, match="capitals_choice cannot be run: the hub cannot be reached"):
        evaluate_tasks(knowing(), ["capitals_choice"], include=folder)


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setattr(harness, "has_harness", lambda: False)
    with pytest.raises(MissingNeed, match=r"pip install 'efface\[lm-eval\]'"):
        evaluate_tasks(knowing(), ["mmlu"])


@pytest.fixture(scope="module")
def local():
    """A tiny untrained Llama whose tokenizer knows words of one letter each and writes BOS."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from efface.models.language_model import LocalModel

    symbols = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(symbols), max_position_embeddings=64, bos_token_id=0, eos_token_id=1, **shape)
    return LocalModel(LlamaForCausalLM(config).eval(), tokenizer)


def asked(*arguments):
    return [SimpleNamespace(args=each) for each in arguments]


@needs_harness
def test_the_same_answers_as_the_harness_gives_itself(local):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from efface.evals.harness_model import HarnessModel

    theirs = HFLM(pretrained=local.model, tokenizer=local.tokenizer, max_length=64, batch_size=1, add_bos_token=True)
    ours = HarnessModel(local)
    pairs = [("The capital of Peru is", " Lima"), ("Blank at the end ", "x"), ("a", " bcd"), ("The capital of Peru is", " Oslo")]
    requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
    for mine, other in zip(ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True), strict=True):
        assert mine[0] == pytest.approx(other[0], rel=1e-5)
        assert mine[1] == other[1]
    # With its BOS as a token of the text, the harness would score that as well: here it is what the text follows.
    bare = HFLM(pretrained=local.model, tokenizer=local.tokenizer, max_length=64, batch_size=1, add_bos_token=False)
    whole = [Instance("loglikelihood_rolling", {}, ("Lima is the capital of Peru.",), 0)]
    assert ours.loglikelihood_rolling(whole)[0] == pytest.approx(bare.loglikelihood_rolling(whole, disable_tqdm=True)[0], rel=1e-5)
    settings = {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 6}
    texts = [Instance("generate_until", {}, ("The capital of Peru is", settings), 0)]
    assert ours.generate_until(texts)[0] == theirs.generate_until(texts, disable_tqdm=True)[0].strip()


@needs_harness
def test_batches_do_not_depend_on_order(local):
    from efface.evals.harness_model import HarnessModel

    pairs = [(f"{'word ' * (1 + index % 5)}question {index}", f" answer {index % 3}") for index in range(12)]
    forward = HarnessModel(local).loglikelihood(asked(*pairs))
    backward = HarnessModel(local).loglikelihood(asked(*pairs[::-1]))
    assert [score for score, _ in forward] == pytest.approx([score for score, _ in backward[::-1]], abs=1e-4)


@needs_harness
def test_long_contexts_lose_their_beginning_and_long_texts_are_scored_in_parts(local):
    from efface.evals.harness_model import HarnessModel

    model = HarnessModel(local)
    long = "far away " * 20 + "The capital of Peru is"
    ((score, _),) = model.loglikelihood(asked((long, " Lima")))
    assert math.isfinite(score)
    assert model.cut == 1
    ((end, _),) = HarnessModel(local).loglikelihood(asked((long[-58:], " Lima")))
    assert score == pytest.approx(end, rel=1e-4)
    text = "one two three four five six seven eight nine ten " * 4
    windows = model._windows(text)
    assert "".join(part for _, part in windows) == text
    assert len(windows) > 3
    (total,) = model.loglikelihood_rolling(asked((text,)))
    assert total < 0
    assert model.generate_until(asked((long, {"until": [], "max_gen_toks": 4})))[0] is not None
