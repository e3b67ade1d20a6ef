"""The README's example runs, and prints what the README says it prints."""

from __future__ import annotations

import contextlib
import io
import re
from ast import literal_eval
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)


def figures(text: str) -> dict[str, list[float]]:
    return {name: literal_eval(values) for name, values in (line.split(" ", 1) for line in text.strip().splitlines())}


def test_example_prints_what_the_readme_says() -> None:
    (script,), (shown,) = blocks("python"), blocks("text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "README.md", "exec"), {})
    found, expected = figures(printed.getvalue()), figures(shown)
    assert list(found) == list(expected)
    for name, values in expected.items():
        # Another processor rounds otherwise, and a small model turns that into another answer here and there.
        assert found[name] == pytest.approx(values, abs=0.15), name


def test_pictures_and_pages_exist() -> None:
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
