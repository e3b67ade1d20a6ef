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
    if task is not None:
        _for_nets(task, as_json)
        return
    if lacking:
        _without(lacking, as_json)
        return
    from efface.methods.presets import describe, method_names
    from efface.registry import NETS

    if name is not None:
        found = _describe_net(name) if name in NETS else describe(name)
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


def _for_nets(task: str, as_json: bool) -> None:
    from efface.methods.nets.catalogue import describe_net, net_methods

    found = [describe_net(each) for each in net_methods(task)]
    if not found:
        from efface.registry import unknown_name

        raise unknown_name("task of nets", task, ["classification", "regression", "forecasting"])
    columns = ("name", "intention", "level", "approach", "needs", "labels_read", "summary")
    rows = [[", ".join(each[key]) if key == "needs" else each[key] for key in columns] for each in found]
    print_json(found) if as_json else print_table(columns, rows)


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
