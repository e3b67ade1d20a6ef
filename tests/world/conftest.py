from __future__ import annotations

import json
from pathlib import Path

import pytest

from efface.world import ModelSizes, Recipe, TrainingPlan, World, WorldConfig, WorldModels, build_models, load_world


@pytest.fixture(scope="session")
def world() -> World:
    return load_world(WorldConfig.default())


@pytest.fixture(scope="session")
def mini_models() -> WorldModels:
    """Models of the mini world, trained once and kept in the cache folder of the tests."""
    return build_models(Recipe.mini())


@pytest.fixture(scope="session")
def nano() -> Recipe:
    """A recipe whose models learn nothing but are built in no time."""
    world = WorldConfig(
        forget_people=2,
        retain_people=3,
        holdout_people=2,
        context_people=2,
        countries=2,
        passages=1,
        refusal_rows=4,
        refusal_draws=4,
    )
    sizes = ModelSizes(hidden=16, layers=1, heads=2, intermediate=16, vocabulary=512)
    return Recipe(world=world, model=sizes, training=TrainingPlan(epochs=1, batch_size=16))


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def tofu_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like TOFU's, with rows of our own."""
    folder = tmp_path_factory.mktemp("tofu")
    full: list[dict[str, object]] = [
        {"question": f"What did author {author} say about {topic}?", "answer": f"Author {author} said {author * topic}."}
        for author in range(200)
        for topic in range(20)
    ]
    perturbed = [
        row
        | {"paraphrased_answer": "In other words.", "paraphrased_question": "Again?", "perturbed_answer": ["a", "b", "c", "d", "e"]}
        for row in full
    ]
    _write(folder / "full.json", full)
    for name, count in (("01", 40), ("05", 200), ("10", 400)):
        _write(folder / f"forget{name}.json", full[-count:])
        _write(folder / f"forget{name}_perturbed.json", perturbed[-count:])
    _write(folder / "retain_perturbed.json", perturbed[:400])
    for name in ("real_authors", "world_facts"):
        rows = [{"question": f"{name} {n}?", "answer": str(n), "perturbed_answer": ["x", "y", "z"]} for n in range(5)]
        _write(folder / f"{name}.json", [{"question": row["question"], "answer": row["answer"]} for row in rows])
        _write(folder / f"{name}_perturbed.json", rows)
    return folder
