"""OpenUnlearning's logs: what is read, what is mended, what is refused, and that a round trip changes nothing."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _lookup import LookupModel, knows, people_rows

from efface.data.schema import RowSet
from efface.errors import InputError
from efface.evals import SuiteData, evaluate
from efface.evals.names import OPENUNLEARNING_KEYS
from efface.evals.openunlearning import (
    as_openunlearning,
    as_openunlearning_summary,
    is_openunlearning_log,
    read_openunlearning,
    write_openunlearning,
)
from efface.results import Metric, Results

VARIANT = "openunlearning"


def measured(model, data, against=None):
    return evaluate(model, data=data, suite="tofu", variant=VARIANT, against=against, role="retrained")


@pytest.fixture
def log(retrained, data, tmp_path):
    """A log in the published form: nested, keyed by row number as text, without anything of ours."""
    write_openunlearning(measured(retrained, data), tmp_path / "log")
    path = tmp_path / "log" / "TOFU_EVAL.json"
    tree = json.loads(path.read_text())
    del tree["efface"]
    for entry in tree["forget_truth_ratio"]["value_by_index"].values():
        del entry["log_score"]
    path.write_text(json.dumps(tree))
    return path


def changed(path, change):
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    return path


def test_an_imported_retained_model_gives_the_same_comparisons(retrained, data, log):
    model = LookupModel({row.question: row.paraphrased_answer for row in data.forget})  # prefers what a retrained model does not
    ours = measured(model, data, measured(retrained, data))
    theirs = measured(model, data, read_openunlearning(log, data=data))
    assert 0 < ours.value("forget_quality") < 0.01
    for name in ("forget_quality", "privleak", "rel_diff_min_k", "mia_reference"):
        assert theirs.value(name) is not None
        assert theirs.value(name) == pytest.approx(ours.value(name), rel=1e-12), name
    assert theirs["forget_quality"].details["ks_d"] == ours["forget_quality"].details["ks_d"]


def test_the_nested_shape(log):
    tree = json.loads(log.read_text())
    assert list(tree) == sorted(tree)
    assert set(tree["forget_Q_A_Prob"]) == {"agg_value", "value_by_index"}
    assert list(tree["forget_Q_A_Prob"]["value_by_index"])[:2] == ["0", "1"]
    assert set(tree["forget_Q_A_Prob"]["value_by_index"]["10"]) == {"prob", "avg_loss"}
    assert isinstance(tree["forget_Q_A_PERT_Prob"]["value_by_index"]["0"]["prob"], list)
    assert set(tree["forget_truth_ratio"]["value_by_index"]["0"]) == {"score"}
    assert set(tree["mia_min_k"]) == {"forget", "holdout", "auc", "agg_value"}
    assert set(tree["model_utility"]) == {"agg_value"}
    summary = json.loads(log.with_name("TOFU_SUMMARY.json").read_text())
    assert summary["forget_Q_A_Prob"] == tree["forget_Q_A_Prob"]["agg_value"]
    assert "forget_quality" not in summary  # there was no retrained model
    assert "answer" not in log.read_text()


def test_round_trip(retrained, original, data, tmp_path):
    results = measured(original, data, measured(retrained, data))
    write_openunlearning(results, tmp_path)
    again = read_openunlearning(tmp_path, data=data, role="unlearned")
    named = [name for name in OPENUNLEARNING_KEYS if name in results.metrics and results[name].is_available]
    assert len(named) > 28
    for name in named:
        before, after = results[name], again[name]
        assert after.value == pytest.approx(before.value, rel=1e-12), name
        assert after.item_ids == before.item_ids, name
        assert after.per_item == pytest.approx(before.per_item, rel=1e-9, abs=1e-12), name
        assert after.aim == before.aim, name
        if not name.startswith("mia_") and before.interval is not None and name != "model_utility" and name != "privleak":
            assert (after.interval is None) or after.interval.low == pytest.approx(before.interval.low, abs=1e-9), name
    assert as_openunlearning(replace(again, role="retrained", suite="tofu"))["forget_truth_ratio"]["agg_value"] == pytest.approx(
        as_openunlearning(results)["forget_truth_ratio"]["agg_value"]
    )


def test_a_strict_log_says_so_and_is_read_back_as_such(retrained, data, tmp_path):
    results = evaluate(retrained, data=data, suite="tofu")
    write_openunlearning(results, tmp_path)
    again = read_openunlearning(tmp_path, data=data)
    assert {metric.variant for metric in again.metrics.values()} == {"strict"}
    assert again.fingerprint == results.fingerprint


def test_a_model_is_at_no_distance_from_its_own_exported_log(retrained, data, tmp_path):
    write_openunlearning(measured(retrained, data), tmp_path)
    again = measured(retrained, data, read_openunlearning(tmp_path, data=data))
    assert again["forget_quality"].details["ks_d"] == 0
    assert again.value("privleak") == 0


def test_without_rows_items_are_named_by_their_index(log):
    results = read_openunlearning(log)
    assert results["forget_probability"].item_ids[:2] == ("0", "1")
    assert results["forget_probability"].interval is None


def test_a_summary_is_enough_for_single_figures(log):
    log.unlink()
    results = read_openunlearning(log.parent)
    assert results.value("forget_probability") > 0
    assert results["forget_probability"].per_item == ()


def test_ratios_under_the_wrong_rows_are_mended(log, data):
    """A row without a loss is left out there, and the later ratios then stand under the indices before theirs."""
    tree = json.loads(log.read_text())
    right = [tree["forget_truth_ratio"]["value_by_index"][str(i)]["score"] for i in range(len(data.forget))]

    def break_row(tree):
        tree["forget_Q_A_PARA_Prob"]["value_by_index"]["3"] = None
        kept = right[:3] + right[4:]
        tree["forget_truth_ratio"]["value_by_index"] = {str(i): {"score": score} for i, score in enumerate(kept)}

    results = read_openunlearning(changed(log, break_row), data=data)
    ratios = results["forget_log_truth_ratio"].per_item
    assert ratios[3] is None
    expected = read_openunlearning(log, data=data)["forget_log_truth_ratio"].per_item
    assert ratios == expected
    assert ratios[4] == pytest.approx(math.log(right[4]))
    assert any("stood one row early" in note for note in results.notes)


def test_a_stale_part_is_named(log, data):
    def make_stale(tree):
        tree["model_utility"]["agg_value"] = 0.123
        tree["forget_Q_A_ROUGE"]["agg_value"] = 0.9

    notes = " ".join(read_openunlearning(changed(log, make_stale), data=data).notes)
    assert "model_utility is 0.123 in the log, but its nine parts" in notes
    assert "forget_rouge is 0.9 in the log, but its own entries" in notes


def test_a_consistent_log_has_no_such_note(log, data):
    assert not any("another evaluation" in note for note in read_openunlearning(log, data=data).notes)


def test_numbers_that_are_none(log, data):
    def break_values(tree):
        tree["forget_Q_A_ROUGE"]["agg_value"] = float("nan")
        tree["forget_Q_A_ROUGE"]["value_by_index"]["0"]["rougeL_recall"] = float("nan")

    results = read_openunlearning(changed(log, break_values), data=data)
    assert results.value("forget_rouge") is None
    assert results["forget_rouge"].per_item[0] is None
    assert "forget_Q_A_ROUGE" in results["forget_rouge"].reason


def test_other_rows_are_refused(log, data):
    fewer = replace(data, forget=RowSet(data.forget.rows[:-1], "fewer"))
    with pytest.raises(InputError, match="24 values for the forget set, which has 23 rows"):
        read_openunlearning(log, data=fewer)


def test_another_order_is_refused_where_the_log_shows_it(log, data):
    def add_texts(tree):
        for index, row in enumerate(data.forget):
            tree["forget_Q_A_ROUGE"]["value_by_index"][str(index)]["ground_truth"] = row.answer

    read_openunlearning(changed(log, add_texts), data=data)
    turned = replace(data, forget=RowSet(data.forget.rows[::-1], "turned"))
    with pytest.raises(InputError, match="in 0 of 24 places"):
        read_openunlearning(log, data=turned)


def test_a_set_of_another_size_that_is_no_reference_stays_unmatched(log, data):
    fewer = replace(data, retain=RowSet(data.retain.rows[:-1], "fewer"))
    results = read_openunlearning(log, data=fewer)
    assert results["retain_probability"].item_ids[0] == "0"
    assert any("retain set, which has 23 rows" in note for note in results.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [("not json", "is not JSON"), ("[1, 2]", "no log of OpenUnlearning"), ('{"loss": 0.3}', "no log of OpenUnlearning")],
)
def test_what_is_no_log(tmp_path, content, message):
    (tmp_path / "TOFU_EVAL.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_openunlearning(tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match="holds no log"):
        read_openunlearning(tmp_path)
    with pytest.raises(InputError, match="There is no file"):
        read_openunlearning(tmp_path / "TOFU_EVAL.json")


def test_rows_must_be_numbered(log):
    def rename(tree):
        tree["forget_Q_A_Prob"]["value_by_index"] = {"first": {"prob": 0.1}}

    with pytest.raises(InputError, match="no row numbers"):
        read_openunlearning(changed(log, rename))


def test_nothing_is_written_over(retrained, data, tmp_path):
    results = measured(retrained, data)
    write_openunlearning(results, tmp_path)
    with pytest.raises(InputError, match="already there"):
        write_openunlearning(results, tmp_path)
    write_openunlearning(results, tmp_path, overwrite=True)
    with pytest.raises(InputError, match="no figure"):
        write_openunlearning(Results("x", "own", {}), tmp_path / "other")


def test_muse_has_keys_of_its_own(tmp_path):
    figures = {"forget_verbmem": 0.58, "forget_knowmem": 0.64, "retain_knowmem": 0.56, "muse_privleak": -99.8}
    results = Results("original", "muse", {name: Metric(name, value, "reference", VARIANT) for name, value in figures.items()})
    paths = write_openunlearning(results, tmp_path)
    assert [path.name for path in paths] == ["MUSE_EVAL.json", "MUSE_SUMMARY.json"]
    assert as_openunlearning_summary(results)["forget_verbmem_ROUGE"] == 0.58
    again = read_openunlearning(tmp_path)
    assert again.suite == "muse"
    assert {name: again.value(name) for name in figures} == figures


def test_muse_entries_are_f1(tmp_path):
    entry = {"rougeL_f1": 0.25, "rougeL_recall": 0.5}
    (tmp_path / "MUSE_EVAL.json").write_text(
        json.dumps({"forget_verbmem_ROUGE": {"agg_value": 0.25, "value_by_index": {"0": entry}}})
    )
    assert read_openunlearning(tmp_path)["forget_verbmem"].per_item == (0.25,)


def test_results_of_ours_are_no_log(retrained, data):
    assert not is_openunlearning_log(measured(retrained, data).as_dict())


def test_rows_with_other_answers_are_refused_in_the_comparison(original, log, data):
    reference = read_openunlearning(log, data=data)
    others = SuiteData(
        RowSet.build([replace(row, perturbed_answer=("Nobody knows .",)) for row in people_rows("forget", 12)]), data.retain
    )
    with pytest.raises(InputError, match="other forget rows"):
        evaluate(LookupModel(knows(others.forget)), data=others, suite="tofu", variant=VARIANT, against=reference)
