"""The page of anchors: what is printed can come from its parts, and the page holds what the script makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.anchors import TABLE_2, TABLE_3, Cell, logs_part, main, published_part
from efface.evals.metrics.aggregate import aggregate_score
from efface.evals.metrics.meta import meta_overall, metric_robustness

PAGE = Path(__file__).resolve().parents[2] / "docs" / "anchors.md"


@pytest.mark.parametrize("row", TABLE_3)
def test_the_printed_aggregates_follow_from_their_parts(row):
    memorization, privacy, utility, whole, without = TABLE_3[row]
    assert Cell(lambda m, p, u: aggregate_score(m, u, p), (memorization, privacy, utility)).agrees(whole)
    assert without is None or Cell(aggregate_score, (memorization, utility)).agrees(without)


@pytest.mark.parametrize("name", TABLE_2)
def test_the_printed_robustness_follows_from_q_and_r(name):
    overall, faithful, robust, quantised, relearnt = TABLE_2[name]
    assert Cell(metric_robustness, (relearnt, quantised)).agrees(robust)
    assert Cell(meta_overall, (faithful, robust)).agrees(overall)


def test_a_cell_that_does_not_follow_is_noticed():
    assert not Cell(aggregate_score, (0.31, 0.99)).agrees(0.58)


def test_the_page_holds_the_published_tables():
    assert "\n".join(published_part()) in PAGE.read_text(encoding="utf-8"), "python -m benchmarks.anchors --write docs/anchors.md"


def test_logs_become_rows(tmp_path, capsys):
    losses = {"avg_gt_loss": [0.1, 0.3], "avg_paraphrased_loss": [0.5, 0.2], "average_perturb_loss": [[1.0, 2.0], [0.5, 1.5]]}
    log = {**losses, "rougeL_recall": [0.5, 1.0]}
    inputs = {
        "unlearned": dict.fromkeys(("forget", "retain", "real_authors", "world_facts"), log),
        "retain_model_forget": losses,
    }
    figures = {"forget_quality": 1.0, "ks_statistic": 0.0, "Model Utility": 0.5}
    expected = {
        "tofu_aggregate_eval_stat": figures,
        "tofu_utils_arithmetic_variant": {"Model Utility": 0.5},
        "openunlearning": {"model_utility": 0.5},
    }
    (tmp_path / "tofu_aggregate_two_rows.json").write_text(json.dumps({"inputs": inputs, "expected": expected}))
    row = logs_part(tmp_path)[-2]
    assert row.startswith("| two_rows | 2 | 1 / 1 | 0 / 0 | 0.5 / 0.")
    main(["--golden", str(tmp_path), "--write", str(tmp_path / "page.md")])
    assert "two_rows" in (tmp_path / "page.md").read_text()
    with pytest.raises(SystemExit):
        main(["--golden", str(tmp_path / "nowhere")])
    assert "--golden" in capsys.readouterr().err
