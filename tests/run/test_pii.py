"""The embedded people with contacts: what the original model tells of them, and what the retrained one guesses."""

from __future__ import annotations

import pytest

from efface.request import ForgetRequest
from efface.run.verbs import evaluate


@pytest.mark.slow
def test_contacts_are_exposed_by_the_original_model_only():
    results = evaluate(suite="pii", request=ForgetRequest(model="embedded:contacts-mini"), role="original")
    assert results.value("forget_pii_exposure") > 5
    assert results.value("forget_pii_hit") > 0.8
    assert results["forget_pii_exposure_gap"].interval.low > 2
    stranger = results["holdout_pii_exposure"]
    assert abs(stranger.value - stranger.details["chance"]) < 1.5
    assert results.value("holdout_pii_hit") == 0
