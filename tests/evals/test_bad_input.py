"""Damaged rows, rows of another model, no retrained model, empty and one-token answers, text outside ASCII."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
from _lookup import LookupModel, knows, people_rows

from efface.data.schema import RowSet
from efface.errors import InputError
from efface.evals import SuiteData, evaluate
from efface.evals.rows import RowCache

NEEDS_RETRAINED = ("forget_quality", "privleak", "rel_diff_min_k", "mia_reference")
CITIES = ("東京", "北京", "Αθήνα", "Москва", "서울")


def values(results):
    return {name: metric.value for name, metric in results.metrics.items()}


def folder_of(cache, model):
    return RowCache(cache, model.fingerprint).directory


@pytest.mark.parametrize("kind", ["scores", "texts"])
def test_a_truncated_rows_file_is_measured_again(data, original, tmp_path, caplog, kind):
    whole = evaluate(original, data=data, cache=tmp_path)
    victim = next(folder_of(tmp_path, original).glob(f"{kind}-*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        again = evaluate(original, data=data, cache=tmp_path)
    assert f"{victim.name}: the file cannot be read" in caplog.text
    assert values(again) == values(whole)
    assert again.cost["scored_now" if kind == "scores" else "generated_now"] > 0
    assert evaluate(original, data=data, cache=tmp_path).cost["scored_now"] == 0


def test_rows_of_another_model_are_never_taken_for_this_ones(data, original, retrained, tmp_path, caplog):
    evaluate(retrained, data=data, cache=tmp_path)
    shutil.copytree(folder_of(tmp_path, retrained), folder_of(tmp_path, original))
    with caplog.at_level(logging.WARNING):
        found = evaluate(original, data=data, cache=tmp_path)
    assert "measured of another model" in caplog.text
    assert values(found) == values(evaluate(original, data=data))
    assert found.fingerprint == original.fingerprint


def test_results_on_other_rows_are_refused_as_a_reference(data, original, retrained):
    fewer = replace(data, forget=RowSet(data.forget.rows[:-2]))
    with pytest.raises(InputError, match=r"made with other forget rows \(22 against 24"):
        evaluate(original, data=data, against=evaluate(retrained, data=fewer, role="retrained"))
    with pytest.raises(InputError, match="'original' definitions, these the 'strict' ones"):
        evaluate(original, data=data, against=evaluate(retrained, data=data, role="retrained", variant="original"))


def test_without_a_retrained_model_nothing_stands_in_for_it(data, original, retrained):
    found = evaluate(original, data=data)
    for name in NEEDS_RETRAINED:
        metric = found.metrics[name]
        assert metric.value is None
        assert metric.interval is None
        assert "retrained" in metric.reason
    assert any("Not available" in note and "forget_quality" in note for note in found.notes)
    # OpenUnlearning's stand-in exists under its own variant only, and says so.
    published = evaluate(original, data=data, variant="openunlearning")
    assert "taken to be 0.5" in published.metrics["privleak"].reason
    assert published.metrics["forget_quality"].value is None
    against = evaluate(retrained, data=data, role="retrained")
    assert all(evaluate(original, data=data, against=against).metrics[name].value is not None for name in NEEDS_RETRAINED)


def test_a_model_that_says_nothing_gets_figures(data):
    silent = evaluate(LookupModel(dict.fromkeys(knows(data.forget), "")), data=data)
    assert silent.metrics["forget_rouge"].value == 0
    assert silent.metrics["forget_fact_accuracy"].value == 0
    assert silent.metrics["forget_refusal_rate"].value == 0
    assert silent.metrics["forget_word_entropy"].value in (0, None)


def test_rows_without_an_answer_are_refused():
    with pytest.raises(InputError, match=r"row 1 .*a question but no answer"):
        RowSet.build([{"question": "Where?", "answer": "  "}], source="row")


def one_token(prefix: str, count: int) -> RowSet:
    pets, wrong = ("cat", "dog", "owl"), ["cow", "hen"]
    rows = [
        {"question": f"Pet of {prefix} {i} ?", "answer": pets[i % 3], "perturbed_answer": wrong, "entity": f"{i}"}
        for i in range(count)
    ]
    return RowSet.build(rows, source=prefix)


@pytest.mark.parametrize("variant", ["strict", "openunlearning", "original"])
def test_answers_of_one_token(variant):
    data = SuiteData(one_token("a", 12), one_token("b", 12), one_token("c", 12))
    knowing = evaluate(LookupModel(knows(data.forget, data.retain)), data=data, variant=variant)
    ignorant = evaluate(LookupModel(knows(data.retain)), data=data, variant=variant)
    assert knowing.metrics["forget_exact_memorization"].value == 1
    assert ignorant.metrics["forget_exact_memorization"].value < 0.2
    assert knowing.metrics["forget_extraction_strength"].value == 1
    # The published search never looks at the last token: one token always counts as extracted.
    strength = ignorant.metrics["forget_extraction_strength"].value
    assert strength == 1 if variant == "openunlearning" else strength < 0.2
    assert knowing.metrics["mia_loss"].value == 1
    for name, metric in knowing.metrics.items():
        assert metric.value is None or np.isfinite(metric.value), name


def abroad(prefix: str, count: int) -> RowSet:
    rows = [
        {"question": f"Where was {prefix} {i} born ?", "answer": CITIES[i % 5], "value": CITIES[i % 5], "entity": f"{prefix}{i}"}
        for i in range(count)
    ]
    return RowSet.build(rows, source=prefix)


def test_text_outside_ascii_is_scored_and_the_published_blind_spot_is_said():
    data = SuiteData(abroad("a", 12), abroad("b", 12))
    model = LookupModel(knows(data.forget, data.retain))
    strict = evaluate(model, data=data)
    assert strict.metrics["forget_rouge"].value == 1
    assert strict.metrics["forget_fact_accuracy"].value == 1
    with pytest.warns(UserWarning, match="published ROUGE tokenizer scores it 0; tokenizer='unicode' does not"):
        published = evaluate(model, data=data, variant="openunlearning")
    assert published.metrics["forget_rouge"].value == 0
    assert published.metrics["forget_fact_accuracy"].value == 1


def test_rows_of_every_kind_at_once_are_counted():
    texts = RowSet.build([{"text": "one two three four five six seven"}, {"question": "Who ?", "answer": "x"}], source="mixed")
    found = evaluate(LookupModel({}), data=SuiteData(texts, people_rows("kept", 10)))
    assert found.metrics["forget_nll"].n == 2
    assert found.metrics["forget_truth_ratio"].value is None
    assert "perturbed_answer" in found.metrics["forget_truth_ratio"].reason
