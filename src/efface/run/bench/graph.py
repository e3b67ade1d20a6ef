"""A bench as a graph: what has to be built, measured and run, each once, and what needs what.

    models (per world) -> reference: retrained -> reference: original, retrained_2 -> run (per method, settings, seed) -> axis

A node's key is the SHA-256 of all that decides its outcome (rows, weights, plugs, settings, seeds, the keys of what it needs), so
that nodes of two suites, or of a suite that has grown, are one node where they are the same work.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from efface.errors import EffaceError, InputError
from efface.request import ForgetRequest, Seeds
from efface.run.bench.spec import REFERENCES, BenchSpec, ModelEntry, Reference, Variant
from efface.run.evaluation import TINY
from efface.run.lineage import model_identity
from efface.run.plan import Plan, make_plan

__all__ = ["BenchPlan", "Cell", "Node", "plan_bench", "seed_name"]

Kind = Literal["models", "reference", "run", "axis"]


@dataclass(frozen=True)
class Node:
    """One piece of work, done in a process of its own.

    Attributes:
        key: SHA-256 of what decides the outcome.
        kind: What is done.
        label: What a person is told.
        group: Nodes of one group take about as long as each other.
        needs: Keys of the nodes that come first.
        folder: Where its files go, below the folder of the bench.
        task: What the worker is told, plain types.
    """

    key: str
    kind: Kind
    label: str
    group: str
    needs: tuple[str, ...]
    folder: str
    task: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """Where one line of the leaderboard is found, per seed.

    Attributes:
        model: The model's name.
        label: Method and settings, or the role of a reference model.
        is_reference: Whether it is a reference model.
        nodes: Seed -> key.
        tree: The keys of a request that the line sets.
        axes: Axis -> seed -> key.
    """

    model: str
    label: str
    is_reference: bool
    nodes: Mapping[str, str]
    tree: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchPlan:
    """All nodes, those that others need first, and the lines of the leaderboard.

    Attributes:
        spec: The suite.
        nodes: Key -> node.
        cells: The lines.
        seeds: Names of the seeds.
        is_small: Whether every model is so small that one thread is faster than two.
        is_fictional: Model name -> whether every person in its rows is invented.
    """

    spec: BenchSpec
    nodes: Mapping[str, Node]
    cells: tuple[Cell, ...]
    seeds: tuple[str, ...]
    is_small: bool
    is_fictional: bool


def plan_bench(spec: BenchSpec) -> BenchPlan:
    """Check a suite as a whole and lay out its work; no weight is loaded.

    Raises:
        InputError: When a row, name, setting or model is wrong in any run; names the run.
        MissingNeed: When a method needs something that the suite does not give.
    """
    return _Builder(spec).build()


def seed_name(seeds: Seeds) -> str:
    """Return what tables call a seed: its number, or the kinds of draw that differ from the unlearning seed."""
    rest = {kind: value for kind, value in seeds.model_dump(include={"data", "training"}).items() if value != seeds.unlearning}
    return " ".join([str(seeds.unlearning), *(f"{kind}={value}" for kind, value in rest.items())])


class _Builder:
    """Collects nodes by key, so that equal work is one node."""

    def __init__(self, spec: BenchSpec) -> None:
        self.spec = spec
        self.variants = spec.variants()
        self.seeds = [(seed_name(seeds), seeds) for seeds in spec.seeds]
        names = [name for name, _ in self.seeds]
        if len(set(names)) < len(names):
            raise InputError(f"The seeds {', '.join(names)} are not all different. Each seed is one repetition. Drop the doubles.")
        models = [entry.name for entry in spec.model]
        if len(set(models)) < len(models):
            raise InputError(
                f"Several models are called {', '.join(sorted({m for m in models if models.count(m) > 1}))}. Every model has a "
                "name of its own in the tables. Write {model: PLACE, label: NAME}."
            )
        self.nodes: dict[str, Node] = {}
        self.is_small = True
        self.is_fictional = True

    def build(self) -> BenchPlan:
        cells: list[Cell] = []
        for entry in self.spec.model:
            references: dict[str, dict[Reference, str]] = {}
            for name, seeds in self.seeds:
                references[name] = self._references(entry, name, seeds)
            roles = [role for role in REFERENCES if any(role in found for found in references.values())]
            for role in roles:
                cells.append(Cell(entry.name, role, True, {name: found[role] for name, found in references.items()}))
            cells += [self._line(entry, variant, references) for variant in self.variants]
        names = tuple(name for name, _ in self.seeds)
        return BenchPlan(self.spec, self.nodes, tuple(cells), names, self.is_small, self.is_fictional)

    def _references(self, entry: ModelEntry, seed: str, seeds: Seeds) -> dict[Reference, str]:
        tree = self.spec.request(entry, None, seeds)
        plan = make_plan(ForgetRequest(**tree), trains=False)
        self.is_small &= plan.info is None or plan.info.num_parameters < TINY
        self.is_fictional &= plan.is_fictional
        roles = self._roles(entry)
        built = () if plan.recipe is None else (self._models(entry, plan, tree, roles, seed),)
        where = entry.name if plan.recipe is None else f"{entry.name}, seed {seed}"
        found: dict[Reference, str] = {}
        for role in sorted(roles, key=lambda r: r != "retrained"):  # the others are compared with the retrained model
            against = [found["retrained"]] if "retrained" in found and role != "retrained" else []
            identity = plan.recipe.hash if plan.recipe is not None else _identity(str(_place(entry, role)))
            inputs = {"role": role, "model": identity, "against": against, **_measured(plan)}
            needs = (*built, *against)
            known = {"retrained": against[0]} if against else {}
            task = {"request": tree, "role": role, "references": known}
            found[role] = self._add("reference", inputs, f"{role.replace('_', ' ')} model, {where}", "reference", needs, task)
        return found

    def _models(self, entry: ModelEntry, plan: Plan, tree: Mapping[str, Any], roles: Sequence[Reference], seed: str) -> str:
        wanted = [role for role in REFERENCES if role in roles or role != "retrained_2"]
        inputs = {"recipe": plan.recipe.hash if plan.recipe else "", "roles": wanted}
        return self._add("models", inputs, f"models of {entry.name}, seed {seed}", "models", (), {"request": tree, "roles": wanted})

    def _line(self, entry: ModelEntry, variant: Variant, references: Mapping[str, Mapping[Reference, str]]) -> Cell:
        nodes: dict[str, str] = {}
        axes: dict[str, dict[str, str]] = {axis: {} for axis in self.spec.axes}
        for seed, seeds in self.seeds:
            tree = self.spec.request(entry, variant, seeds)
            try:
                plan = make_plan(ForgetRequest(**tree))
            except EffaceError as error:
                raise type(error)(f"{variant.label} on {entry.name}: {error}") from None
            known = dict(references[seed])
            weights = [_identity(place) for role in REFERENCES if (place := _place(entry, role)) and plan.recipe is None]
            inputs = {"plan": plan.hash, "weights": weights, "references": known}
            label = f"{variant.label}, {self._where(entry, seed)}"
            group = f"run {entry.name} {plan.spec.name}"
            models = [] if plan.recipe is None else list(self._models_behind(known))
            needs = tuple(dict.fromkeys([*models, *known.values()]))
            nodes[seed] = self._add("run", inputs, label, group, needs, {"request": tree, "references": known})
            for axis in self.spec.axes:
                more = {"axis": axis, "run": nodes[seed]}
                task = {"request": tree, "axis": axis}
                axes[axis][seed] = self._add("axis", more, f"{axis} of {label}", f"{axis} {group}", (nodes[seed],), task)
        return Cell(entry.name, variant.label, False, nodes, variant.tree, axes)

    def _where(self, entry: ModelEntry, seed: str) -> str:
        return f"seed {seed}" if len(self.spec.model) == 1 else f"{entry.name}, seed {seed}"

    def _models_behind(self, references: Mapping[Reference, str]) -> list[str]:
        return [key for reference in references.values() for key in self.nodes[reference].needs if self.nodes[key].kind == "models"]

    def _roles(self, entry: ModelEntry) -> list[Reference]:
        there = [role for role in REFERENCES if entry.is_embedded or role == "original" or _place(entry, role) is not None]
        if self.spec.references is None:
            return [role for role in there if not (entry.is_embedded and role == "retrained_2")]
        for role in self.spec.references:
            if role not in there:
                raise InputError(
                    f"The suite asks for the reference {role}, and {entry.name} has none. There are {', '.join(there)}. "
                    f"Name its model under {role}, or drop it from references."
                )
        return [role for role in there if role in self.spec.references]

    def _add(
        self, kind: Kind, inputs: Mapping[str, Any], label: str, group: str, needs: Sequence[str], task: Mapping[str, Any]
    ) -> str:
        text = json.dumps({"kind": kind, **inputs}, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self.nodes:
            home = {"models": "nodes", "reference": "references", "run": "runs", "axis": "axes"}[kind]
            name = re.sub(r"[^A-Za-z0-9.=+-]+", "-", label).strip("-")[:80]
            self.nodes[key] = Node(key, kind, label, group, tuple(needs), f"{home}/{name}-{key[:8]}", task)
        return key


def _place(entry: ModelEntry, role: Reference) -> str | None:
    places: dict[Reference, str | None] = {
        "original": entry.model,
        "retrained": entry.retrained,
        "retrained_2": entry.retrained_2,
    }
    return places[role]


@lru_cache(maxsize=64)
def _identity(place: str) -> str:
    return model_identity(place)


def _measured(plan: Plan) -> dict[str, Any]:
    """What decides the figures of a model beside its weights."""
    rows = {name: facts["sha256"] for name, facts in plan.describe_data().items()}
    request = plan.request
    return {
        "rows": rows,
        "evaluate": plan.record["evaluate"],
        "template": request.template,
        "seed": request.seeds.evaluation,
        "max_length": request.unlearning.max_length,
    }
