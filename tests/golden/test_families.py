"""Every fixture is read by a test or named as pending; one that nobody knows is a failure."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
from _fixtures import HERE, families, fixture_params


@pytest.mark.parametrize("path", fixture_params("*"))
def test_fixture_has_a_test_or_is_pending(path):
    matching = [family for family in families() if fnmatch(path.name, family["pattern"])]
    assert matching, f"{path.name} matches no pattern of families.toml"
    assert len(matching) == 1, f"{path.name} matches several patterns: {[family['pattern'] for family in matching]}"
    family = matching[0]
    if "pending" in family:
        pytest.skip(f"pending: {family['pending']}")
    assert (HERE / family["module"]).is_file()


@pytest.mark.parametrize("family", families(), ids=lambda family: family["pattern"])
def test_family_names_a_module_or_a_feature(family):
    assert ("module" in family) != ("pending" in family)
    assert all(isinstance(why, str) and why for why in family.get("cases", {}).values())
