"""The suite on models whose figures are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from efface.data.net_sets import ArrayRows, as_rows
from efface.data.problem import NetTraining, Problem
from efface.errors import InputError
from efface.evals.nets import NetSets, Relearning, evaluate_nets, measure_net, untrained_of
from efface.models.predictor import NetPredictor
from efface.train.net_relearn import relearner


@pytest.fixture(scope="module")
def results(problem, make_table):
    models = {
        "original": make_table(),
        "unlearned": make_table(scale=3.0, forgotten=0),
        "retrained": make_table(forgotten=0),
        "retrained_2": make_table(scale=3.9, forgotten=0),
    }
    predictors = {role: NetPredictor(net) for role, net in models.items()}
    return evaluate_nets(predictors, problem, untrained=untrained_of(problem, 0))


def test_roles_and_figures(results):
    assert list(results) == ["original", "unlearned", "retrained", "retrained_2"]
    assert results["original"].value("forget_accuracy") == pytest.approx(1.0, abs=0.05)
    for role in ("unlearned", "retrained"):
        assert results[role].value("forget_accuracy") == 0.0
        assert results[role].value("test_forget_accuracy") == 0.0
        assert results[role].value("test_retain_accuracy") == results["original"].value("test_retain_accuracy")
    assert results["original"].value("average_gap") > 40 > 10 > results["unlearned"].value("average_gap")


def test_every_figure_has_its_noise_floor(results):
    unlearned = results["unlearned"]
    lacking = [
        name for name, metric in unlearned.metrics.items() if metric.value is not None and "noise_floor" not in metric.details
    ]
    assert lacking == []
    expected = abs(results["retrained_2"].value("forget_loss") - results["retrained"].value("forget_loss"))
    assert unlearned["forget_loss"].details["noise_floor"] == pytest.approx(expected)
    assert unlearned["average_gap"].details["noise_floor"] == pytest.approx(results["retrained_2"].value("average_gap"))


def test_retrained_against_itself_is_not_a_figure(results):
    assert results["retrained"].value("average_gap") is None
    assert "reference itself" in results["retrained"]["average_gap"].reason


def test_a_copy_of_the_retrained_model_has_no_gap(problem, make_table):
    gone = make_table(forgotten=0)
    found = evaluate_nets(
        {"unlearned": NetPredictor(gone), "retrained": NetPredictor(make_table(forgotten=0))}, problem, attacks="light"
    )["unlearned"]
    assert found.value("average_gap") == 0.0
    assert found.value("forget_activation_distance") == 0.0
    assert found.value("forget_agreement") == 1.0
    assert found.value("forget_ks") == 0.0


def test_nothing_done_fails_and_broken_weights_fail(problem, make_table):
    """The original must not pass for forgotten, nor a net that learnt nothing for useful."""
    broken = make_table(scale=0.0)
    models = {"original": make_table(), "unlearned": broken, "retrained": make_table(forgotten=0)}
    found = evaluate_nets({role: NetPredictor(net) for role, net in models.items()}, problem, attacks="none")
    assert found["original"].value("forget_accuracy") > 0.9 > found["retrained"].value("forget_accuracy")
    assert found["unlearned"].value("test_retain_accuracy") < 0.6 * found["retrained"].value("test_retain_accuracy")


def test_batch_size_changes_nothing(problem, make_table):
    sets = NetSets.of(problem)
    one, other = (measure_net(NetPredictor(make_table()), sets, batch_size=size) for size in (7, 500))
    for name in sets.rows:
        np.testing.assert_allclose(one.outputs[name], other.outputs[name], rtol=1e-6)


def test_cache_spares_the_second_pass(problem, make_table):
    class Counting(NetPredictor):
        calls = 0

        def predict(self, x):
            Counting.calls += 1
            return super().predict(x)

    net, cache = Counting(make_table()), {}
    first = evaluate_nets({"retrained": net}, problem, attacks="none", cache=cache)
    calls = Counting.calls
    assert (
        evaluate_nets({"retrained": net}, problem, attacks="none", cache=cache)["retrained"].metrics == first["retrained"].metrics
    )
    assert Counting.calls == calls


def test_classes_are_split_without_being_told(problem, make_table):
    rows = np.flatnonzero(np.asarray(problem.train.y) == 0)
    sets = NetSets.of(dataclasses.replace(problem, forget=rows))
    assert len(sets.labels_in("test_forget")) == 30
    partly = NetSets.of(dataclasses.replace(problem, forget=rows[:10]))
    assert "test_forget" not in partly.parts


def test_tables_count_every_row(results):
    table = np.array(results["unlearned"].tables["confusion_test"])
    assert table.sum() == 90
    assert table[0, 0] == 0
    assert results["unlearned"].table_labels == ("red", "green", "blue")


def test_rows_without_labels_are_named(problem, make_table):
    unlabelled = dataclasses.replace(problem, test=ArrayRows(problem.test.x), forget=problem.forget_rows())
    found = evaluate_nets({"original": NetPredictor(make_table())}, unlabelled)["original"]
    assert found["test_accuracy"].reason == "the test rows have no labels"
    assert "no labels of the test rows" in found["mia_matched"].reason
    assert found.value("forget_accuracy") is not None


class Quantiles(nn.Module):
    """Answers its input and a fixed spread around it."""

    def __init__(self, spread):
        super().__init__()
        self.spread = nn.Parameter(torch.tensor(spread))

    def forward(self, x):
        return x + torch.stack([-self.spread, 0 * self.spread, self.spread])


def test_regression_and_quantiles():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 1)).astype(np.float32)
    rows = as_rows((x, x[:, 0]))

    problem = Problem("forecasting", lambda seed: Quantiles(1.0), rows, rows, forget=lambda x, y: float(y) > 0.5)
    found = evaluate_nets({"original": NetPredictor(Quantiles(1.0)), "retrained": NetPredictor(Quantiles(2.0))}, problem)
    assert found["original"].value("test_mae") == pytest.approx(0.0, abs=1e-6)
    assert found["original"].value("test_pinball") == pytest.approx(0.2, abs=1e-6)  # 0.1 * 1 at both outer quantiles
    assert found["original"].value("test_calibration_error") == pytest.approx((0.1 + 0.5 + 0.1) / 3, abs=1e-6)
    assert found["original"].value("forget_wasserstein") == pytest.approx(0.0, abs=1e-6)
    assert len(found["original"]["forget_prediction"].per_item) == len(problem.forget_rows())


def test_targets_in_a_column_are_measured_as_those_in_a_row():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 1)).astype(np.float32)

    found = []
    for y in (x[:, 0], x):
        rows = as_rows((x, y + 0.3))
        problem = Problem("forecasting", lambda seed: Quantiles(1.0), rows, rows, forget=lambda x, y: float(y) > 0.5)
        models = {"original": NetPredictor(Quantiles(1.0)), "retrained": NetPredictor(Quantiles(2.0))}
        found.append(evaluate_nets(models, problem))
    row, column = ({role: results.metrics for role, results in one.items()} for one in found)
    assert row["original"]["test_pinball"].value is not None
    assert column == row


def test_equal_steps_of_a_row_are_one_draw():
    x = np.random.default_rng(2).normal(size=(100, 1)).astype(np.float32)

    class Ahead(nn.Module):
        def __init__(self, steps, slope):
            super().__init__()
            self.steps, self.slope = steps, nn.Parameter(torch.tensor(slope))

        def forward(self, x):
            return (self.slope * x).repeat(1, self.steps)

    found = {}
    for steps in (1, 24):
        rows = as_rows((x, x.repeat(steps, axis=1)))
        problem = Problem("regression", lambda seed, steps=steps: Ahead(steps, 1.0), rows, rows, forget=np.arange(50))
        models = {"unlearned": NetPredictor(Ahead(steps, 1.6)), "retrained": NetPredictor(Ahead(steps, 1.0))}
        found[steps] = evaluate_nets(models, problem, attacks="none")["unlearned"]
    for name in ("forget_wasserstein", "forget_ks", "forget_paired_difference"):
        one, many = found[1][name], found[24][name]
        assert many.value == pytest.approx(one.value)
        assert (many.interval.low, many.interval.high) == pytest.approx((one.interval.low, one.interval.high))
        assert (many.n, many.interval.n_entities, many.interval.method) == (50, 50, "bootstrap over rows")
    assert "log10_p" in found[1]["forget_ks"].details
    assert "log10_p" not in found[24]["forget_ks"].details


def test_outputs_must_fit_the_task(problem):
    with pytest.raises(InputError, match="one row of logits per item"):
        evaluate_nets({"original": NetPredictor(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)))}, problem)
    with pytest.raises(InputError, match="no model to measure"):
        evaluate_nets({}, problem)


def test_table_prints(results):
    text = str(results["unlearned"])
    assert "forget_accuracy" in text
    assert "suite nets" in text


def test_relearning_measures_steps_on_copies(problem, make_table):
    small = dataclasses.replace(problem, training=NetTraining(epochs=1, learning_rate=0.5, batch_size=30, optimizer="sgd"))
    models = {
        "original": make_table(),
        "unlearned": make_table(scale=1.0, forgotten=0),
        "retrained": make_table(scale=4.0, forgotten=0),
    }
    before = models["unlearned"].head.weight.clone()
    how = Relearning(relearner(small), cap=200)
    predictors = {role: NetPredictor(net) for role, net in models.items()}
    found = evaluate_nets(predictors, small, attacks="none", relearning=how)
    assert found["original"].value("relearn_steps") == 0
    assert 0 < found["unlearned"].value("relearn_steps") < found["retrained"].value("relearn_steps")
    assert found["unlearned"].value("anamnesis_index") < 1 == found["retrained"].value("anamnesis_index")
    assert torch.equal(models["unlearned"].head.weight, before)
    capped = evaluate_nets(predictors, small, attacks="none", relearning=Relearning(relearner(small), cap=1))
    assert capped["retrained"]["relearn_steps"].reason == "not reached in 1 steps"


def test_relearning_goes_on_until_the_cap_however_many_epochs_that_are(problem, make_table):
    recipe = NetTraining(epochs=1, learning_rate=1e-6, batch_size=30, optimizer="sgd")  # 5 batches an epoch
    steps = []

    def after_step(number):
        steps.append(number)
        return number == 80

    relearner(dataclasses.replace(problem, training=recipe))(make_table(), after_step)
    assert steps == list(range(1, 81))
