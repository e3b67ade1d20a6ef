"""``efface run``, and its stages alone: ``unlearn`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from efface.cli.console import (
    ADAPTER,
    DROP_OVERLAP,
    FORGET,
    HOLDOUT,
    JSON,
    METHOD,
    OUTPUT,
    OVERRIDES,
    OVERWRITE,
    PLAINTEXT,
    PRINT_PYTHON,
    RETAIN,
    RETENTION,
    RETRAINED,
    SEED,
    given,
    print_facts,
    print_json,
    print_results,
    print_script,
    progress,
)

if TYPE_CHECKING:
    from efface.request import ForgetRequest
    from efface.run import RunResult

__all__ = ["evaluate", "execute_request", "run", "unlearn"]


def run(
    request: Path = typer.Argument(help="The request, a YAML file."),
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    drop_overlap: bool | None = DROP_OVERLAP,
    include_plaintext: bool | None = PLAINTEXT,
    output: Path | None = OUTPUT,
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Unlearn, evaluate and report; started again, it does only what is missing."""
    flags = given(seeds=seed, drop_overlap=drop_overlap, include_plaintext=include_plaintext)
    every = [*overrides, *(f"{key}={str(value).lower()}" for key, value in flags.items())]
    call = f"efface.ForgetRequest.read({str(request)!r}, overrides={every!r})"
    execute_request(call, lambda cls: cls.read(request, every), output, overwrite, as_json, print_python)


def execute_request(
    call: str,
    build: Callable[[type[ForgetRequest]], ForgetRequest],
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    print_python: bool,
) -> None:
    """Run all stages of a request, or print the script that does."""
    place = None if output is None else str(output)
    if print_python:
        run_call = f"execute(request, output={place!r}, overwrite={overwrite!r})"
        print_script("from efface.run import execute", "", f"request = {call}", f"result = {run_call}", "print(result.report)")
        return
    from efface.request import ForgetRequest

    request = build(ForgetRequest)
    from efface.run import execute

    with progress(quiet=as_json) as report:
        result = execute(request, output=place, overwrite=overwrite, progress=report)
    _print_run(result, as_json)


def unlearn(
    model: str | None = typer.Option(None, "--model", help="Directory or hub id of the original model."),
    forget: str | None = FORGET,
    retain: str | None = RETAIN,
    holdout: str | None = HOLDOUT,
    method: str | None = METHOD,
    retention: str | None = RETENTION,
    adapter: str | None = ADAPTER,
    drop_overlap: bool | None = DROP_OVERLAP,
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    output: Path = typer.Option("unlearned", "--output", "-o", help="Directory for the unlearned model."),
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Make a model forget and save it; nothing is measured."""
    tree = given(model=model, forget=forget, retain=retain, holdout=holdout, drop_overlap=drop_overlap, seeds=seed)
    tree |= given(method=method, retention=retention, adapter=adapter)
    if print_python:
        request_line = f"request = efface.ForgetRequest.from_tree({tree!r}, overrides={overrides!r})"
        print_script(request_line, f"unlearned = efface.unlearn(request=request, output={str(output)!r})", "print(unlearned.path)")
        return
    from efface.request import ForgetRequest

    request = ForgetRequest.from_tree(tree, overrides)
    from efface.run import unlearn as verb

    with progress(quiet=as_json) as report:
        unlearned = verb(request=request, output=output, progress=report)
    _print_unlearned(unlearned, as_json)


def evaluate(
    model: str = typer.Argument(help="Directory or hub id of the model to measure."),
    forget: str | None = FORGET,
    retain: str | None = RETAIN,
    holdout: str | None = HOLDOUT,
    retrained: str | None = RETRAINED,
    suite: str = typer.Option("auto", "--suite", help="auto (what the rows allow) or a suite's name."),
    variant: Literal["strict", "openunlearning", "original"] = typer.Option("strict", "--variant", help="Which definitions."),
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file for the figures, per row as well."),
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Measure a model on rows to forget and rows to keep."""
    tree = given(model=model, forget=forget, retain=retain, holdout=holdout, retrained=retrained, seeds=seed)
    call = f"efface.evaluate({model!r}, suite={suite!r}, request=request, role='model', variant={variant!r})"
    if print_python:
        print_script(
            f"request = efface.ForgetRequest.from_tree({tree!r}, overrides={overrides!r})", f"results = {call}", "print(results)"
        )
        return
    from efface.request import ForgetRequest

    request = ForgetRequest.from_tree(tree, overrides)
    from efface.run import evaluate as verb

    with progress(quiet=as_json) as report:
        results = verb(request.model, suite=suite, request=request, role="model", variant=variant, progress=report)
    if output is not None:
        import json

        output.write_text(json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print_json(results.as_dict(per_item=False)) if as_json else print_results({"model": results})


def _print_run(result: RunResult, as_json: bool) -> None:
    metrics = {role: {name: metric.value for name, metric in results.metrics.items()} for role, results in result.results.items()}
    if as_json:
        facts = {"folder": result.folder, "report": result.report, "weights_hash": result.unlearned.weights_hash}
        print_json({**facts, "stopped": result.unlearned.stopped, "metrics": metrics, "facts": dict(result.facts)})
        return
    print_results(result.results)
    typer.echo(f"\n{result.report}")


def _print_unlearned(unlearned: Any, as_json: bool) -> None:
    facts = {
        "path": unlearned.path,
        "intention": str(unlearned.intention),
        "stopped": unlearned.stopped,
        "seconds": round(unlearned.cost.seconds, 1),
        "steps": unlearned.cost.steps,
        "weights_hash": unlearned.weights_hash,
        "cast_survival": unlearned.cast_survival,
        "notes": list(unlearned.notes),
    }
    print_json({**facts, "method": dict(unlearned.method)}) if as_json else print_facts(facts)
