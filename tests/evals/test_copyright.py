"""The copyright suite, what is said of rows that need care, and the judges."""

from __future__ import annotations

import pytest
import torch
from _lookup import LookupModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from efface.data.schema import RowSet
from efface.errors import InputError, MissingNeed
from efface.evals import SuiteData, evaluate
from efface.evals.judges import Judges
from efface.evals.notes import is_partly_unseen, is_unseen
from efface.evals.suites.copyright import Copyright

SENTENCE = "the old clock struck nine and every door along the quiet harbour street stood open to the rain"
WORDS = SENTENCE.split()


def passages(name, count):
    texts = [" ".join(f"{word}{name}{number}" if i % 3 else word for i, word in enumerate(WORDS)) for number in range(count)]
    return RowSet.build([{"id": f"{name}-{i}", "text": text, "entity": f"{name}-{i}"} for i, text in enumerate(texts)])


def recited(rows):
    given = [(row.text.split(), max(1, int(len(row.text.split()) / 3))) for row in rows]
    return {" ".join(text[:cut]): " ".join(text[cut:]) for text, cut in given}


@pytest.fixture
def works():
    return SuiteData(passages("f", 10), passages("r", 10), passages("h", 10))


def test_a_model_that_recites_against_one_that_does_not(works):
    retrained = evaluate(LookupModel(recited(works.retain)), data=works, suite="copyright", role="retrained")
    original = LookupModel(recited(works.retain) | recited(works.forget))
    results = evaluate(original, data=works, suite="copyright", against=retrained)
    length = len(WORDS) - len(WORDS) // 3
    assert results.value("forget_longest_verbatim") == results.value("forget_longest_near_verbatim") == length
    assert results["forget_longest_verbatim"].details["longest"] == length
    for name in ("rouge", "bleu", "extraction_strength", "exact_memorization"):
        assert results.value(f"forget_{name}") == pytest.approx(1.0)
        gap = results[f"forget_{name}_gap"]
        assert gap.aim == "zero"
        assert 0.5 < gap.interval.low <= gap.value <= gap.interval.high
        assert results.value(f"retain_{name}_gap") == results.value(f"holdout_{name}_gap") == 0
    extraction = results["forget_extraction_probability"]
    assert extraction.value > 0.99
    assert extraction.details["greedy"] == extraction.details["share_extractable"] == 1.0
    assert results["holdout_extraction_probability"].details["share_extractable"] == 0
    assert "PATH" in results["forget_reference_perplexity"].reason
    assert results.examples[0].generated


def test_gaps_need_the_retrained_model_on_the_same_rows(works):
    alone = evaluate(LookupModel({}), data=works, suite="copyright")
    assert alone.value("forget_bleu_gap") is None
    assert "retrained" in alone["forget_bleu_gap"].reason
    other = evaluate(LookupModel({}), data=SuiteData(passages("x", 10)), suite="copyright")
    with pytest.raises(InputError, match="other rows"):
        evaluate(LookupModel({}), data=works, suite="copyright", against=other)


def test_rows_that_are_no_texts_are_not_continued(data):
    results = evaluate(LookupModel({}), data=data, suite="copyright")
    assert results.metrics
    assert all(metric.value is None for metric in results.metrics.values())
    assert "texts:DIR" in results["forget_bleu"].reason


FAR = {"id": "far", "question": "Capital?", "answer": "\u5317\u4eac"}
MIXED = {"id": "mixed", "question": "Who?", "answer": "Zo\u00eb Ashgrove"}
PLAIN = {"id": "plain", "question": "When?", "answer": "Monday"}


@pytest.mark.parametrize(
    ("variant", "score", "said"), [("openunlearning", 0.0, "1 references without"), ("strict", 1.0, "every script")]
)
@pytest.mark.filterwarnings("ignore:A reference holds no ASCII")
def test_what_the_published_rouge_cannot_see_is_counted(variant, score, said):
    rows = RowSet.build([FAR, MIXED, PLAIN])
    model = LookupModel({row.question: row.answer for row in rows})
    results = evaluate(model, data=SuiteData(rows), suite="auto", variant=variant)
    assert results["forget_rouge"].per_item[0] == score
    (note,) = [note for note in results.notes if "outside ASCII" in note]
    assert note.startswith("2 of 3 references of forget")
    assert said in note


def test_only_letters_outside_ascii_are_a_blind_spot():
    assert not is_partly_unseen("Plain words, 1984 - and dashes \u2014 too.")
    assert not is_unseen("...")
    assert is_unseen("\u5317\u4eac")
    assert is_partly_unseen("Zo\u00eb")
    assert not is_unseen("Zo\u00eb")


def test_empty_and_one_token_answers_are_counted():
    rows = RowSet.build(
        [PLAIN, {"id": "b", "question": "What?", "answer": "Two words"}, {"id": "c", "question": "Where?", "answer": "x"}]
    )
    model = LookupModel({"When?": "", "What?": "Two words", "Where?": "x"})
    results = evaluate(model, data=SuiteData(rows), suite="auto")
    assert any(note.startswith("1 of 3 answers the model wrote to forget are empty") for note in results.notes)
    assert any(note.startswith("2 of 3 answers of forget are one token long") for note in results.notes)
    assert not any("no token to judge" in note for note in results.notes)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "clean", "noise", *dict.fromkeys(WORDS)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, num_labels=3, **shape)
    config.id2label, config.label2id = {0: "entailment", 1: "neutral", 2: "no"}, {"entailment": 0, "neutral": 1, "no": 2}
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    BertModel(config).save_pretrained(folder / "embedder")
    tokenizer.save_pretrained(folder / "embedder")
    return folder


def test_a_classifier_judges_text_by_text(classifier):
    judges = Judges(fluency=classifier, entailment=classifier)
    texts = ["clean clean", "noise noise noise", "the old clock"]
    together = judges.clean(texts)
    assert ((together > 0) & (together < 1)).all()
    assert together == pytest.approx([judges.clean([text])[0] for text in texts], abs=1e-5)
    assert judges.clean([]).shape == (0,)
    assert judges.entails([("the old clock", "noise")]).dtype == bool


def test_figures_of_judges_appear_where_they_are_named(works, classifier):
    suite = Copyright(judges=Judges(fluency=classifier))
    results = evaluate(LookupModel(recited(works.forget)), data=works, suite=suite)
    assert 0 < results.value("forget_classifier_fluency") < 1
    assert results.value("forget_reference_perplexity") is None


def test_embeddings(classifier):
    pytest.importorskip("sentence_transformers", reason="efface[classifiers] is not installed")
    judges = Judges(embedder=classifier / "embedder")
    same, other = judges.similarity([("the old clock", "the old clock"), ("the old clock", "noise noise")])
    assert same == pytest.approx(1.0, abs=1e-5)
    assert 0 <= other < 1


def test_a_judge_that_is_missing_or_unreadable_says_so(tmp_path):
    assert "PATH" in Judges().missing("fluency")
    with pytest.raises(MissingNeed, match="fluency"):
        Judges().clean(["text"])
    with pytest.raises(InputError, match="does not load"):
        Judges(fluency=tmp_path).clean(["text"])
