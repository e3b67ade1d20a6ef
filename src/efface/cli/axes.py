"""``efface axes``: a method over growing forget sets, or over requests in a row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from efface.cli.console import (
    JSON,
    OVERRIDES,
    OVERWRITE,
    PRINT_PYTHON,
    SEED,
    given,
    print_json,
    print_script,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from efface.results import AxisResult

__all__ = ["axes"]


def axes(
    request: Path = typer.Argument(help="The request, a YAML file: model, method, data."),
    axis: Literal["scalability", "sustainability"] = typer.Option(
        "scalability", "--axis", help="Larger requests, or more of them."
    ),
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    output: Path = typer.Option("axes", "--output", "-o", help="Folder for a run per fold, the figures and the curve."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Unlearn growing forget sets from the original model, or disjoint ones one after another, and draw the curve."""
    every = [*overrides, *(f"{key}={value}" for key, value in given(seeds=seed).items())]
    if print_python:
        read = f"request = efface.ForgetRequest.read({str(request)!r}, overrides={every!r})"
        call = f"result = run_axes(request, {axis!r}, output={str(output)!r}, overwrite={overwrite!r})"
        print_script("from efface.run.axes import run_axes", "", read, call, "print(result.slope)")
        return
    from efface.request import ForgetRequest
    from efface.run.axes import run_axes

    asked = ForgetRequest.read(request, every)
    with progress(quiet=as_json) as report:
        result = run_axes(asked, axis, output=output, overwrite=overwrite, progress=report)
    if result is None:  # the main process prints
        return
    from efface.report.plots import plot_axis
    from efface.report.svg import save_svg

    save_svg(plot_axis(result), output / f"{axis}.svg")
    print_json(result.as_dict()) if as_json else _print_axis(result, output)


def _print_axis(result: AxisResult, output: Path) -> None:
    rows = []
    for index, point in enumerate(result.points):
        values = [result.curve(name)[index].value for name in result.figures]
        rows.append((point.fold, point.rows, *("n/a" if value is None else f"{value:.3g}" for value in values)))
    print_table(("fold", "rows", *result.figures), rows)
    slope = result.slope
    if slope.value is None:
        typer.echo(f"\n{result.axis}: not available ({slope.reason})")
    else:
        worst = f"worst step {slope.details['worst_step']:+.3f}, to fold {slope.details['worst_step_to_fold']:.0f}"
        typer.echo(f"\n{result.axis}: {100 * slope.value:+.1f} % of {result.utility} per fold; {worst}")
    typer.echo(output / f"{result.axis}.svg")
