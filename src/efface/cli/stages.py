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
from efface.cli.endpoint import API, CONCURRENCY, ENDPOINT, KEY_ENV, NAME, TOKENIZER, EndpointOptions, is_url

if TYPE_CHECKING:
    from efface.request import ForgetRequest
    from efface.results import Results
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
    from efface.models.processes import is_main
    from efface.run import unlearn as verb

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
    model: str = typer.Argument(help="Directory or hub id of the model to measure, or the URL of an OpenAI-compatible endpoint."),
    forget: str | None = FORGET,
    retain: str | None = RETAIN,
    holdout: str | None = HOLDOUT,
    retrained: str | None = RETRAINED,
    against: str | None = typer.Option(
        None, "--against", help="The retrained model's figures: a JSON of ours or OpenUnlearning's."
    ),
    original: str | None = typer.Option(None, "--original", help="Original model or its figures, for the aggregate score."),
    suite: str = typer.Option("auto", "--suite", help="auto (what the rows allow) or a suite's name."),
    variant: Literal["strict", "openunlearning", "original"] = typer.Option("strict", "--variant", help="Which definitions."),
    endpoint: str | None = ENDPOINT,
    endpoint_model: str | None = NAME,
    endpoint_key_env: str | None = KEY_ENV,
    endpoint_tokenizer: Path | None = TOKENIZER,
    endpoint_api: Literal["chat", "completions"] | None = API,
    endpoint_concurrency: int = CONCURRENCY,
    task: str | None = TASK,
    problem: str | None = PROBLEM,
    allow_code: bool = ALLOW_CODE,
    overrides: list[str] = OVERRIDES,
    seed: int | None = SEED,
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file for the figures, per row as well."),
    export: Path | None = typer.Option(None, "--export-openunlearning", help="Folder for the figures as OpenUnlearning's logs."),
    tasks: str | None = typer.Option(None, "--lm-eval", help="Tasks of the lm-evaluation-harness, such as mmlu,gsm8k."),
    task_limit: int | None = typer.Option(None, "--lm-eval-limit", min=1, help="Questions per task, to try it out."),
    task_shots: int | None = typer.Option(None, "--lm-eval-shots", min=0, help="Examples before each question."),
    task_folder: Path | None = typer.Option(None, "--lm-eval-tasks", help="Folder with task files of your own."),
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Measure a model on rows to forget and rows to keep."""
    here = None if is_url(model) else model
    url = model if here is None else endpoint
    remote = None
    if url is not None:
        named = (endpoint_model, endpoint_key_env, endpoint_tokenizer, endpoint_api, endpoint_concurrency)
        remote = EndpointOptions(url, *named)
    tree = given(model=here, forget=forget, retain=retain, holdout=holdout, retrained=retrained, seeds=seed)
    tree |= given(task=task, problem=problem)
    settings: dict[str, Any] = {"suite": suite, "role": "model", "variant": variant}
    settings |= given(against=against, original=original, allow_code=allow_code or None)
    folder = None if task_folder is None else str(task_folder)
    harness = None if tasks is None else given(limit=task_limit, shots=task_shots, include=folder, seed=seed)
    asked = None if tasks is None else [task.strip() for task in tasks.split(",")]
    measures_rows = tasks is None or forget is not None or problem is not None or model in ("embedded", "embedded:mini")
    if print_python:
        _print_evaluation(tree, overrides, settings if measures_rows else None, export, (asked, harness), remote)
        return
    from efface.models.processes import is_main
    from efface.request import ForgetRequest
    from efface.run import evaluate as verb
    from efface.run import evaluate_on_tasks
    from efface.run.evaluation import side_by_side

    request = ForgetRequest.from_tree(tree, overrides) if measures_rows else None
    opened = None if remote is None else remote.open(None if request is None else request.template)
    found: dict[str, Results] = {}
    with progress(quiet=as_json) as report:
        if request is not None:
            measured, writer = (opened, None) if here is None else (request.model, opened)
            found["rows"] = verb(measured, request=request, writer=writer, progress=report, **settings)
        if asked is not None and harness is not None:
            found["tasks"] = evaluate_on_tasks(here or opened, asked, progress=report, **harness)
    if is_main():
        _show_figures(side_by_side(found), output, found.get("rows"), export, as_json)


def _show_figures(results: Results, output: Path | None, rows: Results | None, export: Path | None, as_json: bool) -> None:
    if output is not None:
        import json

        output.write_text(json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if export is not None:
        from efface.errors import InputError
        from efface.evals.openunlearning import write_openunlearning

        if rows is None:
            raise InputError("No rows were measured, so there is no log to write. OpenUnlearning's logs hold rows. Pass --forget.")
        write_openunlearning(rows, export)
    print_json(results.as_dict(per_item=False)) if as_json else print_results({"model": results})


def _print_evaluation(
    tree: dict[str, Any],
    overrides: list[str],
    settings: dict[str, Any] | None,
    export: Path | None,
    tasks: tuple[list[str] | None, dict[str, Any] | None],
    remote: EndpointOptions | None,
) -> None:
    """Print the script that measures rows, tasks or both."""
    imports, opened = ([], "") if remote is None else remote.script()
    head: list[str] = list(imports)
    lines: list[str] = []
    measured = repr(tree["model"]) if "model" in tree else opened
    writer = f", writer={opened}" if opened and "model" in tree else ""
    if settings is not None:
        named = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        lines = [
            f"request = efface.ForgetRequest.from_tree({tree!r}, overrides={overrides!r})",
            f"results = efface.evaluate({measured}, request=request{writer}, {named})",
            "print(results)",
        ]
    if settings is not None and export is not None:
        head.append("from efface.evals.openunlearning import write_openunlearning")
        lines.append(f"write_openunlearning(results, {str(export)!r})")
    asked, harness = tasks
    if asked is not None:
        head.append("from efface.run import evaluate_on_tasks")
        named = "".join(f", {key}={value!r}" for key, value in (harness or {}).items())
        lines.append(f"print(evaluate_on_tasks({measured}, {asked!r}{named}))")
    print_script(*head, *([""] if head else []), *lines)


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
