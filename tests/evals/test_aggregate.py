"""The aggregate over three models: by hand, with missing parts, and what it must never do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from efface.evals import evaluate
from efface.evals.aggregate import aggregate_metrics, with_aggregates
from efface.evals.metrics.aggregate import (
    MEMORIZATION_PARTS,
    aggregate_score,
    memorization_score,
    relative_utility,
    utility_score,
)
from efface.evals.metrics.privacy_score import SCALED_ATTACKS, s_mia
from efface.results import Interval, Metric, Results

FIGURES = {
    "forget_extraction_strength": 0.1,
    "forget_exact_memorization": 0.5,
    "forget_paraphrased_probability": 0.2,
    "forget_truth_ratio_knowledge": 0.4,
    "mia_loss": 0.4,
    "mia_zlib": 0.5,
    "mia_min_k": 0.3,
    "mia_min_k_plus_plus": 0.6,
    "model_utility": 0.54,
    "forget_gibberish": 0.9,
}


def results(role="unlearned", **changes):
    figures = {**FIGURES, **changes}
    metrics = {
        name: Metric(name, value, "reference", reason="" if value is not None else "was not measured")
        for name, value in figures.items()
    }
    return Results(role, "tofu", metrics)


ORIGINAL = results("original", forget_extraction_strength=1.0, model_utility=0.6, forget_gibberish=0.9)
RETRAINED = results("retrained", mia_loss=0.5, mia_zlib=0.5, mia_min_k=0.5, mia_min_k_plus_plus=0.5, model_utility=0.6)


def harmonic(*values):
    return len(values) / sum(1 / value for value in values)


def test_by_hand():
    found = aggregate_metrics(results(), original=ORIGINAL, retrained=RETRAINED)
    memorization = harmonic(0.9, 0.5, 0.8, 0.6)
    privacy = harmonic(0.8, 1.0, 0.6, 0.8)
    utility = harmonic(0.54, 0.9) / harmonic(0.6, 0.9)
    assert found["memorization_score"].value == pytest.approx(memorization)
    assert found["privacy_score"].value == pytest.approx(privacy)
    assert found["utility_score"].value == pytest.approx(utility)
    assert found["utility_score"].details["raw"] == pytest.approx(harmonic(0.54, 0.9))
    assert found["aggregate"].value == pytest.approx(harmonic(memorization, privacy, utility))
    assert found["aggregate_without_privacy"].value == pytest.approx(harmonic(memorization, utility))
    theirs = harmonic(memorization, 1.0, 1.0)
    assert found["aggregate_distance"].value == pytest.approx(found["aggregate"].value - theirs)
    assert found["aggregate_without_privacy_distance"].value == pytest.approx(
        found["aggregate_without_privacy"].value - harmonic(memorization, 1.0)
    )


def test_the_original_model_has_full_utility_and_no_aggregate():
    every = with_aggregates({"original": ORIGINAL, "unlearned": results(), "retrained": RETRAINED})
    assert every["original"].value("utility_score") == 1.0
    assert every["original"].value("aggregate") == 0.0
    assert "memorization_score" in every["original"]["aggregate"].reason
    assert "forget_extraction_strength" in every["original"]["memorization_score"].reason
    assert every["retrained"].value("privacy_score") == 1.0
    assert every["retrained"].value("aggregate_distance") == 0.0


def test_utility_above_the_originals_is_capped_and_the_raw_value_shown():
    found = aggregate_metrics(results(model_utility=0.7), original=ORIGINAL, retrained=RETRAINED)["utility_score"]
    assert found.value == 1.0
    assert found.details["raw"] > found.details["raw_original"]


@pytest.mark.parametrize("part", [*MEMORIZATION_PARTS[1:], "model_utility", "forget_gibberish", *SCALED_ATTACKS])
def test_a_missing_part_is_named(part):
    found = aggregate_metrics(results(**{part: None}), original=ORIGINAL, retrained=RETRAINED)
    assert found["aggregate"].value is None
    assert part in found["aggregate"].reason
    assert found["aggregate_distance"].value is None
    without = found["aggregate_without_privacy"]
    assert (without.value is None) == (part not in SCALED_ATTACKS)


def test_without_the_other_models():
    found = aggregate_metrics(results())
    assert found["memorization_score"].value is not None
    assert found["utility_score"].value is None
    assert found["utility_score"].details["raw"] == pytest.approx(harmonic(0.54, 0.9))
    assert "original model" in found["aggregate"].reason
    assert "retrained model" in found["aggregate"].reason


def test_another_fluency_is_taken_only_by_name():
    ours = results(forget_gibberish=None, forget_word_entropy=0.8)
    original = results("original", forget_gibberish=None, forget_word_entropy=0.9)
    found = aggregate_metrics(ours, original=original, retrained=RETRAINED)["utility_score"]
    assert found.value == pytest.approx(harmonic(0.54, 0.8) / harmonic(0.54, 0.9))
    assert "forget_word_entropy" in found.reason
    assert "not comparable" in found.reason
    mixed = aggregate_metrics(ours, original=ORIGINAL, retrained=RETRAINED)["utility_score"]
    assert mixed.value is None
    assert "forget_word_entropy" in mixed.reason


def test_intervals_contain_the_value_and_say_how_they_came_about():
    measured = results()
    metrics = {
        name: replace(m, interval=Interval(m.value - 0.05, m.value + 0.05, n_entities=12)) for name, m in measured.metrics.items()
    }
    found = aggregate_metrics(replace(measured, metrics=metrics), original=ORIGINAL, retrained=RETRAINED)
    for name in ("memorization_score", "utility_score", "aggregate_without_privacy", "aggregate_without_privacy_distance"):
        interval = found[name].interval
        assert interval.low < found[name].value < interval.high, name
        assert interval.n_entities == 12
    low = memorization_score(0.15, 0.55, 0.25, 0.45)
    assert found["memorization_score"].interval.low == pytest.approx(low)


def test_a_suite_without_its_parts_has_no_aggregate():
    assert aggregate_metrics(Results("x", "own", {})) == {}


def test_of_measured_models(original, retrained, data):
    reference = evaluate(retrained, data=data, suite="tofu", role="retrained")
    measured = {
        "original": evaluate(original, data=data, suite="tofu", role="original", against=reference),
        "retrained": reference,
    }
    found = with_aggregates(measured)
    assert found["original"].value("aggregate") == 0.0  # it recites everything
    assert found["retrained"].value("memorization_score") > 0.5
    assert "forget_word_entropy" in found["retrained"]["utility_score"].reason  # it answers in one word, which has no entropy
    assert found["retrained"].value("privacy_score") == 1.0


def test_pure_functions_at_their_edges():
    assert memorization_score(1.0, 0.2, 0.2, 0.2) == 0.0
    assert s_mia(0.5, 0.5) == 1.0
    assert s_mia(0.0, 0.5) == 0.0
    assert s_mia(1.0, 0.3) == 0.0
    assert s_mia(0.5, 0.0) is None
    assert relative_utility(0.5, 0.0) is None
    assert utility_score(0.0, 1.0) == 0.0
    assert aggregate_score(0.5, 1.0) == pytest.approx(2 / 3)
    assert aggregate_score(0.5, 1.0, 0.0) == 0.0
