"""What a part of the forget set holds, and what its model tells of the rest."""

from __future__ import annotations

import math

from benchmarks.subset import answers, coverage, coverage_table
from efface.data.schema import Row

ROWS = [
    Row(id=f"{person}-{attribute}-{wording}", question="?", answer="!", entity=person, attribute=attribute)
    for person in ("ann", "bob")
    for attribute in ("city", "job")
    for wording in (0, 1)
]


def test_facts_are_counted_once_and_answers_are_split_by_what_the_part_holds():
    part = [row for row in ROWS if row.id in ("ann-city-0", "ann-city-1", "bob-job-1")]
    told = {row.id: 0.0 if (row.entity, row.attribute) in {("ann", "city"), ("bob", "job")} else 1.0 for row in ROWS}
    told["ann-city-0"] = 1.0

    found = coverage({"some": part}, ROWS, {"some": told})

    assert found == {"some": [1.0, 0.5, 0.25, 1.0]}


def test_nothing_left_out_has_no_share():
    told = dict.fromkeys((row.id for row in ROWS), 0.0)

    *known, outside = coverage({"all": ROWS}, ROWS, {"all": told})["all"]

    assert known == [1.0, 1.0, 0.0]
    assert math.isnan(outside)


def test_table_holds_means_over_seeds():
    table = coverage_table([{"0.1 by random": [1.0, 0.2, 0.0, 1.0]}, {"0.1 by random": [0.5, 0.4, 0.1, 0.9]}])

    assert table.splitlines()[-1] == "| 0.1 by random | 0.75 | 0.30 | 0.05 | 0.95 |"


def test_answers_are_read_from_a_record():
    metric = {"item_ids": ["a", "b"], "per_item": [0.0, 1.0]}

    assert answers({"results": {"metrics": {"forget_fact_accuracy": metric}}}) == {"a": 0.0, "b": 1.0}
