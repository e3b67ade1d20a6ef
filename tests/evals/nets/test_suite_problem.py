"""What the suite takes from a problem: a net never trained, the names of its classes, and what is predicted."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from torch import nn

from efface.data.net_sets import as_rows
from efface.data.problem import Problem
from efface.errors import InputError
from efface.evals.nets import evaluate_nets, untrained_of
from efface.models.predictor import NetPredictor


def test_untrained_net_is_a_function_of_its_seed_and_leaves_the_global_generators(problem):
    def drawn(seed):
        net = nn.Linear(3, 3)
        net.bias.data += torch.tensor(np.random.rand(3) + random.random(), dtype=torch.float32)  # noqa: NPY002
        return net

    careless = dataclasses.replace(problem, make_model=drawn)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    first = untrained_of(careless, 5)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    assert untrained_of(careless, 5).fingerprint == first.fingerprint != untrained_of(careless, 6).fingerprint


def test_class_names_of_another_length_are_refused(problem, make_table):
    named = dataclasses.replace(problem, class_names=("a", "b"))
    with pytest.raises(InputError, match="2 class names, and the model has 3 outputs"):
        evaluate_nets({"original": NetPredictor(make_table())}, named)


def test_figures_in_the_unit_of_the_target_say_what_it_is():
    x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    rows = as_rows((x, x[:, 0]))
    problem = Problem(
        "regression", lambda seed: nn.Linear(1, 1), rows, rows, forget=lambda x, y: float(y) > 0.5, target_name="load (MW)"
    )
    models = {role: NetPredictor(nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))) for role in ("unlearned", "retrained")}
    found = evaluate_nets(models, problem, attacks="none")["unlearned"].metrics
    named = {name for name, metric in found.items() if metric.details.get("target_name") == "load (MW)"}
    assert {"forget_mae", "test_retain_mae", "forget_prediction", "forget_wasserstein", "forget_paired_difference"} < named
    assert not named & {"forget_mse", "forget_ks", "average_gap"}
