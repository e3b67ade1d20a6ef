"""Curves over folds on a tiny untrained model: folds, resuming, lineage, what is measured at each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from efface.data.readers import read_rows
from efface.errors import InputError
from efface.report.plots import plot_axis
from efface.request import ForgetRequest
from efface.run.axes import run_axes
from efface.run.plan import make_plan


@pytest.fixture
def request_for(site: Path):
    def build(**changes):
        fields = {
            "model": site / "original",
            "retrained": site / "retrained",
            "forget": str(site / "forget.jsonl"),
            "retain": str(site / "retain.jsonl"),
            "holdout": str(site / "holdout.jsonl"),
            "method": "npo",
            "unlearning": {"max_steps": 1, "batch_size": 4},
            "evaluate": [{"suite": "muse"}],
        }
        return ForgetRequest(**(fields | changes))

    return build


FIGURES = {"figures": ("retain_knowmem", "forget_knowmem"), "utility": "retain_knowmem"}


def two(rows):
    people = list(dict.fromkeys(row.entity for row in rows))
    return [replace(rows, rows=tuple(row for row in rows if row.entity in people[:n])) for n in (2, 4)]


def test_scalability_starts_every_fold_from_the_original_and_resumes(request_for, site, tmp_path):
    folds = two(read_rows(site / "forget.jsonl"))
    result = run_axes(request_for(), "scalability", folds=folds, output=tmp_path, **FIGURES)
    assert [(point.fold, point.rows, point.entities) for point in result.points] == [(1, 2, 2), (2, 4, 4)]
    for point in result.points:
        assert (tmp_path / point.report).is_file()
        assert point.results["unlearned"]["forget_knowmem"].n == point.rows
        assert point.results["unlearned"]["retain_knowmem"].n == 12
        lineage = json.loads((tmp_path / point.report).with_name("unlearned.json").read_text(encoding="utf-8"))["lineage"]
        assert len(lineage) == 1
    written = json.loads((tmp_path / "scalability.json").read_text(encoding="utf-8"))
    assert len(written["points"]) == 2
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    again = run_axes(request_for(), "scalability", folds=folds, output=tmp_path, **FIGURES)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")} == before
    assert again.slope == result.slope
    assert plot_axis(again).get_xlabel() == "forget set"


def test_sustainability_goes_on_from_the_model_before(request_for, site, tmp_path):
    rows = read_rows(site / "forget.jsonl")
    people = list(dict.fromkeys(row.entity for row in rows))
    folds = [replace(rows, rows=tuple(row for row in rows if row.entity in people[i : i + 2])) for i in (0, 2)]
    result = run_axes(request_for(), "sustainability", folds=folds, output=tmp_path, **FIGURES)
    lineages = [
        json.loads((tmp_path / point.report).with_name("unlearned.json").read_text(encoding="utf-8"))["lineage"]
        for point in result.points
    ]
    assert [len(lineage) for lineage in lineages] == [1, 2]
    # What has been asked for so far is measured, not the newest request alone: the request's own rows stand in, of which there are
    # as many as it has.
    assert [point.results["unlearned"]["forget_knowmem"].n for point in result.points] == [2, 2]


def test_a_sets_rows_of_people_not_yet_asked_for_are_left_out(request_for, site, tmp_path):
    rows = read_rows(site / "forget.jsonl")
    people = list(dict.fromkeys(row.entity for row in rows))
    folds = [replace(rows, rows=tuple(row for row in rows if row.entity in people[i : i + 2])) for i in (0, 2)]
    retain = str(site / "retain.jsonl")
    request = request_for(evaluate=[{"suite": "muse", "forget_qa": str(site / "forget.jsonl"), "retain_qa": retain}])
    result = run_axes(request, "sustainability", folds=folds, output=tmp_path, **FIGURES)
    assert [point.results["unlearned"]["forget_knowmem"].n for point in result.points] == [2, 4]
    assert [point.results["unlearned"]["retain_knowmem"].n for point in result.points] == [12, 12]


def test_any_forget_set_is_cut_by_entity(request_for):
    from efface.run.axes import _folds

    plan = make_plan(request_for(), trains=False)
    assert [len(fold) for fold in _folds(plan, "scalability")] == [1, 3, 6, 12]
    assert [len(fold) for fold in _folds(plan, "sustainability")] == [3, 3, 3, 3]
    embedded = make_plan(ForgetRequest(model="embedded:mini", evaluate="muse"), trains=False)
    assert [len({row.entity for row in fold}) for fold in _folds(embedded, "scalability")] == [1, 3, 6]


def test_bad_input_is_explained(request_for, site, tmp_path):
    with pytest.raises(InputError, match="scalability"):
        run_axes(request_for(), "scalabilty", output=tmp_path)
    with pytest.raises(InputError, match="two at least"):
        run_axes(request_for(), "scalability", folds=[str(site / "forget.jsonl")], output=tmp_path)
