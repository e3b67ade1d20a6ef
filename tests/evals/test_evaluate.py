"""Suites from rows to results: values, availability, comparisons, bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from _lookup import LookupModel, knows, people_rows

from efface.data.schema import RowSet
from efface.errors import InputError
from efface.evals import SuiteData, evaluate
from efface.evals.evaluate import evaluate_all
from efface.evals.metrics.base import ALL_VARIANTS, TextMetric
from efface.evals.names import OPENUNLEARNING_KEYS, from_openunlearning, to_openunlearning
from efface.evals.openunlearning import as_openunlearning_summary
from efface.registry import METRICS, SUITES
from efface.results import Results


@pytest.fixture
def reference(retrained, data):
    return evaluate(retrained, data=data, suite="tofu", role="retrained")


def test_a_model_that_knows_everything(original, data, reference):
    results = evaluate(original, data=data, suite="tofu", against=reference, role="original")
    assert results.role == "original"
    assert results.fingerprint == original.fingerprint
    for name in ("forget_fact_accuracy", "forget_rouge", "retain_fact_accuracy", "forget_extraction_strength"):
        assert results.value(name) == 1.0, name
    assert results.value("holdout_fact_accuracy") == 0
    assert results.value("forget_refusal_rate") == 0
    assert results["forget_probability"].value > 0.9
    assert results["mia_loss"].value == 1.0
    assert results["model_utility"].value > 0
    assert results["world_utility"].value > 0.2
    assert results["world_utility"].interval.low <= results["world_utility"].value <= results["world_utility"].interval.high


def test_the_retrained_model_against_itself(retrained, data, reference):
    again = evaluate(retrained, data=data, suite="tofu", against=reference)
    assert again.value("forget_quality") == 1.0
    assert again["forget_quality"].details["ks_d"] == 0
    assert again.value("privleak") == 0
    assert again.value("forget_fact_accuracy") == 0
    assert again["retain_fact_accuracy"].value == 1


def test_forget_quality_shows_everything_a_p_value_needs(original, data, reference):
    metric = evaluate(original, data=data, suite="tofu", against=reference)["forget_quality"]
    assert metric.interval is None
    for key in ("ks_d", "ks_d_low", "ks_d_high", "log10_p", "log10_p_floor", "direction", "n_retrained"):
        assert metric.details[key] is not None, key
    assert metric.details["log10_p_floor"] <= metric.details["log10_p"] <= 0
    assert metric.n == len(data.forget)


def test_intervals_resample_people_not_rows(original, data):
    interval = evaluate(original, data=data)["forget_probability"].interval
    assert interval.n_entities == 12
    assert interval.method == "bootstrap over entities"
    anonymous = RowSet.build([replace(row, entity=row.id) for row in data.forget])
    results = evaluate(original, data=SuiteData(anonymous))
    assert "rows" in results["forget_probability"].interval.method
    assert any("no entities" in note for note in results.notes)


def test_few_people_are_announced(original):
    results = evaluate(original, data=SuiteData(people_rows("forget", 3)))
    assert any("n entities = 3" in note for note in results.notes)
    assert not results["forget_probability"].interval.is_meaningful


def test_the_chance_level_stands_beside_fact_accuracy(original, data):
    details = evaluate(original, data=data)["holdout_fact_accuracy"].details
    assert 0.1 < details["chance"] < 0.4
    assert "retain" in details["chance_basis"]


def test_results_survive_json(original, data, reference):
    results = evaluate(original, data=data, suite="tofu", against=reference)
    again = Results.from_dict(json.loads(json.dumps(results.as_dict(), allow_nan=False)))
    assert again.metrics == dict(results.metrics)


@pytest.mark.parametrize("variant", ALL_VARIANTS)
def test_every_variant_of_every_figure(original, retrained, data, variant):
    reference = evaluate(retrained, data=data, suite="tofu", variant=variant)
    results = evaluate(original, data=data, suite="tofu", against=reference, variant=variant)
    missing = {name for name, metric in results.metrics.items() if metric.value is None}
    assert missing <= {name for name in results.metrics if "paraphrased_question" in name}
    assert {metric.variant for metric in results.metrics.values()} == {variant}
    for name in ("forget_probability", "forget_truth_ratio", "retain_truth_ratio", "model_utility"):
        assert 0 <= results.value(name) <= 1


def test_a_missing_set_leaves_its_figures_not_available(original, data):
    results = evaluate(original, data=SuiteData(data.forget), suite="tofu")
    for name in ("retain_probability", "real_authors_truth_ratio", "model_utility", "forget_quality", "privleak"):
        assert results[name].value is None
        assert results[name].reason, name
    assert "no retain set" in results["retain_probability"].reason
    assert any("retain and holdout set" in note for note in results.notes)


def test_auto_names_what_the_rows_do_not_allow(original):
    bare = RowSet.build([{"question": "q1", "answer": "a1"}, {"question": "q2", "answer": "a2"}])
    results = evaluate(original, data=SuiteData(bare))
    assert results.value("forget_rouge") == 0
    assert "perturbed_answer" in results["forget_truth_ratio"].reason
    assert results["forget_fact_accuracy"].reason == "no value in the row"
    assert "model_utility" not in results.metrics
    assert any("forget_truth_ratio" in note and "perturbed_answer" in note for note in results.notes)


def test_rows_without_a_field_are_skipped_and_counted(original):
    rows = [{"question": f"q{i}", "answer": "a", **({"value": "a"} if i else {})} for i in range(4)]
    metric = evaluate(original, data=SuiteData(RowSet.build(rows)))["forget_fact_accuracy"]
    assert (metric.n, metric.n_skipped) == (3, 1)
    assert metric.per_item[0] is None


def test_plain_texts_are_continued_from_their_first_third():
    text = "one two three four five six seven eight nine"
    model = LookupModel({"one two three": "four five six seven eight nine"})
    results = evaluate(model, data=SuiteData(RowSet.build([{"text": text}])))
    assert results.value("forget_rouge") == 1
    assert results.value("forget_extraction_strength") == 1
    assert results.value("forget_probability") > 0.8
    assert results.examples[0].answer == "four five six seven eight nine"


def test_a_long_text_is_compared_with_as_much_as_may_be_generated():
    tokens = [f"w{i}" for i in range(600)]
    model = LookupModel({" ".join(tokens[:200]): " ".join(tokens[200:])})
    results = evaluate(model, data=SuiteData(RowSet.build([{"text": " ".join(tokens)}])))
    assert results.value("forget_rouge") > 0.95


def test_conversations_are_measured_with_their_history(original):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}]
    rows = RowSet.build([{"messages": [*turns, {"role": "assistant", "content": "b"}]}])
    results = evaluate(original, data=SuiteData(rows))
    assert results["forget_probability"].n == 1


def test_extra_sets_get_their_natural_figures(original, data):
    extra = {
        "refusals": RowSet.build([{"question": "Secret ?", "answer": "Nobody"}]),
        "context": people_rows("context", 2),
        "unseen_frames_forget": people_rows("forget", 2),
        "unseen_frames_retain": people_rows("retain", 2),
        "passages_forget": RowSet.build([{"text": "one two three four"}]),
        "my_own": RowSet.build([{"question": "q", "answer": "a"}]),
    }
    results = evaluate(original, data=replace(data, extra=data.extra | extra))
    assert results.value("refusals_refusal_rate") == 1  # "Nobody" is a refusal once the refusals say so
    assert results["refusals_refusal_rate"].aim == "higher"
    assert results.value("holdout_refusal_rate") == 1
    assert results.value("unseen_frames_retain_fact_accuracy") == 1
    assert results["unseen_frames_forget_fact_accuracy"].aim == "lower"
    assert results["unseen_frames_retain_fact_accuracy"].aim == "higher"
    assert results.value("context_fact_accuracy") == 0
    assert results["passages_forget_rouge"].value == 0
    assert results["my_own_probability"].value > 0


def test_tofus_sample_of_the_retain_set_takes_its_place(original, data):
    sample = RowSet(data.retain.rows[:6])
    results = evaluate(original, data=replace(data, extra={"retain_perturbed": sample}))
    assert results["retain_probability"].n == 6
    assert not any(name.startswith("retain_perturbed_fact") for name in results.metrics)


def test_one_pass_serves_several_suites(original, data):
    together = evaluate_all(original, suites=["auto", "tofu"], data=data, max_new_tokens=32)
    assert set(together) == {"auto", "tofu"}
    asked = len(original.asked)
    alone = LookupModel(original.known)
    evaluate(alone, data=data, suite="tofu", max_new_tokens=32)
    assert asked == len(alone.asked)
    assert together["auto"].value("forget_rouge") == together["tofu"].value("forget_rouge")


def test_a_second_evaluation_measures_nothing(original, data, tmp_path):
    first = evaluate(original, data=data, cache=tmp_path)
    original.asked.clear()
    second = evaluate(original, data=data, cache=tmp_path)
    assert original.asked == []
    assert second.cost["scored_now"] == second.cost["generated_now"] == 0
    assert second.metrics == first.metrics


def test_reference_results_of_other_rows_are_refused(original, retrained, data):
    other = evaluate(retrained, data=replace(data, forget=people_rows("forget", 11)))
    with pytest.raises(InputError, match="other forget rows"):
        evaluate(original, data=data, against=other)
    changed = RowSet.build([replace(row, perturbed_answer=("Nothing", "Nowhere")) for row in data.forget])
    same_ids = evaluate(retrained, data=replace(data, forget=changed))
    with pytest.raises(InputError, match="other forget rows"):
        evaluate(original, data=data, against=same_ids)


def test_reference_results_of_another_variant_are_refused(original, retrained, data):
    other = evaluate(retrained, data=data, variant="openunlearning")
    with pytest.raises(InputError, match="variant"):
        evaluate(original, data=data, against=other)


def test_values_that_are_not_numbers_are_refused_and_listed(data):
    broken = frozenset({data.forget[3].answer, data.forget[3].paraphrased_answer})
    model = LookupModel(knows(data.forget, data.retain), broken=broken)
    healthy = evaluate(LookupModel(knows(data.retain)), data=data)
    results = evaluate(model, data=data, against=healthy)
    for name in ("forget_probability", "forget_truth_ratio", "forget_quality", "mia_loss"):
        assert results[name].value is None, name
        assert data.forget[3].id in results[name].reason, name
    assert results["retain_probability"].value is not None
    json.dumps(results.as_dict(), allow_nan=False)


def test_bad_input(original, data):
    with pytest.raises(InputError, match="forget set is empty"):
        evaluate(original, data=SuiteData(RowSet(())))
    with pytest.raises(InputError, match="context set is empty"):
        evaluate(original, data=replace(data, extra={"context": RowSet(())}))
    with pytest.raises(InputError, match="cannot name a set"):
        evaluate(original, data=replace(data, extra={"My set": data.forget}))
    with pytest.raises(InputError, match="variant"):
        evaluate(original, data=data, variant="strct")
    with pytest.raises(InputError, match="tofu"):
        evaluate(original, data=data, suite="tofy")


def test_a_model_that_only_writes(original, data):
    class Remote:
        fingerprint = "remote"
        generate = original.generate

        def score(self, items, *, progress=None):
            raise NotImplementedError("no log-probabilities")

        def bare(self):
            return self

    results = evaluate(Remote(), data=data, suite="tofu")
    assert results.value("forget_fact_accuracy") == 1
    assert results["forget_probability"].value is None
    assert results["forget_probability"].reason == "no log-probabilities"
    assert results["model_utility"].value is None


def test_a_metric_of_another_package_is_measured(original, data, monkeypatch):
    class Shouting(TextMetric):
        name = "shouting"
        title = "shouting"
        definition = "Share of answers in capitals."
        cost = "none"

        @staticmethod
        def item(generation, truth, *, variant="strict"):
            return float(generation.isupper())

    monkeypatch.setitem(METRICS._targets, "shouting", Shouting)
    results = evaluate(original, data=data)
    assert results.value("forget_shouting") == 0
    assert results.value("retain_shouting") == 0


def test_examples_are_spread_over_every_set(original, data):
    examples = evaluate(original, data=data).examples
    assert {example.group for example in examples} == set(data.sets)
    assert len({example.row_id for example in examples if example.group == "forget"}) == 8


def test_names_map_to_openunlearning_and_back(original, data):
    assert len(set(OPENUNLEARNING_KEYS.values())) == len(OPENUNLEARNING_KEYS)
    assert all(from_openunlearning(to_openunlearning(name)) == name for name in OPENUNLEARNING_KEYS)
    assert to_openunlearning("world_utility") is from_openunlearning("nothing") is None
    found = evaluate_all(original, data=data, suites=["tofu", "privacy"])
    results = found["tofu"]
    assert set(OPENUNLEARNING_KEYS) <= {*results.metrics, *found["privacy"].metrics}
    summary = as_openunlearning_summary(results)
    assert summary["retain_Q_A_Prob"] == results.value("retain_probability")


@pytest.mark.parametrize("name", SUITES.names())
def test_every_suite_says_what_it_is(name):
    suite = SUITES.get(name)
    assert suite.name == name
    assert suite.title
    assert suite.max_new_tokens > 0


def test_bootstraps_follow_the_seed(original, data):
    first, again, other = (evaluate(original, data=data, seed=seed)["forget_probability"].interval for seed in (1, 1, 2))
    assert first == again
    assert np.isfinite([first.low, first.high]).all()
    assert first != other
