"""Metrics of nets against the reference implementations."""

from __future__ import annotations

import re

import numpy as np
import pytest
from _fixtures import fixture_params, read_fixture
from _nets import net_of, tensor, tolerance_of

from efface.evals.nets.classification import entropy, margin, modified_entropy, modified_entropy_reference
from efface.evals.nets.klom import binned_kl
from efface.evals.nets.membership import called_members
from efface.evals.nets.regression import absolute_error
from efface.evals.nets.similarity import activation_distance, js_divergence, zrf


def close(found, expected, fixture):
    np.testing.assert_allclose(found, expected, **tolerance_of(fixture))


def entropy_features(case, fixture):
    probabilities, labels = case["inputs"]["probs"], case["inputs"]["labels"]
    close(entropy(probabilities), case["expected"]["entropy"], fixture)
    close(modified_entropy(probabilities, labels), case["expected"]["modified_entropy_correct"], fixture)
    close(modified_entropy_reference(probabilities, labels), case["expected"]["modified_entropy_SVC_MIA_buggy"], fixture)


def svc_mia_confidence(case, fixture):
    inputs, params = case["inputs"], case["params"]
    (called,) = called_members(
        inputs["member_conf"], inputs["nonmember_conf"], inputs["forget_conf"], c=params["C"], gamma=params["gamma"]
    )
    assert abs(float((~called).mean()) - case["expected"]["mia_efficacy"]) <= 1 / len(called) + 1e-9  # one row may flip


def regression_mia(case, fixture):
    errors = {}
    for name in ("member", "nonmember", "forget"):
        part = case["inputs"][name]
        errors[name] = absolute_error(net_of(case)(tensor(part["x"])).detach().cpu(), part["y"])
    called = called_members(
        errors["member"],
        errors["nonmember"],
        *(errors[name] for name in ("forget", "member", "nonmember")),
        **svm_settings(case["params"]["clf"]),
    )
    for found, name in zip(called, ("forget", "train", "test"), strict=True):
        assert abs(float(found.mean()) - case["expected"][name]) <= 1 / len(found) + 1e-9


def svm_settings(text):
    """Return what a text such as ``SVC(C=3, gamma=auto, rbf)`` says; where it is silent, what the attack always takes."""
    said = {"C": "3", "gamma": "auto", **dict(re.findall(r"(C|gamma) *= *([^\s,)]+)", text))}
    return {"c": float(said["C"]), "gamma": said["gamma"] if said["gamma"].isalpha() else float(said["gamma"])}


def klom_binned_kl(case, fixture):
    inputs, params = case["inputs"], case["params"]
    found = binned_kl(
        inputs["unlearned_margins"],
        inputs["oracle_margins"],
        bins=params["bin_count"],
        clip=tuple(params["clip"]),
        epsilon=params["eps"],
        variant="reference",
    )
    close(found, case["expected"]["kl"], fixture)


def margin_of_logits(case, fixture):
    close(margin(case["inputs"]["logits"], case["inputs"]["labels"]), case["expected"]["margin"], fixture)


def distance_of_activations(case, fixture):
    found = activation_distance(case["inputs"]["logits_a"], case["inputs"]["logits_b"]).mean()
    close(found, case["expected"]["distance"], fixture)


CASES = {
    "entropy_features": entropy_features,
    "svc_mia_confidence": svc_mia_confidence,
    "regression_mia": regression_mia,
    "klom_binned_kl": klom_binned_kl,
    "margin": margin_of_logits,
    "activation_distance": distance_of_activations,
}


@pytest.mark.parametrize("path", fixture_params("deepnets_metrics*.json"))
def test_metrics(path):
    fixture = read_fixture(path)
    for case in fixture["cases"]:
        assert case["id"] in CASES, f"no test reads the case {case['id']}"
        CASES[case["id"]](case, fixture)


@pytest.mark.parametrize("path", fixture_params("deepnets_baselines*.json"))
def test_zero_retrain_forgetting(path):
    fixture = read_fixture(path)
    for case in (case for case in fixture["cases"] if case["id"] == "zrf"):
        pair, expected = (case["inputs"]["logits_a"], case["inputs"]["logits_b"]), case["expected"]
        close(js_divergence(*pair, variant="reference").mean(), expected["jsdiv_reference"], fixture)
        close(zrf(*pair, variant="reference").mean(), expected["zrf_reference"], fixture)
        close(js_divergence(*pair).mean(), expected["js_standard_mean_nats"], fixture)
        close(zrf(*pair).mean(), expected["zrf_standard"], fixture)
