"""One command and separate programs do the same job."""

from __future__ import annotations

import pytest

from benchmarks.job import STAGES, compare_job, job_table
from efface.world import Recipe


@pytest.mark.slow
def test_both_ways_give_the_same_figures():
    compared = compare_job(Recipe.mini(), rounds=1, max_steps=2)
    ours, separate = compared.values
    assert ours.keys() == separate.keys()
    for name, value in ours.items():
        assert value == (separate[name] if value is None else pytest.approx(separate[name], rel=1e-4, abs=1e-6)), name
    assert ours["forget_quality"] is not None
    assert set(compared.ours) == set(compared.separate) == set(STAGES)
    assert sum(compared.ours.values()) < compared.total
    assert "Baseline: efface unlearn" in job_table(compared, max_steps=2).text()
