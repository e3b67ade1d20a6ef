"""The plain metrics are the suite's metrics, alone or with shared parents."""

from __future__ import annotations

import math

import pytest

from benchmarks.evaluation import PUBLISHED, compare_evaluation, embedded_sides, evaluation_table, tofu_length_sides
from benchmarks.plain_evaluation import GENERATED, METRICS
from efface.world import Recipe


@pytest.fixture(scope="module")
def compared():
    sides = embedded_sides(Recipe.mini(), is_trained=False, limit=6, max_new_tokens=6)
    return sides, compare_evaluation(sides, rounds=1)


def test_every_published_metric_is_written_plainly():
    assert set(METRICS) == set(PUBLISHED)
    assert {"forget_rouge", "model_utility"} <= GENERATED
    assert "forget_quality" not in GENERATED


def test_all_sides_give_the_same_figures(compared):
    _, result = compared
    missing = set(PUBLISHED) - set(result.values["ours"])
    assert missing <= {"privleak", "rel_diff_min_k"}  # ratios to the other model's AUC, which may be 0 or 1
    for name in PUBLISHED:
        ours = result.values["ours"].get(name, math.nan)
        for side in ("alone", "shared parents"):
            assert result.values[side][name] == pytest.approx(ours, rel=1e-4, abs=1e-6, nan_ok=True), (side, name)


def test_work_is_counted(compared):
    sides, result = compared
    forget, retain, holdout, authors, facts = (
        len(sides.rows[key]) for key in ("forget", "retain", "holdout", "real_authors", "world_facts")
    )
    # Right answers, paraphrases, five wrong answers, paraphrased questions; no paraphrase of world facts is scored.
    # A wrong answer may be another row's paraphrase: equal sequences are scored once.
    assert 0.95 <= result.sequences["ours"] / (8 * (forget + retain) + holdout + 6 * (authors + facts)) <= 1
    assert result.texts == {
        "ours": forget + retain + holdout + authors + facts,
        "alone": 2 * forget + 2 * retain + 2 * authors + 2 * facts,
        "shared parents": 2 * forget + retain + authors + facts,
    }
    assert result.sequences["alone"] > result.sequences["shared parents"] > result.sequences["ours"]
    assert 0 <= result.padding < 0.2  # of six rows per set; the bench shows what it is of many


def test_the_table_names_both_baselines(compared):
    sides, result = compared
    table = evaluation_table("some rows", "Model: small.", sides, result)
    assert [row[0] for row in table.rows] == ["alone", "alone", "shared parents", "shared parents"]
    assert "34 published metrics" in table.text()
    assert "padding" in table.text()
    assert {row["texts"] for row in table.values} == {True, False}


def test_rows_as_long_as_tofus_carry_every_form():
    sides = tofu_length_sides(Recipe.mini(), rows=4, max_new_tokens=2)
    row = sides.rows["forget"][0]
    assert len(row.perturbed_answer) == 5
    assert len(sides.rows["world_facts"][0].perturbed_answer) == 3
    assert 20 <= len(row.answer.split()) < 44
