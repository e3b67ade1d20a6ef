"""One command runs the parts and writes their figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.memory import compare_memory, memory_table
from benchmarks.shapes import Shape
from benchmarks.tables import Table

ROOT = Path(__file__).resolve().parents[2]


def test_tables_are_printed_and_written(monkeypatch, tmp_path, capsys):
    table = Table(
        "A title", ("Ours: this. Baseline: that.",), ("method", "ratio"), (("npo", "1.50"),), ({"ratio": 1.5},), ("A note.",)
    )
    monkeypatch.setitem(run.PARTS, "steps", lambda is_quick: iter([table]))
    written = tmp_path / "figures.json"
    assert run.main(["--quick", "--only", "steps", "--json", str(written)]) == [table]
    printed = capsys.readouterr().out
    assert "A title\n=======\nOurs: this. Baseline: that.\n\nmethod  ratio\n------  -----\nnpo     1.50\n\nA note." in printed
    record = json.loads(written.read_text())
    assert record["quick"] is True
    assert record["tables"] == [
        {"title": "A title", "words": ["Ours: this. Baseline: that."], "rows": [{"ratio": 1.5}], "notes": ["A note."]}
    ]


@pytest.mark.parametrize("command", [["benchmarks/run.py"], ["-m", "benchmarks"]])
def test_both_commands_start(command):
    done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout


def test_memory_is_measured_in_processes_of_their_own():
    shape = Shape("small", 301, 32, 64, 2, 2, 2, (8, 8))
    entry = compare_memory(shape, "npo_kl")
    assert entry.ours.loss == pytest.approx(entry.baseline.loss, rel=1e-4, abs=1e-6)
    assert entry.ours.weights == entry.baseline.weights > 0
    assert entry.ours.peak >= entry.ours.start > 0
    assert entry.estimate > entry.ours.weights
    table = memory_table([entry], shape)
    assert [row["method"] for row in table.values] == ["npo_kl"]
    assert table.values[0]["ours_over_first_bytes"] == 0
    assert "Baseline: a frozen copy" in table.text()
