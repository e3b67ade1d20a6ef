"""``efface translate``: settings of OpenUnlearning as a request."""

from __future__ import annotations

from pathlib import Path

import typer

from efface.cli.console import JSON, OVERWRITE, PRINT_PYTHON, print_json, print_script

__all__ = ["translate"]


def translate(
    settings: list[str] = typer.Argument(help="A YAML file, a run's folder or a file with a command; then overrides KEY=VALUE."),
    output: Path | None = typer.Option(None, "--output", "-o", help="YAML file for the request; without it, it is printed."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Translate settings of OpenUnlearning into a request, and say what could not be translated."""
    places = [each for each in settings if "=" not in each]
    overrides = [each for each in settings if "=" in each]
    source = places[0] if places else None
    if print_python:
        lines = [f"translation = translate({source!r}, overrides={overrides!r})", "print(translation.as_yaml())"]
        print_script("from efface.run.openunlearning import translate", "", *lines)
        return
    from efface.errors import InputError
    from efface.run.openunlearning import translate as verb

    if len(places) > 1:
        raise InputError(f"{len(places)} places were named ({', '.join(places)}). One run is translated at a time. Name one.")
    if output is not None and output.exists() and not overwrite:
        raise InputError(f"{output} is already there. A request is written to a new file. Name another, or add --overwrite.")
    found = verb(source, overrides=overrides)
    if output is not None:
        output.write_text(found.as_yaml(), encoding="utf-8")
    if as_json:
        left = [{"key": each.key, "value": each.value, "reason": each.reason} for each in found.untranslated]
        print_json({"request": dict(found.request), "untranslated": left, "notes": list(found.notes)})
    elif output is None:
        typer.echo(found.as_yaml(), nl=False)
    else:
        typer.echo(f"{output}: method {_name(found.request['method'])}, {len(found.untranslated)} settings not translated")
        for each in (*found.untranslated, *found.notes):
            typer.echo(f"  {each}")


def _name(method: object) -> object:
    return method["name"] if isinstance(method, dict) else method
