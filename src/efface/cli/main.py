"""The ``efface`` command: its commands, and errors as one line and an exit code.

Each command's module imports only typer at the top, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import typer

from efface.cli import axes, bench, cache, catalogue, demo, stages, translate, world
from efface.errors import EffaceError

__all__ = ["app", "main"]

app = typer.Typer(
    name="efface",
    help="Make a trained model forget, measure how far it forgot, and write a report a person can read.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("run")(stages.run)
app.command("unlearn")(stages.unlearn)
app.command("evaluate")(stages.evaluate)
app.command("axes")(axes.axes)
app.command("translate")(translate.translate)
app.command("bench")(bench.bench)
app.command("compare")(bench.compare)
app.command("world")(world.world)
app.command("methods")(catalogue.methods)
app.command("metrics")(catalogue.metrics)
app.add_typer(cache.app, name="cache")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"efface {installed('efface')}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; an expected error is one line on standard error and its exit code."""
    warnings.formatwarning = _one_line
    try:
        app(args=None if arguments is None else list(arguments), prog_name="efface")
    except EffaceError as error:
        typer.echo(f"efface: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code in (None, 0):
            _leave()
        raise


def _leave() -> None:
    """Disconnect from the other processes of ``accelerate launch``, where this command had to do with them."""
    processes = sys.modules.get("efface.models.processes")  # not imported for its sake: it loads torch
    if processes is not None:
        processes.leave()


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    return f"efface: warning: {message}\n"
