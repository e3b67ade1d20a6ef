"""evaluate with figures from files, OpenUnlearning's logs and tasks of the harness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from efface.evals.harness import has_harness


def test_figures_from_a_file_and_logs(efface, folder: Path, model: Path) -> None:
    data = ("--forget", "forget.jsonl", "--retain", "retain.jsonl", "--holdout", "holdout.jsonl", "--variant", "openunlearning")
    first = efface("evaluate", model, *data, "--output", "ours.json", "--export-openunlearning", "logs")
    assert first.code == 0, first.err
    summary = json.loads((folder / "logs" / "TOFU_SUMMARY.json").read_text())
    assert 0 <= summary["forget_Q_A_Prob"] <= 1
    assert "Ostrava" not in (folder / "logs" / "TOFU_EVAL.json").read_text()
    found = {}
    for name, file in (("ours", "ours.json"), ("theirs", "logs/TOFU_EVAL.json")):
        measured = efface("evaluate", model, *data, "--against", file, "--original", "ours.json", "--json")
        assert measured.code == 0, measured.err
        found[name] = json.loads(measured.out)["metrics"]
        assert found[name]["forget_quality"]["value"] == 1.0
        assert found[name]["forget_quality"]["details"]["ks_d"] == 0
        assert found[name]["privleak"]["value"] == pytest.approx(0, abs=1e-6)
        assert found[name]["privacy_score"]["value"] == 1.0
    assert found["ours"]["rel_diff_min_k"]["value"] == found["theirs"]["rel_diff_min_k"]["value"]
    assert "forget_paraphrased_probability" in found["ours"]["aggregate"]["reason"]  # these rows have no paraphrases

    again = efface("evaluate", model, *data, "--export-openunlearning", "logs")
    assert again.code == 2
    assert "already there" in again.err
    strict = efface("evaluate", model, *data[:-2], "--against", "logs/TOFU_EVAL.json")
    assert strict.code == 2
    assert "Pass --variant openunlearning" in strict.err
    swapped = efface("evaluate", model, "--forget", "retain.jsonl", *data[4:], "--against", "ours.json")
    assert swapped.code == 2
    assert "other forget rows" in swapped.err


def test_bad_figures(efface, folder: Path, model: Path) -> None:
    (folder / "no.json").write_text("[]")
    (folder / "broken.json").write_text("{")
    for file, message in (("no.json", "holds no figures"), ("broken.json", "is not JSON"), ("none.json", "There is no file")):
        refused = efface("evaluate", model, "--forget", "forget.jsonl", "--against", file)
        assert refused.code == 2
        assert message in refused.err


@pytest.mark.skipif(not has_harness(), reason="the extra lm-eval is not installed")
def test_tasks(efface, folder: Path, model: Path) -> None:
    (folder / "rows.jsonl").write_text('{"question": "Two and two is", "choices": ["four", "five"], "label": 0}\n')
    (folder / "sums.yaml").write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}\n"
        "output_type: multiple_choice\ntest_split: test\ndoc_to_text: '{{question}}'\ndoc_to_choice: '{{choices}}'\n"
        "doc_to_target: '{{label}}'\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    asked = ("evaluate", model, "--lm-eval", "sums", "--lm-eval-tasks", folder)
    measured = efface(*asked, "--json")
    assert measured.code == 0, measured.err
    assert json.loads(measured.out)["metrics"]["sums_acc"]["value"] in (0.0, 1.0)
    refused = efface(*asked, "--export-openunlearning", "logs")
    assert refused.code == 2
    assert "Pass --forget" in refused.err
    script = efface(*asked, "--print-python").out
    assert f"evaluate_on_tasks({str(model)!r}, ['sums'], include={str(folder)!r})" in script
    compile(script, "script", "exec")
