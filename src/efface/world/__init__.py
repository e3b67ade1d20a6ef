"""The embedded default: a small fictional world, its tokenizer, and the original and retrained models trained on it.

>>> from efface.world import WorldConfig, load_world
>>> world = load_world(WorldConfig.mini())
>>> len({row.entity for row in world.forget})
6
"""

from efface.world.build import BuildState, WorldModels, build_models, models_cache
from efface.world.config import ModelSizes, Role, TofuConfig, TrainingPlan, WorldConfig
from efface.world.corpus import Person, RequestRows, World, load_world
from efface.world.draws import draw_epoch
from efface.world.export import export_world
from efface.world.recipe import Recipe
from efface.world.topics import topic_sets

__all__ = [
    "BuildState",
    "ModelSizes",
    "Person",
    "Recipe",
    "RequestRows",
    "Role",
    "TofuConfig",
    "TrainingPlan",
    "World",
    "WorldConfig",
    "WorldModels",
    "build_models",
    "draw_epoch",
    "export_world",
    "load_world",
    "models_cache",
    "topic_sets",
]
