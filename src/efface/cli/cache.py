"""``efface cache``: what is cached, and away with it."""

from __future__ import annotations

from typing import Literal

import typer

from efface.cli.console import JSON, print_json, print_table

__all__ = ["app"]

app = typer.Typer(help="List or clear what is cached (trained worlds, measured rows).", no_args_is_help=True)


@app.command("ls")
def ls(as_json: bool = JSON) -> None:
    """List what is cached and how large it is."""
    from efface.data.cache import cache_root, list_cache

    entries = list_cache()
    if as_json:
        print_json({"root": cache_root(), "entries": [{"kind": e.kind, "name": e.name, "bytes": e.bytes} for e in entries]})
        return
    print_table(("kind", "name", "MB"), [(e.kind, e.name, f"{e.bytes / 1e6:.1f}") for e in entries])
    typer.echo(f"{len(entries)} entries, {sum(e.bytes for e in entries) / 1e6:.1f} MB in {cache_root()}")


@app.command("clear")
def clear(
    kind: Literal["all", "models", "rows"] = typer.Argument("all", help="What to remove."),
    as_json: bool = JSON,
) -> None:
    """Remove cached models, rows or both; they are made again when they are needed."""
    from efface.data.cache import clear_cache

    removed = clear_cache(None if kind == "all" else kind)
    size = sum(entry.bytes for entry in removed)
    if as_json:
        print_json({"removed": len(removed), "bytes": size})
        return
    typer.echo(f"Removed {len(removed)} entries, {size / 1e6:.1f} MB.")
