"""Every method for nets has a page, whose request names settings the method has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from efface.registry import NETS

PAGES = Path(__file__).resolve().parents[3] / "docs" / "methods" / "nets"


def test_every_page_is_of_a_method() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(NETS.names())


@pytest.mark.parametrize("name", NETS.names())
def test_page(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert all(heading in text for heading in ("## When to use it", "## Command", "## Citation", "**Needs:**"))
    method = NETS.get(name)
    if method.paper is not None:
        assert f"arXiv {method.paper.arxiv}" in re.sub(r"\s+", " ", text)
    request = yaml.safe_load(text.split("```yaml")[1].split("```")[0])
    settings = dict(request["method"])
    assert settings.pop("name") == name
    assert method(**settings).config is not None
    assert request["task"] in method.tasks
    assert f"efface methods {name}" in text
