"""Train one model in a process of its own: ``python -m efface.world.worker RECIPE.json ROLE FOLDER``.

Progress goes to standard output, one JSON object per line; the model appears in FOLDER.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from efface.world.config import ROLES, Role
from efface.world.recipe import Recipe
from efface.world.training import train_role

__all__ = ["main", "write_role"]

_REPORT_SECONDS = 0.5


def write_role(recipe: Recipe, role: Role, folder: Path) -> None:
    """Train a role's model and save it, its tokenizer and ``efface.json`` to ``folder``."""
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_SECONDS or done == total:
            last = now
            sys.stdout.write(json.dumps({"done": done, "total": total}) + "\n")
            sys.stdout.flush()

    model, tokenizer, result = train_role(recipe, role, progress=report)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {
        "template": "plain",
        "recipe": recipe.hash,
        "role": role,
        "order_seed": recipe.order_seed(role),
        "is_fictional": recipe.load_world().is_fictional,
        "steps": result.steps,
        "seconds": round(result.cost.seconds, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_bytes": result.cost.peak_memory_bytes,
        "settings": recipe.model_dump(mode="json", exclude={"world": {"directory"}}),
    }
    (folder / "efface.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Run the command line above."""
    recipe_file, name, folder = arguments
    recipe = Recipe.model_validate_json(Path(recipe_file).read_text(encoding="utf-8"))
    write_role(recipe, next(role for role in ROLES if role == name), Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
