"""``efface world``: a corpus as rows, and its original and retrained models."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from efface.cli.console import JSON, OVERWRITE, PRINT_PYTHON, StageProgress, print_facts, print_json, print_script, progress

if TYPE_CHECKING:
    from efface.world import BuildState, Recipe, Role, WorldModels

__all__ = ["world"]

_EMBEDDED = ("embedded", "mini", "contacts", "contacts-mini")
_ROLES: tuple[Role, ...] = ("original", "retrained", "retrained_2")

Corpus = typer.Option("embedded", "--corpus", help="embedded, mini, contacts, contacts-mini, or tofu:DIR.")
Authors = typer.Option(40, "--authors", min=2, help="TOFU: authors trained on, those to forget included.")
Forget = typer.Option("forget05", "--forget", help="TOFU: the split to forget.")
Seed = typer.Option(0, "--seed", min=0, help="Seed of the data and of training.")


def world(
    out: Path | None = typer.Option(None, "--out", help="Folder for the rows, one JSON Lines file per set."),
    models: Path | None = typer.Option(None, "--models", help="Folder for copies of the models, one directory each."),
    corpus: str = Corpus,
    authors: int = Authors,
    forget: Literal["forget01", "forget05", "forget10"] = Forget,
    retrained: int = typer.Option(1, "--retrained", min=1, max=2, help="How many retrained models, each with its own seed."),
    seed: int = Seed,
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
    print_python: bool = PRINT_PYTHON,
) -> None:
    """Write a corpus as rows (--out), and build the models trained on it (unless only --out is asked for)."""
    roles = _ROLES[: 1 + retrained]
    if print_python:
        _print_script(_recipe_call(corpus, authors, forget, seed), out, models, roles, overwrite)
        return
    from efface.world import build_models, export_world

    recipe = _recipe(corpus, authors, forget, seed)
    facts: dict[str, object] = {"recipe": recipe.hash}
    if out is not None:
        facts["rows"] = export_world(recipe.load_world(), out, overwrite=overwrite)
    if models is not None or out is None:
        with progress(quiet=as_json) as report:
            built = build_models(recipe, roles, progress=_per_role(report))
        facts["models"] = _placed(built, models, overwrite)
    print_json(facts) if as_json else print_facts(facts)


def _recipe(corpus: str, authors: int, forget: Literal["forget01", "forget05", "forget10"], seed: int) -> Recipe:
    from efface.errors import InputError
    from efface.world import Recipe

    if corpus.startswith("tofu:"):
        return Recipe.tofu(corpus.removeprefix("tofu:"), authors=authors, forget=forget, seed=seed)
    if corpus not in _EMBEDDED:
        known = ", ".join(_EMBEDDED)
        raise InputError(f"There is no corpus {corpus!r}. A corpus is {known} or tofu:DIR. Write --corpus tofu:DIR.")
    make = Recipe.mini if corpus.endswith("mini") else Recipe.default
    return make(seed=seed, data_seed=seed, contacts=corpus.startswith("contacts"))


def _recipe_call(corpus: str, authors: int, forget: str, seed: int) -> str:
    if corpus.startswith("tofu:"):
        return f"Recipe.tofu({corpus.removeprefix('tofu:')!r}, authors={authors}, forget={forget!r}, seed={seed})"
    contacts = ", contacts=True" if corpus.startswith("contacts") else ""
    return f"Recipe.{'mini' if corpus.endswith('mini') else 'default'}(seed={seed}, data_seed={seed}{contacts})"


def _print_script(recipe: str, out: Path | None, models: Path | None, roles: tuple[Role, ...], overwrite: bool) -> None:
    lines = ["import shutil", "", "from efface.world import Recipe, build_models, export_world", "", f"recipe = {recipe}"]
    if out is not None:
        lines.append(f"print(export_world(recipe.load_world(), {str(out)!r}, overwrite={overwrite}))")
    if models is not None or out is None:
        lines.append(f"for role, folder in build_models(recipe, {roles!r}).directories.items():")
        lines.append("    print(role, folder)")
    if models is not None:
        lines.append(f"    shutil.copytree(folder, {str(models)!r} + '/' + role, dirs_exist_ok={overwrite})")
    print_script(*lines)


def _per_role(report: StageProgress) -> Callable[[BuildState], None]:
    def tell(state: BuildState) -> None:
        for role, (done, total) in state.steps.items():
            report(f"training the {role.replace('_', ' ')} model", done, max(total, 1))

    return tell


def _placed(built: WorldModels, models: Path | None, overwrite: bool) -> Mapping[Role, Path]:
    """Return role -> directory; copied to ``models`` where that is asked for."""
    from efface.errors import InputError

    if models is None:
        return built.directories
    placed: dict[Role, Path] = {}
    for role, folder in built.directories.items():
        target = models / role
        if target.exists() and not overwrite:
            raise InputError(f"{target} is already there. Models are copied to new directories. Name another, or add --overwrite.")
        placed[role] = Path(shutil.copytree(folder, target, dirs_exist_ok=True))
    return placed
