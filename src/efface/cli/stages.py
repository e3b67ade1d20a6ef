"""``efface run``, and its stages alone: ``unlearn`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from efface.cli.console import (
    ADAPTER,
    ALLOW_CODE,
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
    PROBLEM,
    RETAIN,
    RETENTION,
    RETRAINED,
    SEED,
    TASK,
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
    requests: list[Path] = typer.Argument(help="The request, a YAML file; several run in turn, each on what the last one left."),
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    drop_overlap: bool | None = DROP_OVERLAP,
    include_plaintext: bool | None = PLAINTEXT,
    output: Path | None = OUTPUT,
    overwrite: bool = OVERWRITE,
    allow_code: bool = ALLOW_CODE,
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Unlearn, evaluate and report; started again, it does only what is missing."""
    flags = given(seeds=seed, drop_overlap=drop_overlap, include_plaintext=include_plaintext)
    every = [*overrides, *(f"{key}={str(value).lower()}" for key, value in flags.items())]
    if len(requests) == 1:
        call = f"efface.ForgetRequest.read({str(requests[0])!r}, overrides={every!r})"
        execute_request(
            call, lambda cls: cls.read(requests[0], every), output, overwrite, as_json, print_python, allow_code=allow_code
        )
        return
    _execute_in_turn(requests, every, output, overwrite, allow_code, as_json, print_python)


def _execute_in_turn(
    paths: list[Path],
    every: list[str],
    output: Path | None,
    overwrite: bool,
    allow_code: bool,
    as_json: bool,
    print_python: bool,
) -> None:
    """Run several requests in turn, or print the script that does."""
    place = None if output is None else str(output)
    if print_python:
        names = [str(path) for path in paths]
        listed = f"requests = [efface.ForgetRequest.read(path, overrides={every!r}) for path in {names!r}]"
        code = ", allow_code=True" if allow_code else ""
        call = f"results = execute_in_turn(requests, output={place!r}, overwrite={overwrite!r}{code})"
        shown = "print(*(result.report for result in results))"
        print_script("from efface.run import execute_in_turn", "", listed, call, shown)
        return
    from efface.request import ForgetRequest
    from efface.run import execute_in_turn

    with progress(quiet=as_json) as report:
        requests = [ForgetRequest.read(path, every) for path in paths]
        results = execute_in_turn(requests, output=place, overwrite=overwrite, allow_code=allow_code, progress=report)
    if as_json and results:  # only the main process has any
        print_json([_run_facts(result) for result in results])
        return
    for result in results:
        _print_run(result)


def execute_request(
    call: str,
    build: Callable[[type[ForgetRequest]], ForgetRequest],
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    print_python: bool,
    *,
    allow_code: bool = False,
) -> None:
    """Run all stages of a request, or print the script that does."""
    place = None if output is None else str(output)
    if print_python:
        code = ", allow_code=True" if allow_code else ""
        run_call = f"execute(request, output={place!r}, overwrite={overwrite!r}{code})"
        print_script("from efface.run import execute", "", f"request = {call}", f"result = {run_call}", "print(result.report)")
        return
    from efface.request import ForgetRequest

    request = build(ForgetRequest)
    from efface.run import execute

    with progress(quiet=as_json) as report:
        result = execute(request, output=place, overwrite=overwrite, allow_code=allow_code, progress=report)
    if result is not None:  # the main process prints
        print_json(_run_facts(result)) if as_json else _print_run(result)


def unlearn(
    model: str | None = typer.Option(None, "--model", help="Directory or hub id of the original model."),
    forget: str | None = FORGET,
    retain: str | None = RETAIN,
    holdout: str | None = HOLDOUT,
    method: str | None = METHOD,
    retention: str | None = RETENTION,
    adapter: str | None = ADAPTER,
    task: str | None = TASK,
    problem: str | None = PROBLEM,
    allow_code: bool = ALLOW_CODE,
    drop_overlap: bool | None = DROP_OVERLAP,
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    revoke: str | None = typer.Option(None, "--revoke", help="Take the module of an earlier request out; nothing is trained."),
    output: Path = typer.Option("unlearned", "--output", "-o", help="Directory for the unlearned model."),
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Make a model forget and save it, or take an earlier request back; nothing is measured."""
    if revoke is not None:
        _revoke(model, revoke, output, as_json, print_python)
        return
    tree = given(model=model, forget=forget, retain=retain, holdout=holdout, drop_overlap=drop_overlap, seeds=seed)
    tree |= given(method=method, retention=retention, adapter=adapter, task=task, problem=problem)
    if print_python:
        request_line = f"request = efface.ForgetRequest.from_tree({tree!r}, overrides={overrides!r})"
        code = ", allow_code=True" if allow_code else ""
        verb_line = f"unlearned = efface.unlearn(request=request, output={str(output)!r}{code})"
        print_script(request_line, verb_line, "print(unlearned.path)")
        return
    from efface.request import ForgetRequest

    request = ForgetRequest.from_tree(tree, overrides)
    from efface.run import unlearn as verb
    from efface.train.processes import is_main

    with progress(quiet=as_json) as report:
        unlearned = verb(request=request, output=output, allow_code=allow_code, progress=report)
    if is_main():
        _print_unlearned(unlearned, as_json)


def _revoke(model: str | None, name: str, output: Path, as_json: bool, print_python: bool) -> None:
    if model is None:
        from efface.errors import InputError

        raise InputError("No model was named to revoke from. A directory with modules is needed. Pass --model.")
    if print_python:
        print_script("from efface.run import revoke", "", f"print(revoke({model!r}, {name!r}, {str(output)!r}))")
        return
    from efface.run import revoke

    path = revoke(model, name, output)
    print_json({"path": path, "revoked": name}) if as_json else typer.echo(path)


def evaluate(
    model: str = typer.Argument(help="Directory or hub id of the model to measure."),
    forget: str | None = FORGET,
    retain: str | None = RETAIN,
    holdout: str | None = HOLDOUT,
    retrained: str | None = RETRAINED,
    suite: str = typer.Option("auto", "--suite", help="auto (what the rows allow) or a suite's name."),
    variant: Literal["strict", "openunlearning", "original"] = typer.Option("strict", "--variant", help="Which definitions."),
    task: str | None = TASK,
    problem: str | None = PROBLEM,
    allow_code: bool = ALLOW_CODE,
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file for the figures, per row as well."),
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Measure a model on rows to forget and rows to keep."""
    tree = given(model=model, forget=forget, retain=retain, holdout=holdout, retrained=retrained, seeds=seed)
    tree |= given(task=task, problem=problem)
    code = ", allow_code=True" if allow_code else ""
    call = f"efface.evaluate({model!r}, suite={suite!r}, request=request, role='model', variant={variant!r}{code})"
    if print_python:
        print_script(
            f"request = efface.ForgetRequest.from_tree({tree!r}, overrides={overrides!r})", f"results = {call}", "print(results)"
        )
        return
    from efface.request import ForgetRequest

    request = ForgetRequest.from_tree(tree, overrides)
    from efface.run import evaluate as verb

    with progress(quiet=as_json) as report:
        results = verb(
            request.model, suite=suite, request=request, role="model", variant=variant, allow_code=allow_code, progress=report
        )
    if output is not None:
        import json

        output.write_text(json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print_json(results.as_dict(per_item=False)) if as_json else print_results({"model": results})


def _run_facts(result: RunResult) -> dict[str, Any]:
    metrics = {role: {name: metric.value for name, metric in results.metrics.items()} for role, results in result.results.items()}
    facts = {"folder": result.folder, "report": result.report, "weights_hash": result.unlearned.weights_hash}
    return {**facts, "stopped": result.unlearned.stopped, "metrics": metrics, "facts": dict(result.facts)}


def _print_run(result: RunResult) -> None:
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
