"""Every method has a page whose command names a method that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from efface.methods.presets import PRESETS, expand

PAGES = Path(__file__).resolve().parents[2] / "docs" / "methods"


def page_of(name: str) -> Path:
    return PAGES / f"{'flat' if name.startswith('flat_') else name}.md"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_page(name):
    page = page_of(name)
    assert page.is_file(), f"docs/methods/{page.name} is missing"
    text = page.read_text(encoding="utf-8")
    assert all(heading in text for heading in ("## When to use it", "## Command", "## Citation", "**Needs:**"))
    assert f"arXiv {expand(name).paper.arxiv}" in re.sub(r"\s+", " ", text)
    if "retain_set" in expand(name).needs:
        assert "--retain" in text


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_command_names_a_method(page):
    methods = re.findall(r"--method (\S+)|efface methods (\S+)", page.read_text(encoding="utf-8"))
    assert methods
    assert all(expand(first or second) for first, second in methods)
