"""MUSE's figures on hand-computed texts, and the suite from rows to results."""

from __future__ import annotations

from dataclasses import replace

import pytest
from _lookup import LookupModel, knows, people_rows

from efface.data.encoding import TEMPLATES
from efface.data.schema import RowSet
from efface.errors import InputError
from efface.evals import SuiteData, evaluate
from efface.evals.measure import Measured
from efface.evals.metrics.muse import AUC_RETRAINED, muse_privleak, rouge_f1, verbatim_reference
from efface.evals.suites.base import make_suite
from efface.evals.suites.data import Asking, SetView
from efface.evals.suites.muse import CRITERIA, Muse


class WordTokenizer:
    """Words as tokens, with a BOS."""

    def __call__(self, text, add_special_tokens=True, **_):
        words = text.split()
        return {"input_ids": ["<s>", *words] if add_special_tokens else words}

    def decode(self, ids, skip_special_tokens=True):
        return " ".join(word for word in ids if word != "<s>")


def passages(prefix: str, count: int) -> RowSet:
    rows = [
        {
            "id": f"{prefix}-{i}",
            "entity": f"{prefix}-{i}",
            "question": f"Page {i} of {prefix} .",
            "answer": f"so {prefix} {i} ends it",
        }
        for i in range(count)
    ]
    return RowSet.build(rows)


def texts(prefix: str, count: int) -> RowSet:
    return RowSet.build(
        [{"id": f"{prefix}-t{i}", "entity": f"{prefix}-{i}", "text": f"{prefix} text {i} of some words"} for i in range(count)]
    )


@pytest.fixture
def muse_data() -> SuiteData:
    own = {
        "verbmem": passages("forget", 12),
        "forget_qa": people_rows("forget", 12),
        "retain_qa": people_rows("retain", 12),
        "retain_qa_icl": people_rows("example", 2),
        "privleak_forget": texts("forget", 12),
        "privleak_holdout": texts("stranger", 12),
    }
    return SuiteData(people_rows("forget", 12), own={"muse": own})


class Reader(LookupModel):
    """Knows passages and answers, and finds the texts it has read probable."""

    def __init__(self, data: SuiteData, *, forgot: bool) -> None:
        own = data.own["muse"]
        known = knows(own["retain_qa"]) if forgot else knows(own["retain_qa"], own["forget_qa"])
        known |= {} if forgot else {row.question: f" {row.answer}" for row in own["verbmem"]}
        super().__init__(known)
        self.read = set() if forgot else {row.text for row in own["privleak_forget"]}

    def _row(self, item):
        row = super()._row(item)
        return replace(row, logp=row.logp * 0.01) if item.answer in self.read else row


def test_rouge_f1_by_hand():
    assert rouge_f1("a b c", "a b d e") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert rouge_f1("runs", "running", variant="original") == 0
    assert rouge_f1("runs", "running", variant="openunlearning") == 1
    assert rouge_f1("anything", "...") is None


def test_the_reference_is_cut_as_the_variant_says():
    rows = RowSet.build([{"question": "Once", "answer": "one two three four"}])
    view = SetView("verbmem", rows, max_new_tokens=3, asking=Asking(form="completion"))
    measured = Measured("f", tokenizer=WordTokenizer())
    cut = {v: view.reference(rows[0], 0, measured, v) for v in ("strict", "original", "openunlearning")}
    assert cut == {"strict": "one two three", "original": "one two", "openunlearning": "one two three four"}
    assert view.reference(rows[0], 0, Measured("f")) == "one two three four"
    assert verbatim_reference(WordTokenizer(), "one two", 2, counts_bos=False) == "one two"


def test_privleak_needs_a_retrained_model():
    assert muse_privleak(1.0, None) is muse_privleak(1.0, None, variant="openunlearning") is None
    assert muse_privleak(1.0, 0.5) == -100
    assert muse_privleak(0.5, 0.5) == 0


def test_four_criteria_for_three_models(muse_data):
    reference = evaluate(Reader(muse_data, forgot=True), data=muse_data, suite="muse", role="retrained")
    assert reference["muse_privleak"].value is None
    original = evaluate(Reader(muse_data, forgot=False), data=muse_data, suite="muse", against=reference)
    assert original.value("forget_verbmem") == original.value("forget_knowmem") == original.value("retain_knowmem") == 1
    assert original.value("verbmem_extraction_strength") == 1
    assert original.value("muse_mia_min_k") == 1
    assert original.value("muse_privleak") == -100
    assert original["muse_privleak"].details["auc_retrained"] == reference.value("muse_mia_min_k")
    assert [original[name].aim for name in CRITERIA] == ["lower", "lower", "zero", "higher"]
    for name in CRITERIA:
        assert original[name].interval.n_entities == 12, name
    assert reference.value("forget_verbmem") < 0.5
    assert reference.value("retain_knowmem") == 1
    assert "fold by fold" in original["scalability"].reason
    assert original["sustainability"].value is None


@pytest.mark.parametrize("variant", ["strict", "original", "openunlearning"])
def test_without_a_retrained_model_privleak_is_not_available(muse_data, variant):
    metric = evaluate(Reader(muse_data, forgot=False), data=muse_data, suite="muse", variant=variant)["muse_privleak"]
    assert metric.value is None
    assert "retrained model" in metric.reason


def test_muses_constants_only_under_original_and_only_when_told(muse_data):
    suite = make_suite("muse", {"corpus": "news"})
    model = Reader(muse_data, forgot=False)
    metric = evaluate(model, data=muse_data, suite=suite, variant="original")["muse_privleak"]
    assert metric.value == pytest.approx(-100)
    assert metric.details["auc_retrained"] == AUC_RETRAINED["news"] == pytest.approx(0.5228)
    assert "not one measured here" in metric.reason
    assert evaluate(model, data=muse_data, suite=suite)["muse_privleak"].value is None
    with pytest.raises(InputError, match="books"):
        Muse(corpus="poems")


def test_a_retrained_model_measured_on_other_texts_is_refused(muse_data):
    other = replace(muse_data, own={"muse": {**muse_data.own["muse"], "privleak_holdout": texts("others", 12)}})
    reference = evaluate(Reader(other, forgot=True), data=other, suite="muse")
    with pytest.raises(InputError, match="other forget rows"):
        evaluate(Reader(muse_data, forgot=False), data=muse_data, suite="muse", against=reference)


def test_examples_precede_questions_and_are_counted(muse_data):
    results = evaluate(Reader(muse_data, forgot=True), data=muse_data, suite="muse")
    assert "KnowMem, retain_qa: 4 examples before each question." in results.notes
    assert "KnowMem, forget_qa: no examples before each question." in results.notes
    items = list(Muse().plan(muse_data.of("muse")).generate_items())
    assert {item.max_new_tokens for item in items if item.form == "completion"} == {128}
    assert {(item.max_new_tokens, len(item.stop)) for item in items if item.form == "qa"} == {(32, 3)}


def test_the_requests_rows_stand_in_for_sets_that_are_not_given():
    forget = RowSet.build([*people_rows("forget", 2), *texts("forget", 2)])
    data = SuiteData(forget, people_rows("retain", 2), texts("stranger", 2))
    results = evaluate(LookupModel(knows(data.retain)), data=data, suite="muse")
    assert results.value("retain_knowmem") == 1
    assert results["forget_verbmem"].n == 2
    assert results["forget_knowmem"].n == 4
    assert results.value("muse_mia_min_k") is not None
    assert any("verbmem: not given" in note for note in results.notes)


def test_what_is_missing_is_named():
    results = evaluate(LookupModel({}), data=SuiteData(people_rows("forget", 2)), suite="muse")
    assert results["forget_verbmem"].reason == "no verbmem set was given"
    assert results["retain_knowmem"].reason == "no retain_qa set was given"
    assert "privleak_holdout" in results["muse_privleak"].reason


def test_a_template_that_ends_in_a_blank_is_named(muse_data):
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(["Answer: The city of forget is The pet of The"] * 9, trainer)
    plan = Muse().plan(muse_data.of("muse"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="!")
    notes = {
        name: Muse().notes(plan, Measured("f", tokenizer=tokenizer, template=TEMPLATES[name]))
        for name in TEMPLATES
        if TEMPLATES[name].kind == "plain"
    }
    assert any("blank" in note for note in notes["question_answer"])
    assert not any("blank" in note for note in notes["plain"])
