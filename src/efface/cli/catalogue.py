"""``efface methods`` and ``efface metrics``: what there is, what it needs, where it comes from, its defaults."""

from __future__ import annotations

from typing import Any

import typer

from efface.cli.console import JSON, TASK, print_facts, print_json, print_table

__all__ = ["methods", "metrics"]


def methods(
    name: str | None = typer.Argument(None, help="One method; without it, all of them."),
    lacking: list[str] = typer.Option([], "--without", metavar="NEED", help="What is not there, such as retain_set; repeatable."),
    task: str | None = TASK,
    as_json: bool = JSON,
) -> None:
    """List the methods, or show one: its plugs, needs, intention, paper and defaults; or what can run without something."""
    if name is not None and lacking:
        from efface.errors import InputError

        raise InputError(f"Both {name} and --without were given. One shows a method, the other lists methods. Leave one out.")
    if task is not None:
        _for_nets(task, lacking, as_json, name)
        return
    if lacking:
        _without(lacking, as_json)
        return
    from efface.methods.presets import describe, method_names
    from efface.registry import NETS

    if name is not None:
        found = _describe_net(name) if name in NETS else describe(_known(name))
        print_json(found) if as_json else print_facts(_without_blanks(found))
        return
    found_all = [describe(each) for each in method_names()]
    columns = ("name", "intention", "level", "approach", "needs", "summary")
    rows = [[", ".join(each[key]) if key == "needs" else each[key] for key in columns] for each in found_all]
    if as_json:
        print_json(found_all)
        return
    print_table(columns, rows)
    typer.echo("\nFor ordinary nets: efface methods --task classification, regression or forecasting.")


def _known(name: str) -> str:
    """Return the name of a method for language models; a name that nothing has is looked for among those for nets as well."""
    from efface.methods.presets import ALIASES, method_names
    from efface.registry import NETS, OBJECTIVES, WEIGHTS, unknown_name

    known = [*method_names(), *ALIASES]
    if name in known or name in OBJECTIVES or name in WEIGHTS:
        return name
    hint = "`efface methods` lists them, and `efface methods --task T` those for ordinary nets."
    raise unknown_name("method", name, [*known, *NETS.names()], hint)


def _for_nets(task: str, lacking: list[str], as_json: bool, name: str | None) -> None:
    from efface.errors import InputError
    from efface.methods.base import Need
    from efface.methods.nets.catalogue import describe_net, net_methods
    from efface.registry import NETS, unknown_name

    names = net_methods(task)
    if not names:
        raise unknown_name("task of nets", task, ["classification", "regression", "forecasting"])
    for need in lacking:
        if need not in list(Need):
            raise unknown_name("need", need, [str(each) for each in Need])
    if name is not None:
        found_one = describe_net(NETS.canonical(name))
        if name not in names:
            raise InputError(
                f"{name} is no method for {task}. It works for {', '.join(found_one['tasks'])}. Leave --task out to see it, or "
                "`efface methods --task` lists those for a task."
            )
        print_json(found_one) if as_json else print_facts(_without_blanks(found_one))
        return
    found = [_for_task(describe_net(each), task) for each in names]
    found = [each for each in found if not {*each["needs"]} & {*lacking}]
    columns = ("name", "intention", "level", "approach", "needs", "labels_read", "summary")
    rows = [[", ".join(each[key]) if key == "needs" else each[key] for key in columns] for each in found]
    print_json(found) if as_json else print_table(columns, rows)


def _for_task(found: dict[str, Any], task: str) -> dict[str, Any]:
    """Say of a method that wraps another whose default is for other tasks that one must be named."""
    from efface.registry import NETS

    within = found["hyperparameters"].get("within", {}).get("default")
    inner = within.get("name") if isinstance(within, dict) else None
    if inner is None or task in NETS.get(inner).tasks:
        return found
    return {**found, "summary": f"{found['summary']}; for {task} within must be given ({inner} is for another task)"}


def _describe_net(name: str) -> dict[str, Any]:
    from efface.methods.nets.catalogue import describe_net

    return describe_net(name)


def _without(lacking: list[str], as_json: bool) -> None:
    from dataclasses import asdict

    from efface.methods.needs import stand_ins_for, without

    found, stand_ins = without(lacking), stand_ins_for(lacking)
    if as_json:
        methods = [asdict(each) for each in found]
        print_json({"without": lacking, "methods": methods, "stand_ins": [asdict(each) for each in stand_ins]})
        return
    print_table(("name", "runs", "lacks"), [(each.name, each.runs, ", ".join(each.lacks)) for each in found])
    if stand_ins:
        typer.echo("\nIn place of rows to keep, best first (retain in a request, --retain on the command line):")
        for each in stand_ins:
            typer.echo(f"  {each.written}: {each.protects}")


def metrics(name: str | None = typer.Argument(None, help="One metric; without it, all of them."), as_json: bool = JSON) -> None:
    """List the metrics, or show one: its definition, variants, aim, interval and cost."""
    from efface.evals import describe_metric
    from efface.registry import METRICS

    if name is not None:
        found = describe_metric(name)
        print_json(found) if as_json else print_facts(_without_blanks(found))
        return
    found_all = [describe_metric(each) for each in METRICS.names()]
    rows = [(each["name"], each["aim"], each["title"], each["needs"]) for each in found_all]
    print_json(found_all) if as_json else print_table(("name", "aim", "title", "needs"), rows)


def _without_blanks(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}
