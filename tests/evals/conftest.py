"""Small sets of rows, and two models that know them; the helpers of _lookup.py can be imported by the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # whatever the import mode

from _lookup import LookupModel, knows, people_rows

from efface.data.schema import RowSet
from efface.evals import SuiteData


@pytest.fixture
def data() -> SuiteData:
    facts = [
        {"id": f"w{i}", "question": f"Fact {i} ?", "answer": f"Fact {i} is {v} .", "value": v, "perturbed_answer": ["a", "b", "c"]}
        for i, v in enumerate(("red", "blue", "green", "white"))
    ]
    extra = {"world_facts": RowSet.build(facts), "real_authors": people_rows("writer", 3)}
    return SuiteData(people_rows("forget", 12), people_rows("retain", 12), people_rows("stranger", 12), extra)


@pytest.fixture
def original(data) -> LookupModel:
    return LookupModel(knows(data.forget, data.retain, *data.extra.values()))


@pytest.fixture
def retrained(data) -> LookupModel:
    return LookupModel(knows(data.retain, *data.extra.values()))
