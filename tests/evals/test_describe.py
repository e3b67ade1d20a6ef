"""What metrics say about themselves, and the page made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.evals import describe_metric
from efface.evals.page import metrics_page
from efface.registry import METRICS


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_is_described(name):
    said = describe_metric(name)
    assert said["name"] == name
    assert said["aim"] in {"higher", "lower", "reference", "zero"}
    assert said["variants"]
    assert all(said[key] for key in ("title", "definition", "interval", "cost"))


def test_the_page_is_what_the_metrics_say():
    page = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == metrics_page(), "write efface.evals.page.metrics_page() to docs/metrics.md"
