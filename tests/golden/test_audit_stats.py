"""The statistics among the audit's vectors."""

from __future__ import annotations

import pytest
import torch
from _fixtures import fixture_params, pending_cases, read_fixture

from efface.attacks.quantize import quantize_rows
from efface.evals.nets.per_example import lira_score
from efface.stats import clopper_pearson

DOCUMENTATION = {"schema", "note"}
FILE = "audit_filter_and_stats.json"


@pytest.mark.parametrize("path", fixture_params(FILE))
def test_every_block_is_known(path):
    known = DOCUMENTATION | set(pending_cases(FILE)) | {"clopper_pearson_95", "quantise", "ulira"}
    assert set(read_fixture(path)) <= known


@pytest.mark.parametrize("path", fixture_params(FILE))
def test_clopper_pearson(path):
    for case in read_fixture(path)["clopper_pearson_95"]:
        interval = clopper_pearson(case["k"], case["n"])
        upper = clopper_pearson(case["k"], case["n"], one_sided=True).high
        assert [interval.low, interval.high, upper] == pytest.approx([case["lo"], case["hi"], case["one_sided_upper"]], abs=1e-9)


@pytest.mark.parametrize("path", fixture_params(FILE))
def test_quantise(path):
    case = read_fixture(path)["quantise"]
    weight, edited = (torch.tensor(case[name], dtype=torch.float64) for name in ("w", "w_edit"))
    for expected, found in (
        ("int4_row_absmax", quantize_rows(weight, 4)),
        ("int4_edit", quantize_rows(edited, 4)),
        ("int8_row_absmax", quantize_rows(weight, 8)),
    ):
        torch.testing.assert_close(found, torch.tensor(case[expected], dtype=torch.float64), rtol=1e-9, atol=1e-12)
    same = (quantize_rows(weight, 4) == quantize_rows(edited, 4)).double().mean()
    assert float(same) == pytest.approx(case["frac_weights_equal_after_int4"])


@pytest.mark.parametrize("path", fixture_params(FILE))
def test_ulira(path):
    case = read_fixture(path)["ulira"]
    found = lira_score(
        case["obs_phi"],
        mu_unlearned=case["mu_unlearn"],
        sd_unlearned=case["sd_unlearn"],
        mu_retrained=case["mu_retrain"],
        sd_retrained=case["sd_retrain"],
    )
    assert found.tolist() == pytest.approx(case["score"], abs=1e-9)


@pytest.mark.parametrize("case", sorted(pending_cases(FILE)))
def test_pending(case):
    pytest.skip(f"pending: {pending_cases(FILE)[case]}")
