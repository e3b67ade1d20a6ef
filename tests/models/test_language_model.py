"""The two verbs: rows and texts do not depend on how items are batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from efface.data.encoding import TEMPLATES, Template, resolve_template
from efface.data.items import GenerateItem, ScoreItem
from efface.errors import InputError
from efface.models.decoding import DecodingRow, greedy_decode
from efface.models.language_model import LocalModel, token_figures
from efface.models.prompts import encode_score_item, encode_score_items
from efface.models.protocol import LanguageModel

QUESTIONS = [
    ("Where was Ada Bell born?", "Ada Bell was born in Lisbon."),
    ("Who?", "Mina Okoro"),
    ("What does Tomas Ruiz write, and who taught him the craft of it when he was young?", "Short novels about the sea."),
    ("Who taught Mina Okoro?", "Her mother, a teacher of music, taught Mina Okoro in the long evenings of the winter."),
    ("And?", "No."),
]
FAMILIES = ["llama", "gpt2", "gemma2", "opt", "mamba"]


@pytest.fixture
def local(build, tokenizer):
    return LocalModel(build("llama"), tokenizer)


def score_items():
    return [ScoreItem(str(i), answer, question) for i, (question, answer) in enumerate(QUESTIONS)]


def generate_items(**settings):
    return [GenerateItem(str(i), question, max_new_tokens=12, **settings) for i, (question, _) in enumerate(QUESTIONS)]


def assert_rows_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.targets, b.targets)
        np.testing.assert_allclose(a.logp, b.logp, atol=2e-5, rtol=1e-5)
        np.testing.assert_allclose(a.mean, b.mean, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(a.var, b.var, atol=1e-3, rtol=1e-3)
        np.testing.assert_array_equal(a.rank, b.rank)
        np.testing.assert_array_equal(a.hit, b.hit)


def test_speaks_the_protocol(local):
    assert isinstance(local, LanguageModel)
    assert local.bare() is local


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_do_not_depend_on_the_batch(build, tokenizer, family):
    model = build(family)
    together = LocalModel(model, tokenizer).score(score_items())
    alone = LocalModel(model, tokenizer, token_budget=1)
    assert_rows_equal(together, alone.score(score_items()))
    assert alone.stats.forward_passes == len(QUESTIONS)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_do_not_depend_on_the_batch(build, tokenizer, family):
    model = build(family)
    together = LocalModel(model, tokenizer).generate(generate_items())
    alone = LocalModel(model, tokenizer, token_budget=1).generate(generate_items())
    assert together == alone
    assert any(together)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_equal_those_of_transformers(build, tokenizer, family):
    model = build(family)
    local = LocalModel(model, tokenizer)
    items = generate_items()
    for item, text in zip(items, local.generate(items), strict=True):
        ids = torch.tensor([local.encode_prompt(item)])
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=1
        )
        expected = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert text == expected


def test_finished_rows_leave_the_batch(build):
    model = build("llama")
    sizes = []
    rows = [DecodingRow((5, 6, 7), n) for n in (1, 4, 2, 6)]
    with torch.no_grad():
        greedy_decode(model, rows, eos=frozenset(), pad_id=1, on_forward=lambda tokens, _: sizes.append(tokens))
    assert [len(row.tokens) for row in rows] == [1, 4, 2, 6]
    assert sizes == [12, 3, 2, 2, 1, 1]
    assert rows[3].tokens[:4] == rows[1].tokens


def test_eos_ends_a_row_and_is_not_written(build):
    model = build("llama")
    with torch.no_grad():
        free = DecodingRow((5, 6, 7), 8)
        greedy_decode(model, [free], eos=frozenset(), pad_id=1)
        end = free.tokens[3]
        cut = DecodingRow((5, 6, 7), 8)
        greedy_decode(model, [cut], eos=frozenset({end}), pad_id=1)
    assert cut.tokens == free.tokens[: free.tokens.index(end)]


def test_eos_may_be_a_list_in_the_generation_settings(build, tokenizer):
    model = build("llama")
    local = LocalModel(model, tokenizer)
    item = GenerateItem("a", "Who?", max_new_tokens=8)
    rows = [DecodingRow(local.encode_prompt(item), 8)]
    with torch.no_grad():
        greedy_decode(model, rows, eos=frozenset({1}), pad_id=1)
    token = rows[0].tokens[2]
    model.generation_config.eos_token_id = [1, token]
    expected = tokenizer.decode(rows[0].tokens[: rows[0].tokens.index(token)], skip_special_tokens=True).strip()
    assert local.generate([item]) == [expected]


def test_stop_strings_cut_the_text_and_end_the_row(local):
    free = local.generate(generate_items())
    text = max(free, key=len)
    mark = text[len(text) // 2 : len(text) // 2 + 2]
    before = local.stats.generated_tokens
    stopped = local.generate(generate_items(stop=(mark,)))
    written = local.stats.generated_tokens - before
    assert stopped == [t.split(mark, 1)[0].strip() for t in free]
    assert written < before


def test_sampling_settings_of_the_model_are_ignored(build, tokenizer):
    model = build("llama")
    greedy = LocalModel(model, tokenizer).generate(generate_items())
    model.generation_config.do_sample = True
    model.generation_config.temperature = 5.0
    assert LocalModel(model, tokenizer).generate(generate_items()) == greedy


def test_equal_items_are_run_once(local):
    items = score_items()
    rows = local.score([*items, *items])
    assert local.stats.tokens == sum(len(local.encode(item).input_ids) for item in items)
    assert_rows_equal(rows[: len(items)], rows[len(items) :])


def test_padding_stays_below_a_tenth(build, tokenizer):
    local = LocalModel(build("llama"), tokenizer)
    rng = np.random.default_rng(0)
    items = [ScoreItem(str(i), "word " * int(n) + str(i), "Q?") for i, n in enumerate(rng.integers(1, 40, 300))]
    local.score(items)
    assert local.stats.padding_share < 0.1


def test_progress_counts_items(local):
    seen = []
    local.score([*score_items(), *score_items()], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_model_is_left_as_it_was(build, tokenizer):
    model = build("llama").train()
    state = torch.get_rng_state()
    local = LocalModel(model, tokenizer)
    local.score(score_items())
    local.generate(generate_items())
    assert all(module.training for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())
    model.eval()


def test_figures_against_float64():
    torch.manual_seed(0)
    logits = torch.randn(7, 50) * 3
    logits[0, 3] = logits[0, 9] = 20.0  # a tie: the lowest id is the argmax
    logits[1, 4] = float("-inf")
    targets = torch.tensor([9, 2, 0, 49, 7, 7, 7])
    figures = token_figures(logits, targets)
    logp = logits.double().log_softmax(-1)
    finite = torch.where(logp.isinf(), 0.0, logp)
    mean = (logp.exp() * finite).sum(-1)
    var = (logp.exp() * (finite - mean[:, None]) ** 2).sum(-1)
    rows = torch.arange(7)
    np.testing.assert_allclose(figures.logp, logp[rows, targets].numpy(), rtol=1e-5)
    np.testing.assert_allclose(figures.mean, mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(figures.var, var.numpy(), rtol=1e-4, atol=1e-5)
    assert figures.rank[0] == 0
    assert not figures.hit[0]
    assert token_figures(logits[:1], torch.tensor([3])).hit[0]
    assert [a.dtype for a in (figures.logp, figures.rank, figures.mean, figures.hit)] == [
        np.float32,
        np.int32,
        np.float32,
        np.bool_,
    ]


def test_figures_do_not_depend_on_the_chunk(monkeypatch):
    torch.manual_seed(0)
    logits, targets = torch.randn(9, 30), torch.randint(0, 30, (9,))
    whole = token_figures(logits, targets)
    monkeypatch.setattr("efface.models.figures._CHUNK_LOGITS", 60)
    parts = token_figures(logits, targets)
    for name in ("logp", "rank", "mean", "var", "hit"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(st.text(alphabet="abc .,é", min_size=1, max_size=30), min_size=1, max_size=5))
def test_logp_is_a_log_probability(build, tokenizer, answers):
    local = LocalModel(build("llama"), tokenizer)
    for row in local.score([ScoreItem(str(i), answer, "Q?") for i, answer in enumerate(answers)]):
        assert row.n == len(row.targets) >= 1
        assert (row.logp <= 1e-6).all()
        assert (row.mean <= 1e-6).all()
        assert row.ends_in_eos
        assert ((row.rank == 0) | ~row.hit).all()


def test_empty_answer_scores_eos_alone(build, tokenizer):
    (row,) = LocalModel(build("llama"), tokenizer, "llama2_chat").score([ScoreItem("a", "", "Who?")])
    assert row.n == 1
    assert row.ends_in_eos
    assert row.text == ""


def test_forms(local, tokenizer):
    text = "Ada Bell was born in Lisbon and lives there still."
    whole, prefixed, completed = local.score(
        [
            ScoreItem("a", text, form="text"),
            ScoreItem("a", text, form="text", prefix_share=1 / 3),
            ScoreItem("a", " and lives there still.", "Ada Bell was born in Lisbon", form="completion"),
        ]
    )
    ids = tokenizer(text)["input_ids"]
    assert whole.n == len(ids) - 1
    assert prefixed.n == len(ids) - len(ids) // 3
    np.testing.assert_allclose(prefixed.logp, whole.logp[len(ids) // 3 - 1 :], atol=1e-5)
    assert completed.text == " and lives there still."
    assert not completed.ends_in_eos
    prompt = local.encode_prompt(GenerateItem("a", text, form="text", prefix_share=1 / 3))
    assert list(prompt) == ids[: len(ids) // 3]


def test_strict_refuses_what_does_not_fit_and_drops_shots_first(build, tokenizer):
    local = LocalModel(build("llama"), tokenizer, max_length=60)
    shots = tuple((f"Question number {i}?", f"Answer number {i}.") for i in range(6))
    item = ScoreItem("a", "Lisbon.", "Where was Ada Bell born?", shots=shots)
    encoded = local.encode(item)
    assert len(encoded.input_ids) <= 60
    text = tokenizer.decode(list(encoded.input_ids))
    assert "number 5" in text
    assert "number 0" not in text
    assert "Where was Ada Bell born?" in text
    with pytest.raises(InputError, match="Row b has"):
        local.encode(ScoreItem("b", "word " * 80, "Q?"))
    prompt = tokenizer.decode(list(local.encode_prompt(GenerateItem("a", "Where was Ada Bell born?", shots=shots))))
    assert "number 0" not in prompt
    assert "Where was Ada Bell born?" in prompt


def test_openunlearning_cuts_from_the_right_and_appends_eos(build, tokenizer):
    local = LocalModel(build("llama"), tokenizer, TEMPLATES["llama2_chat"], variant="openunlearning", max_length=20)
    long_answer = local.encode(ScoreItem("a", "word " * 80, "Q?"))
    assert len(long_answer.input_ids) == 21
    assert long_answer.input_ids[-1] == tokenizer.eos_token_id
    long_question = local.encode(ScoreItem("a", "x", "word " * 80))
    assert (long_question.answer_start, long_question.answer_length) == (20, 1)
    assert LocalModel(build("llama"), tokenizer, variant="openunlearning").max_length == 512


def test_original_leaves_eos_away_where_the_text_fills_the_length(build, tokenizer):
    local = LocalModel(build("llama"), tokenizer, TEMPLATES["llama2_chat"], variant="original", max_length=20)
    assert local.encode(ScoreItem("a", "word " * 80, "Q?")).input_ids[-1] != tokenizer.eos_token_id
    assert local.encode(ScoreItem("a", "x", "Q?")).input_ids[-1] == tokenizer.eos_token_id


def test_openunlearning_hides_eos_where_pad_is_eos(build, tokenizer):
    template = Template(name="marked", user_start="", user_end="</s>", assistant_start="", answer_prefix="")
    item = ScoreItem("a", "Lisbon.", "Where was Ada Bell born?")
    model = build("llama")
    strict = LocalModel(model, tokenizer, template)
    published = strict.with_variant("openunlearning")
    ids = torch.tensor([strict.encode(item).input_ids])
    assert (ids[0, :-1] == tokenizer.eos_token_id).sum() == 1
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=(ids != tokenizer.eos_token_id).long()).logits
    start = strict.encode(item).answer_start
    expected = logits.log_softmax(-1)[0, start - 1 : -1].gather(-1, ids[0, start:, None])[:, 0]
    np.testing.assert_allclose(published.score([item])[0].logp, expected.numpy(), atol=1e-4)
    assert np.abs(published.score([item])[0].logp - strict.score([item])[0].logp).max() > 1e-3
    assert published.fingerprint != strict.fingerprint


def test_an_empty_prompt_is_an_error(local):
    with pytest.raises(InputError, match="empty prompt"):
        local.generate([GenerateItem("a", "", form="completion")])


def test_bare_switches_the_adapter_off(build, tokenizer):
    model = build("llama")
    plain = LocalModel(model, tokenizer).score(score_items())
    texts = LocalModel(model, tokenizer).generate(generate_items())
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"))
    adapted = LocalModel(wrapped, tokenizer)
    assert_rows_equal(adapted.bare().score(score_items()), plain)
    assert adapted.bare().generate(generate_items()) == texts
    assert any(np.abs(a.logp - b.logp).max() > 1e-3 for a, b in zip(adapted.score(score_items()), plain, strict=True))
    assert adapted.fingerprint != adapted.bare().fingerprint


@pytest.mark.parametrize("template", [None, "llama2_chat"])
def test_items_are_encoded_together_as_one_by_one(tokenizer, template):
    plain = resolve_template(tokenizer, template)
    shots = (("Who taught Mina Okoro?", "Her mother."),) * 3
    turns = ({"role": "user", "content": "Who?"}, {"role": "assistant", "content": "She."}, {"role": "user", "content": "And?"})
    items = [
        *score_items(),
        ScoreItem("empty", "", "Who?"),
        ScoreItem("shots", "No.", "And?", shots=shots),
        ScoreItem("turns", "No.", messages=turns),
        ScoreItem("text", "Ada Bell was born in Lisbon.", form="text", prefix_share=0.5),
        ScoreItem("border", "Öst 東京", "Where?"),
    ]
    for longest in (None, 120):  # the second drops few-shot pairs
        together = encode_score_items(tokenizer, plain, items, max_length=longest)
        assert together == [encode_score_item(tokenizer, plain, item, max_length=longest) for item in items]
    with pytest.raises(InputError, match="Row 0 has"):
        encode_score_items(tokenizer, plain, items, max_length=4)
    assert encode_score_items(tokenizer, plain, []) == []
