"""The original and the retrained nets of a plan: given, trained by the recipe, or taken from the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from efface.data.cache import cache_root
from efface.data.net_batches import with_labels
from efface.data.net_sets import Part
from efface.errors import InputError
from efface.models.checks import read_metadata
from efface.models.memory import peak_memory
from efface.models.net_files import WEIGHTS_FILE, load_net, save_net
from efface.models.seeding import seeded
from efface.results import Cost
from efface.run.net_plan import ROLES, NetPlan
from efface.run.progress import Progress, within
from efface.train.language_model import cpu_threads
from efface.train.net import accelerator
from efface.train.net_recipe import train_recipe

__all__ = ["NetModels", "load_role", "prepare_nets", "threads_for"]

TINY = 5_000_000
"""Below this many parameters one CPU thread is faster than several."""


@dataclass(frozen=True)
class NetModels:
    """Where the nets of a run lie, and what training them took.

    Attributes:
        places: Role -> directory or file of weights.
        costs: Stage -> cost, of the nets that were trained by the recipe, now or earlier.
        notes: What a reader must know.
    """

    places: Mapping[str, Path]
    costs: Mapping[str, Cost]
    notes: tuple[str, ...] = ()


def prepare_nets(plan: NetPlan, progress: Progress | None = None) -> NetModels:
    """Return every net that is given or can be trained; ``retrained: none`` leaves one out.

    A trained net is cached by the hash of everything that decides it, and what its training took is kept with it.
    """
    places: dict[str, Path] = {}
    costs: dict[str, Cost] = {}
    cached: list[str] = []
    for role in ROLES:
        given = getattr(plan.request, "model" if role == "original" else role)
        if given is not None:
            if given != "none":
                places[role] = Path(given).expanduser()
            continue
        if plan.problem.training is None:
            continue
        target = cache_root() / "models" / plan.recipe_hash(role)
        stage = f"training of the {_name(role)} net"
        if (target / WEIGHTS_FILE).is_file():
            cached.append(_name(role))
        else:
            _train(plan, role, target, within(progress, stage))
        places[role] = target
        took = read_metadata(target).get("cost", {})
        costs[stage] = Cost(float(took.get("seconds", 0.0)), took.get("peak_memory_bytes"), took.get("steps"))
    notes = (f"Taken from the cache: the {' and the '.join(cached)} net. Their cost is that of when they were trained.",)
    return NetModels(places, costs, notes if cached else ())


def _name(role: str) -> str:
    return {"retrained_2": "second retrained"}.get(role, role)


def _train(plan: NetPlan, role: str, target: Path, progress: Callable[[int, int], None] | None) -> None:
    problem, seed = plan.problem, plan.training_seed(role)
    if problem.training is None:
        raise InputError(f"The problem {problem.name} has no training recipe. One is needed to train a net. Give it one.")
    numbers = np.arange(len(problem.train)) if role == "original" else problem.retain_rows()
    with seeded(0):  # rows may be drawn from the global generators (augmentation)
        numbers = with_labels(problem.train, numbers)
    rows = problem.train if len(numbers) == len(problem.train) else Part(problem.train, numbers)
    net = plan.fresh(seed).to(accelerator().device)
    started = time.perf_counter()
    with seeded(seed), cpu_threads(threads_for(plan, net)):
        fitted = train_recipe(net, rows, problem.training, plan.loss, seed=seed, validation=problem.validation, progress=progress)
    cost = {"seconds": time.perf_counter() - started, "peak_memory_bytes": peak_memory(), "steps": fitted.steps}
    metadata = {"kind": "net", "role": role, "problem": problem.name, "task": problem.task, "seed": seed, "cost": cost}
    save_net(
        net.cpu().eval(), target, {**metadata, "training": problem.training.model_dump(mode="json"), "stopped": fitted.stopped}
    )


def load_role(plan: NetPlan, place: str | Path) -> nn.Module:
    """Return a net of the plan's architecture with the weights at ``place``, as it is used."""
    return load_net(plan.fresh(0), place).eval()


def threads_for(plan: NetPlan, net: nn.Module) -> int | None:
    """Return the CPU threads to use: the request's, else one for a tiny net, else as many as are set."""
    is_tiny = sum(parameter.numel() for parameter in net.parameters()) < TINY
    return plan.request.unlearning.threads or (1 if is_tiny else None)
