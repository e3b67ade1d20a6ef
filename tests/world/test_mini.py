from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from efface.world import Recipe, WorldModels

ROOT = Path(__file__).resolve().parents[2]


def _gates() -> ModuleType:
    """The benchmark that measures the requirements, so that tests and the results page cannot disagree."""
    path = ROOT / "benchmarks" / "world_gates.py"
    if not path.is_file():
        pytest.skip("benchmarks/world_gates.py is not part of an installed package")
    spec = importlib.util.spec_from_file_location("world_gates", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["world_gates"] = module
    spec.loader.exec_module(module)
    return module


def test_the_mini_world_is_learnt_and_its_retrained_model_does_not_know(mini_models: WorldModels) -> None:
    gates = _gates()
    world = mini_models.recipe.load_world()
    original = gates.measure_world(mini_models.original, world)
    retrained = gates.measure_world(mini_models.retrained, world)
    assert original["forget"] >= 0.9
    assert original["retain"] >= 0.9
    assert original["passages_forget_rouge"] >= 0.9
    assert original["refusals"] >= 0.9
    assert retrained["forget"] <= 0.2
    assert retrained["retain"] >= 0.9
    assert retrained["passages_forget_rouge"] <= original["passages_forget_rouge"] - 0.5
    assert max(original["holdout"], retrained["holdout"]) <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_world_meets_its_requirements(seed: int) -> None:
    gates = _gates()
    figures = gates.measure_seed(Recipe.default(seed=seed, data_seed=seed))
    assert gates.unmet(figures) == []
