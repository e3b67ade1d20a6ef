"""Whether two VAEs tell clouds apart that are apart, and do not where they are one."""

from __future__ import annotations

import torch

from benchmarks.laf_apart import apart


def test_clouds_that_are_apart_are_told_and_halves_of_one_are_not():
    draws = torch.Generator().manual_seed(0)
    cloud = torch.randn(240, 6, generator=draws)
    elsewhere = 0.3 * torch.randn(120, 6, generator=draws) + 4.0
    retain = torch.cat([cloud[:120], elsewhere])
    same = torch.arange(240) < 120

    found = apart(cloud[120:], retain, same)

    assert (found["other"] or 0.0) > 0.9
    assert 0.3 < (found["same"] or 0.0) < 0.7


def test_no_retain_row_of_the_classes_that_go():
    cloud = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))

    found = apart(cloud[:40], cloud[40:] + 5.0, torch.zeros(40, dtype=torch.bool))

    assert found["same"] is None
    assert found["all"] == found["other"]
