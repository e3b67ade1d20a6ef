"""The privacy suite: attacks with their error rates, scaled scores, and what is said where something is missing."""

from __future__ import annotations

import pytest
from _lookup import LookupModel, knows
from hypothesis import given
from hypothesis import strategies as st

from efface.evals import SuiteData, evaluate
from efface.evals.metrics.base import TokenMetric
from efface.evals.metrics.privacy_score import SCALED_ATTACKS, privacy_score, s_mia, s_mia_full, scaled_interval
from efface.evals.suites.attacks import attack_metric
from efface.evals.suites.privacy import with_original
from efface.registry import METRICS
from efface.results import Interval


class Differentiable(LookupModel):
    """What a row pulls at the weights is its loss here."""

    def gradient_norms(self, items, *, p=2.0, progress=None):
        self.asked += [f"gradient {item.row_id}" for item in items]
        return [float(-row.logp.mean()) ** (p / 2) for row in self.score(items)]


@pytest.fixture
def roles(data):
    kept = knows(data.retain, *data.extra.values())
    half = {question: answer for number, (question, answer) in enumerate(knows(data.forget).items()) if number % 2}
    models = {
        "retrained": Differentiable(kept),
        "original": Differentiable(kept | knows(data.forget)),
        "unlearned": Differentiable(kept | half),
    }
    found = {"retrained": evaluate(models["retrained"], data=data, suite="privacy", role="retrained")}
    for role in ("original", "unlearned"):
        found[role] = evaluate(models[role], data=data, suite="privacy", role=role, against=found["retrained"])
    return with_original(found)


def test_a_model_that_knows_is_found_out_by_every_attack(roles, data):
    for name in (*SCALED_ATTACKS, "mia_gradnorm", "mia_reference"):
        metric = roles["original"][name]
        assert metric.value > 0.95, name
        assert metric.interval.low <= metric.value <= metric.interval.high
        assert metric.details["tpr_at_fpr_5_percent"] >= metric.details["tpr_at_fpr_1_percent"] > 0.5
        for percent in (1, 5):
            rate = metric.details[f"tpr_at_fpr_{percent}_percent"]
            assert metric.details[f"tpr_at_fpr_{percent}_percent_low"] <= rate
            assert rate <= metric.details[f"tpr_at_fpr_{percent}_percent_high"]
        assert metric.details["n_forget"] == len(data.forget)


def test_scores_run_from_the_original_to_the_retrained_model(roles):
    for name in ("privacy_score", "privacy_score_full"):
        assert roles["original"].value(name) < roles["unlearned"].value(name) < 1
    assert roles["original"].value("privacy_score_full") == 0
    assert not [note for note in roles["unlearned"].notes if "original model" in note]
    assert "is 0" in roles["original"]["privacy_score_full"].reason
    parts = [roles["unlearned"].value(f"smia_{name.removeprefix('mia_')}") for name in SCALED_ATTACKS]
    assert roles["unlearned"].value("privacy_score") == pytest.approx(4 / sum(1 / part for part in parts))


def test_scaled_memberships_by_hand():
    assert s_mia(0.9, 0.5) == pytest.approx(0.2)
    assert s_mia(0.1, 0.5) == pytest.approx(0.2)  # over-unlearned counts as much
    assert s_mia(1.0, 0.4) == 0
    assert s_mia(0.5, 0.0) is None
    assert s_mia_full(0.7, 0.5, 0.9) == pytest.approx(0.5)
    assert s_mia_full(0.95, 0.5, 0.9) == 0
    assert s_mia_full(0.7, 0.5, 0.5) is None
    assert privacy_score([0.5, 0.25]) == pytest.approx(1 / 3)
    assert privacy_score([0.5, 0.0]) == 0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_the_interval_of_a_scaled_score_holds_the_score_of_every_point(low, width, retrained):
    high = min(1.0, low + width)
    interval = scaled_interval(Interval(low, high), retrained, retrained)
    for share in (0, 0.3, 0.5, 1):
        assert interval.low - 1e-12 <= s_mia(low + share * (high - low), retrained) <= interval.high + 1e-12


def test_without_a_retrained_model_nothing_relative_is_made_up(data):
    results = evaluate(Differentiable(knows(data.forget)), data=data, suite="privacy")
    for name in ("privleak", "privacy_score", "privacy_score_full", "smia_loss", "mia_reference"):
        assert results.value(name) is None
        assert "retrained" in results[name].reason
    assert results.value("mia_gradnorm") is not None


def test_a_model_without_gradients_keeps_the_other_attacks(original, data):
    results = evaluate(original, data=data, suite="privacy")
    assert results.value("mia_gradnorm") is None
    assert "local model" in results["mia_gradnorm"].reason
    assert results.value("mia_loss") == 1.0


def test_without_holdout_rows_no_gradient_is_taken(data):
    model = Differentiable(knows(data.forget))
    results = evaluate(model, data=SuiteData(data.forget), suite="privacy")
    relative = [metric for name, metric in results.metrics.items() if name != "forget_nll"]
    assert relative
    assert all(metric.value is None for metric in relative)
    assert all(metric.reason for metric in relative)
    assert not [asked for asked in model.asked if asked.startswith("gradient")]


def test_gradients_are_kept_between_runs_and_per_norm(data, tmp_path):
    first, again = (Differentiable(knows(data.forget)) for _ in range(2))
    one = evaluate(first, data=data, suite="privacy", cache=tmp_path)
    two = evaluate(again, data=data, suite="privacy", cache=tmp_path)
    assert one.value("mia_gradnorm") == two.value("mia_gradnorm")
    assert not again.asked
    from efface.evals.suites.privacy import Privacy

    other = evaluate(again, data=data, suite=Privacy(gradient_p=4.0), cache=tmp_path)
    assert again.asked
    assert other["mia_gradnorm"].per_item != one["mia_gradnorm"].per_item


def test_rows_without_a_score_are_counted_and_broken_ones_stop_the_figure(data):
    sides = {"members": data.forget.rows[:4], "strangers": data.holdout.rows[:3], "variant": "strict", "seed": 0}
    metric = attack_metric(METRICS.get("mia_loss"), [1.0, None, 2.0, 3.0], [None, 2.0, 4.0], **sides)
    assert (metric.n, metric.n_skipped) == (5, 2)
    assert metric.details["dropped_forget"] == metric.details["dropped_holdout"] == 1
    assert "1 forget and 1 holdout" in metric.reason
    assert metric.value == pytest.approx((2 + 1.5 + 1) / 6)  # pairs won by 1, 2 and 3 against 2 and 4
    broken = attack_metric(METRICS.get("mia_loss"), [1.0, float("nan"), 2.0, 3.0], [1.0, 2.0, 4.0], **sides)
    assert broken.value is None
    assert data.forget.rows[1].id in broken.reason
    assert not issubclass(METRICS.get("mia_gradnorm"), TokenMetric)
