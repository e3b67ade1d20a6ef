"""Which rows a method touches: accuracies per part and the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.net_cells import cells_of
from benchmarks.net_rows import LABELS, PROBLEM, accuracies, table


def test_accuracy_is_counted_part_by_part():
    x, y = torch.eye(4), torch.tensor([0, 1, 0, 0])
    found = accuracies(torch.nn.Identity(), x, y, {"forget": np.array([0, 1]), "same": np.array([2, 3])})
    assert found == {"forget": 1.0, "same": 0.0}


def test_every_label_is_a_cell_of_the_page():
    assert set(LABELS) <= {cell.label for cell in cells_of("fashion", PROBLEM)}


def test_the_table_shows_means_and_the_difference_with_its_interval():
    found = [{"original": {"forget": 0.9, "same": 0.8, "other": 0.7}}, {"original": {"forget": 0.7, "same": 0.8, "other": 0.5}}]
    line = table(found).splitlines()[-1]
    assert line.startswith("| original | 80.0 | 80.0 | ")
    assert line.endswith(" | 60.0 |")
    low, high = (float(end) for end in line.split("[")[1].split("]")[0].split(", "))
    assert low == pytest.approx(-high)
    assert "[" not in table(found[:1])
