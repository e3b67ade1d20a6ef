"""The results page on nets: a cell is run, kept and not run again, and the page says what is there and what is not."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from benchmarks import nets
from benchmarks.net_cells import CURVE_SHARES, GROUPS, PARTS, Cell, cells_of
from benchmarks.net_page import figure, seed_interval, write_page
from benchmarks.net_problems import PROBLEMS, load_problem
from efface.errors import InputError
from efface.registry import NETS


def test_seed_interval_is_students():
    low, high = seed_interval([1.0, 2.0, 3.0])
    reach = 4.302652729911275 / math.sqrt(3)  # t(0.975, 2) times the standard error
    assert (low, high) == pytest.approx((2 - reach, 2 + reach))
    assert seed_interval([1.0, 2.0, 3.0], least=0.0)[0] == 0.0
    assert seed_interval([1.0]) is None


def test_figures_say_what_is_missing():
    results = [{"metrics": {"forget_accuracy": {"value": value}}} for value in (0.5, 0.7)]
    assert figure(results, "forget_accuracy", per_cent=True) == "60.0"
    assert figure(results, "forget_accuracy", per_cent=True, interval=True) == "60.0 [0.0, 100.0]"
    assert figure(results, "forget_mae", per_cent=False) == "-"
    assert figure([*results, {"metrics": {"forget_accuracy": {"value": None}}}], "forget_accuracy", per_cent=True) == "-"


@pytest.mark.parametrize("part", sorted(PARTS))
def test_cells_have_names_of_their_own_and_settings_that_are_known(part):
    for problem in PARTS[part]:
        cells = cells_of(part, problem)
        assert max(Counter(cell.name for cell in cells).values()) == 1
        for cell in cells:
            NETS.get(cell.method)(**cell.settings)


def test_every_method_stands_on_the_page():
    shown = {cell.method for cells in GROUPS.values() for cell in cells}
    assert set(NETS.names()) - shown == {"retrain", "certified_removal"}  # every row is held against one; linear models only
    assert set(GROUPS) == set(PROBLEMS)


def test_unknown_problems_and_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no benchmark problem 'abalones'"):
        load_problem("abalones", tmp_path)
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte\.gz"):
        load_problem("mnist", tmp_path)
    with pytest.raises(ValueError, match="No problem wine here"):
        nets.run_all(["iau"], ["wine"], [0], tmp_path, tmp_path, jobs=1, quick=True)


def test_a_cell_is_kept_and_the_page_shows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(nets, "cells_of", lambda part, problem: (Cell("fine_tune", "fine_tune", {"epochs": 1}),))
    problem, work = "iau/digits/mlp", tmp_path / "work"
    nets.run_group(problem, ["iau"], 0, tmp_path, work, quick=True)
    kept = nets.folder_of(work, problem, 0) / "fine_tune.json"
    record, written = json.loads(kept.read_text(encoding="utf-8")), kept.stat().st_mtime_ns
    assert record["seconds"] > 0
    assert record["results"]["metrics"]["average_gap"]["value"] >= 0
    assert record["results"]["metrics"]["mia_matched"]["value"] is not None
    nets.run_group(problem, ["iau"], 0, tmp_path, work, quick=True)
    assert kept.stat().st_mtime_ns == written
    page = tmp_path / "nets.md"
    write_page(["iau", "curve", "others"], [0], work, page)
    text = page.read_text(encoding="utf-8")
    assert "| digits | mlp | 0 | fine_tune |" in text
    assert text.count("Not run.") == len(PARTS["others"])
    assert f"| {100 * CURVE_SHARES[1]:g} % | - | - | - | - |" in text
    page.write_text(text.replace("## IAU", "## What it says\n\nNo.\n\n## IAU"))
    write_page(["iau"], [0], work, page)
    again = page.read_text(encoding="utf-8")
    assert again.index("## What it says\n\nNo.\n\n## IAU") > again.index("the aim is the row")
    assert (tmp_path / "nets-iau.svg").read_bytes().startswith(b"<?xml")
