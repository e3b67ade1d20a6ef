"""What the commands share: options, JSON for machines, tables for people, progress with the time left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from efface.results import Results

__all__ = [
    "ADAPTER",
    "ALLOW_CODE",
    "DROP_OVERLAP",
    "FORGET",
    "HOLDOUT",
    "JSON",
    "METHOD",
    "OUTPUT",
    "OVERRIDES",
    "OVERWRITE",
    "PLAINTEXT",
    "PRINT_PYTHON",
    "PROBLEM",
    "RETAIN",
    "RETENTION",
    "RETRAINED",
    "SEED",
    "TASK",
    "StageProgress",
    "given",
    "print_facts",
    "print_json",
    "print_results",
    "print_script",
    "print_table",
    "progress",
]

StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, in all)."""

JSON = typer.Option(False, "--json", help="Print the result as JSON on standard output.")
PRINT_PYTHON = typer.Option(False, "--print-python", help="Print the equivalent Python script and do nothing else.")
OVERRIDES = typer.Option([], "--set", metavar="PATH=VALUE", help="Override a key of the request, for example method.beta=0.2.")
SEED = typer.Option(None, "--seed", min=0, help="Set all seeds at once.")
OUTPUT = typer.Option(None, "--output", "-o", help="Where to write.")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace what another request left in the output folder.")
DROP_OVERLAP = typer.Option(None, "--drop-overlap", help="Take rows that also stand in the forget set out of the retain set.")
PLAINTEXT = typer.Option(None, "--include-plaintext", help="Write examples in plain text to a file of their own.")
FORGET = typer.Option(None, "--forget", help="Rows to forget: a file, a folder, hub:NAME:SPLIT or tofu:DIR:SPLIT.")
RETAIN = typer.Option(None, "--retain", help="Rows to keep; without any: neighbours:FILE, generic or sampled.")
HOLDOUT = typer.Option(None, "--holdout", help="Rows of the same kind that the model never saw.")
RETRAINED = typer.Option(None, "--retrained", help="A model trained without the forget set, to compare with.")
METHOD = typer.Option(None, "--method", help="A name from `efface methods`.")
RETENTION = typer.Option(None, "--retention", help="The term that protects the rest: none, nll, kl, embedding.")
ADAPTER = typer.Option(None, "--adapter", help="What is trained: auto, full, lora.")

TASK = typer.Option(None, "--task", help="For an ordinary net: classification, regression or forecasting.")
PROBLEM = typer.Option(None, "--problem", help="A net's rows and recipe: FILE.py, embedded:digits, or an installed name.")
ALLOW_CODE = typer.Option(False, "--allow-code", help="Let the problem file that the request names run; it is Python code.")


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were set, as keys of a request."""
    return {key: value for key, value in options.items() if value is not None}


def print_json(data: Any) -> None:
    """Print plain types as JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_script(*lines: str) -> None:
    """Print the Python script that does what the command would do."""
    typer.echo("\n".join(("import efface", "", *lines)))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table, or tab-separated lines where the output is no terminal."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            typer.echo("\t".join(str(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


def print_results(results: Mapping[str, Results]) -> None:
    """Print the figures of several models side by side; what is not available stays blank."""
    names = dict.fromkeys(name for result in results.values() for name, metric in result.metrics.items() if metric.is_available)
    rows = [(name, *(_figure(result.value(name)) for result in results.values())) for name in names]
    print_table(("metric", *results), rows)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one per line; nested values are indented."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            typer.echo(f"{name}:")
            for inner, item in value.items():
                typer.echo(f"  {inner}: {_plain(item)}")
        else:
            typer.echo(f"{name}: {_plain(value)}")


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[StageProgress]:
    """Show one bar per stage on standard error, with the time left; nothing where that is no terminal or ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<36}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for task in bars.tasks:  # a stage that a stop rule ended is over all the same
                    bars.update(task.id, total=task.completed)
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_plain(item) for item in value) or "-"
    return str(value)
