"""``efface bench`` and ``efface compare``: many models in one table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from efface.cli.console import JSON, OUTPUT, OVERRIDES, PRINT_PYTHON, print_json, print_script, print_table

if TYPE_CHECKING:
    from efface.report.leaderboard import Leaderboard
    from efface.run.bench import BenchResult, BenchState, Forecast

__all__ = ["bench", "compare"]


def bench(
    suite: Path = typer.Argument(help="The suite, a YAML file: models, methods, settings, seeds."),
    overrides: list[str] = OVERRIDES,
    jobs: int | None = typer.Option(None, "--jobs", "-j", min=1, help="Processes at a time."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what is done, what is left and how long it takes; run nothing."),
    output: Path | None = OUTPUT,
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Run many methods, settings and seeds and put them into one leaderboard; started again, it does only what is missing."""
    place = None if output is None else str(output)
    if print_python:
        verb = "forecast_bench" if dry_run else "run_bench"
        call = f"result = {verb}(suite, output={place!r}, jobs={jobs!r})"
        shown = "print(result)" if dry_run else "print(result.page)"
        read = f"suite = BenchSpec.read({str(suite)!r}, overrides={overrides!r})"
        print_script(f"from efface.run.bench import BenchSpec, {verb}", "", read, call, shown)
        return
    from efface.run.bench.spec import BenchSpec

    spec = BenchSpec.read(suite, overrides)
    from efface.run.bench import forecast_bench, run_bench

    if dry_run:
        _print_forecast(forecast_bench(spec, output=output, jobs=jobs), as_json)
        return
    with _progress(quiet=as_json) as report:
        result = run_bench(spec, output=output, jobs=jobs, progress=report)
    _print_result(result, as_json)
    if result.failed:
        raise typer.Exit(1)


def compare(
    runs: list[Path] = typer.Argument(help="Folders of `efface run` or `efface bench`; the others are compared with the first."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Page to write, for example comparison.html."),
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Compare finished runs on the same rows: differences with intervals and paired tests."""
    page = None if output is None else str(output)
    if print_python:
        call = f"board = compare_runs({[str(run) for run in runs]!r}, output={page!r})"
        print_script("from efface.run.bench import compare_runs", "", call, "print(board.tests)")
        return
    from efface.run.bench import compare_runs

    board = compare_runs(runs, output=page)
    if as_json:
        from efface.report.leaderboard import as_json as plain

        print_json(plain(board))
        return
    _print_board(board)
    _print_tests(board)
    if output is not None:
        typer.echo(f"\n{output}")


def _print_result(result: BenchResult, as_json: bool) -> None:
    if as_json:
        from efface.report.leaderboard import as_json as plain

        facts = {"folder": result.folder, "page": result.page, "failed": dict(result.failed), "executed": result.executed}
        print_json({**facts, "leaderboard": plain(result.leaderboard)})
        return
    _print_board(result.leaderboard)
    for label, reason in result.failed.items():
        typer.echo(f"failed: {label}: {reason}", err=True)
    typer.echo(f"\n{result.page}")


def _print_board(board: Leaderboard) -> None:
    from efface.report.leaderboard import table_rows

    head, rows = table_rows(board)
    if not sys.stdout.isatty():
        print_table(head, rows)
        return
    # A terminal has no room for every figure in a line of its own: figures go down, models across.
    print_table(["", *(f"{row[0]}" for row in rows)], [[name, *(row[i] for row in rows)] for i, name in enumerate(head) if i])


def _print_tests(board: Leaderboard) -> None:
    from efface.report.wording import count

    rows = [
        (t.metric, t.first, t.second, *_difference(t), f"{count(t.n_entities, 'entity', 'entities')}, {count(t.n_seeds, 'seed')}")
        for t in board.tests
    ]
    typer.echo()
    print_table(("figure", "first", "second", "difference", "interval", "log10 p (Holm)", "smallest possible", "n"), rows)


def _difference(test: Any) -> tuple[str, str, str, str]:
    if test.difference is None:
        return f"not compared: {test.reason}", "", "", ""
    shown = test.interval is not None and test.interval.is_meaningful
    interval = f"[{test.interval.low:.3g}, {test.interval.high:.3g}]" if shown else ""
    return f"{test.difference:+.3g}", interval, f"{test.log10_p_holm:.2f}", f"{test.log10_floor:.2f}"


def _print_forecast(forecast: Forecast, as_json: bool) -> None:
    if as_json:
        print_json({"done": forecast.done, "left": forecast.left, "jobs": forecast.jobs, "seconds": forecast.seconds})
        return
    from efface.report.wording import duration

    rows = [("done", label, "") for label in forecast.done]
    rows += [("left", label, "" if seconds is None else duration(seconds)) for label, seconds in forecast.left.items()]
    print_table(("state", "node", "estimate"), rows)
    total = "no like node has run yet" if forecast.seconds is None else f"about {duration(forecast.seconds)}"
    known = sum(seconds is not None for seconds in forecast.left.values())
    part = "" if forecast.seconds is None or known == len(forecast.left) else f" for {known} of them"
    typer.echo(f"{len(forecast.done)} done, {len(forecast.left)} left, {forecast.jobs} at a time: {total}{part}.")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[BenchState], None]]:
    """Show how far a bench is: bars where standard error is a terminal, else a line per finished node; nothing if ``quiet``."""
    if quiet:
        yield lambda state: None
    elif not sys.stderr.isatty():
        yield _say_ended
    else:
        with _bars() as report:
            yield report


def _say_ended(state: BenchState) -> None:
    if state.ended is not None:
        label, reason = state.ended
        left = "" if state.seconds_left is None else f", about {_clock(state.seconds_left)} left"
        typer.echo(f"{state.done + state.failed}/{state.total} {label}{f' failed: {reason}' if reason else ''}{left}", err=True)


@contextmanager
def _bars() -> Iterator[Callable[[BenchState], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<44}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        whole = bars.add_task("bench", note="")
        running: dict[str, Any] = {}

        def report(state: BenchState) -> None:
            left = "" if state.seconds_left is None else f", about {_clock(state.seconds_left)} left"
            failed = f", {state.failed} failed" if state.failed else ""
            bars.update(
                whole, completed=state.done + state.failed, total=state.total, note=f"{state.done}/{state.total}{failed}{left}"
            )
            for label in [label for label in running if label not in state.running]:
                bars.remove_task(running.pop(label))
            for label, share in state.running.items():
                if label not in running:
                    running[label] = bars.add_task(f"  {label}", total=None, note="")
                if share is not None:
                    bars.update(running[label], completed=100 * share, total=100)
            if state.ended is not None and state.ended[1]:
                bars.console.print(f"failed: {state.ended[0]}: {state.ended[1]}", markup=False)

        yield report


def _clock(seconds: float) -> str:
    from efface.report.wording import duration

    return duration(max(1.0, seconds))
