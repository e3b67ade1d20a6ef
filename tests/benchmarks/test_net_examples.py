"""U-LiRA and KLOM over many small nets: figures, floor and page."""

from __future__ import annotations

import pytest

from benchmarks import net_examples


@pytest.fixture(scope="module")
def lab() -> net_examples.Lab:
    return net_examples.Lab(net_examples.Size(pairs=4, targets=2, models=2, epochs=1))


def test_every_row_has_its_figures_and_the_page_shows_them(lab: net_examples.Lab) -> None:
    records = {label: net_examples.measure(lab, label) for label in ("retrained again", "nothing", "ssd")}
    assert "ulira" not in records["retrained again"]
    assert 0 <= records["nothing"]["ulira"]["auc"] <= 1
    assert records["ssd"]["ratio"] > 0
    assert all(value >= 0 for record in records.values() for pair in record["klom"].values() for value in pair)
    page = net_examples.page(lab, records)
    assert [line.split(" | ")[0] for line in page.splitlines()[-3:]] == ["| retrained again", "| nothing", "| ssd"]
    assert "4 shadow models of each kind" in page


def test_models_are_made_once_and_the_original_is_not_changed(lab: net_examples.Lab) -> None:
    rows = lab.without(lab.candidates)
    first = lab.trained(rows, 1)
    before = lab.margins(first, lab.x[:20], lab.y[:20])
    lab.unlearned("fine_tune", {"epochs": 1}, rows, rows[:30], 1)
    assert lab.trained(rows, 1) is first
    assert (lab.margins(first, lab.x[:20], lab.y[:20]) == before).all()
