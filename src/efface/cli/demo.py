"""``efface demo``: the main job on the embedded world."""

from __future__ import annotations

from pathlib import Path

import typer

from efface.cli import stages
from efface.cli.console import ADAPTER, JSON, METHOD, OUTPUT, OVERRIDES, OVERWRITE, PRINT_PYTHON, RETENTION, SEED, given

__all__ = ["demo"]


def demo(
    method: str | None = METHOD,
    retention: str | None = RETENTION,
    adapter: str | None = ADAPTER,
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    output: Path | None = OUTPUT,
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Build a small world, make its model forget some of it, measure, and write report.html."""
    tree = {"model": "embedded", **given(method=method, retention=retention, adapter=adapter, seeds=seed)}
    call = f"efface.ForgetRequest.from_tree({tree!r}, overrides={overrides!r})"
    if not as_json and not print_python:
        typer.echo("The embedded world: a small model that knows 80 invented people and must forget 20 of them.", err=True)
    stages.execute_request(call, lambda cls: cls.from_tree(tree, overrides), output, overwrite, as_json, print_python)
