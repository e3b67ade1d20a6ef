"""A recipe: everything that decides what the models of a world are, and its hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from efface.world.config import ROLES, ModelSizes, Role, TofuConfig, TrainingPlan, WorldConfig
from efface.world.corpus import World, load_world
from efface.world.draws import draw_epoch

__all__ = ["RECIPE_VERSION", "Recipe"]

RECIPE_VERSION = 1


class Recipe(BaseModel):
    """World, model sizes and training of an original model and the ones it is compared with.

    Equal recipes give equal models on the same machine. The retrained models differ from the original in their data, their
    initialisation and their order, never in anything else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(default=RECIPE_VERSION, description="Raised when the code trains other models from equal settings.")
    world: Annotated[WorldConfig | TofuConfig, Field(discriminator="corpus")] = WorldConfig()
    model: ModelSizes = ModelSizes()
    training: TrainingPlan = TrainingPlan()
    seed: int = Field(default=0, description="Training seed: initialisation and order of every role come from it.")

    @classmethod
    def default(cls, *, seed: int = 0, data_seed: int = 0, contacts: bool = False) -> Self:
        """Return the recipe of ``efface demo``; with ``contacts`` its people have e-mail, telephone and account number."""
        return cls(world=WorldConfig.default(seed=data_seed, contacts=contacts), seed=seed)

    @classmethod
    def mini(cls, *, seed: int = 0, data_seed: int = 0, contacts: bool = False) -> Self:
        """Return a recipe small enough for a test suite."""
        return cls(
            world=WorldConfig.mini(seed=data_seed, contacts=contacts),
            model=ModelSizes(hidden=64, intermediate=192, vocabulary=1024),
            training=TrainingPlan(epochs=22, learning_rate=7e-3, batch_size=8),
            seed=seed,
        )

    @classmethod
    def tofu(
        cls,
        directory: str | Path,
        *,
        authors: int = 40,
        forget: Literal["forget01", "forget05", "forget10"] = "forget05",
        seed: int = 0,
    ) -> Self:
        """Return the recipe for a part of TOFU, read from ``directory``."""
        world = TofuConfig(directory=Path(directory).expanduser().resolve(), authors=authors, forget=forget)
        # Prose needs a larger vocabulary; its questions cannot be foretold, so that only answers are worth learning.
        sizes = ModelSizes(layers=4, vocabulary=4096)
        return cls(
            world=world, model=sizes, training=TrainingPlan(epochs=20, learning_rate=3e-3, batch_size=8, labels="answer"), seed=seed
        )

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over settings and content; where the data lie on disk is no part of it."""
        world = self.load_world()
        settings = self.model_dump(mode="json", exclude={"world": {"directory"}})
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digest.update(world.hash.encode())
        for row in draw_epoch(world, "original", self.order_seed("original"), 0):
            digest.update(json.dumps(row.as_dict(), sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def load_world(self) -> World:
        """Return the world the models are trained on."""
        return load_world(self.world)

    def order_seed(self, role: Role) -> int:
        """Seed of a role's initialisation and order; no two roles or training seeds share one."""
        return self.seed * len(ROLES) + ROLES.index(role)
