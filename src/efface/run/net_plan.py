"""What a request for an ordinary net comes to, checked before anything is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from efface.data.net_batches import Relabelled, RowBatches, labelled_rows
from efface.data.net_sets import Part
from efface.data.net_survey import tensors_in
from efface.data.problem import NetTraining, Problem
from efface.errors import InputError
from efface.evals.nets.suite import SUITE
from efface.methods.nets.base import NetMethod
from efface.models.fingerprint import weights_hash
from efface.models.net_files import load_net, require_net_files
from efface.models.net_losses import NetLoss
from efface.models.seeding import seeded
from efface.registry import NETS
from efface.request import ForgetRequest, SuiteChoice
from efface.run.net_fit import fresh_net
from efface.run.net_problem import find_problem
from efface.train.net import accelerator

__all__ = ["DEFAULT_METHODS", "NetPlan", "make_net_method", "make_net_plan"]

DEFAULT_METHODS = {"classification": "laf", "regression": "blindspot", "forecasting": "blindspot"}
RECIPE_VERSION = 1
"""Raised when the code trains other nets from equal settings."""
ROLES = ("original", "retrained", "retrained_2")
_LANGUAGE_ONLY = ("forget", "retain", "holdout", "forget_weight", "retention", "rule", "template", "name")


@dataclass(frozen=True)
class NetPlan:
    """A request for a net with everything that can be checked without training.

    Attributes:
        request: The request as asked.
        problem: What it names.
        identity: What decides the problem beside its data: the hash of its file, or its name and version.
        method: What is to be done.
        notes: Warnings a reader must see.
    """

    request: ForgetRequest
    problem: Problem
    identity: str
    method: NetMethod
    notes: tuple[str, ...] = ()

    @cached_property
    def forget(self) -> Part:
        """The rows that must go, as they are trained on."""
        return Part(self.problem.train, self.problem.forget_rows())

    @cached_property
    def retain(self) -> Part:
        """The rows to keep, as they are trained on."""
        return Part(self.problem.train, self.problem.retain_rows())

    @property
    def loss(self) -> NetLoss:
        """The loss of the problem."""
        return NetLoss(self.problem.loss, task=self.problem.task, quantiles=self.problem.quantiles)

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the training rows."""
        return rows_hash(self.problem.measured_train)

    def fresh(self, seed: int) -> nn.Module:
        """Return a freshly initialised net, a function of ``seed`` even where ``make_model`` draws from the global generator."""
        return fresh_net(self.problem.make_model, seed)

    def training_seed(self, role: str) -> int:
        """Seed of a role's initialisation and order; no two roles or training seeds share one."""
        return self.request.seeds.training * len(ROLES) + ROLES.index(role)

    def recipe_hash(self, role: str) -> str:
        """First 16 hex digits of the SHA-256 over everything that decides the trained net of a role."""
        rows = "all" if role == "original" else hashlib.sha256(self.problem.retain_rows().tobytes()).hexdigest()
        validation = self.problem.validation
        settings = {
            "version": RECIPE_VERSION,
            "identity": self.identity,
            "structure": str(self.fresh(0)),
            "training": _training(self.problem).model_dump(mode="json"),
            "loss": [self.loss.name, *self.problem.quantiles],
            "data": self.data_hash,
            "validation": None if validation is None else rows_hash(validation),
            "rows": rows,
            "seed": self.training_seed(role),
            "torch": torch.__version__,
            **({} if accelerator().mixed_precision == "no" else {"precision": accelerator().mixed_precision}),
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def given(self) -> dict[str, str]:
        """The checkpoints that the request names, by role."""
        asked = {"original": self.request.model, "retrained": self.request.retrained, "retrained_2": self.request.retrained_2}
        return {role: place for role, place in asked.items() if place is not None and place != "none"}

    @cached_property
    def given_weights(self) -> dict[str, str]:
        """SHA-256 of each of them: another net at the same place is another request."""
        return {role: _weights_hash(place) for role, place in self.given.items()}

    @cached_property
    def record(self) -> dict[str, Any]:
        """The resolved request as plain types: the method spelt out, sets by count and hash."""
        request, problem = self.request, self.problem
        training = None if problem.training is None else problem.training.model_dump(mode="json")
        return {
            "task": problem.task,
            "problem": problem.name,
            "problem_hash": self.identity,
            "model": request.model or problem.name,  # trained by the problem's recipe where none is named
            "retrained": request.retrained,
            "retrained_2": request.retrained_2,
            **({"weights": self.given_weights} if self.given_weights else {}),
            "method": self.method.resolved(),
            "training": training,
            "loss": self.loss.name,
            "evaluate": request.evaluate if isinstance(request.evaluate, str) else [s.suite for s in request.evaluate],
            "seeds": request.seeds.model_dump(),
            **{name: {"rows": facts["rows"], "sha256": facts["sha256"]} for name, facts in self.describe_data().items()},
        }

    @property
    def hash(self) -> str:
        """SHA-256 of :attr:`record`."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True, default=str).encode()).hexdigest()

    def describe_data(self) -> dict[str, dict[str, Any]]:
        """Return rows, source and hash of every set, for the report."""
        problem = self.problem
        sets = {"forget": self.forget, "retain": self.retain, "test": problem.test}
        found = {}
        for name, rows in sets.items():
            digest = (
                hashlib.sha256(rows.indices.tobytes() + self.data_hash.encode()).hexdigest() if isinstance(rows, Part) else None
            )
            found[name] = {
                "rows": len(rows),
                "entities": len(rows),
                "source": problem.name,
                "sha256": digest or rows_hash(rows),
            }
        return found


def make_net_plan(request: ForgetRequest, *, allow_code: bool = False) -> NetPlan:
    """Check a request for an ordinary net; nothing is trained.

    Args:
        request: What to do.
        allow_code: Whether a problem file may be run.

    Raises:
        InputError: When a key does not belong to nets, or a problem, file, name or setting is wrong.
    """
    _refuse_keys(request)
    method = make_net_method(
        request.method.model_dump() if request.method is not None else DEFAULT_METHODS[request.task], request.unlearning.given()
    )
    problem, identity = find_problem(str(request.problem), allow_code=allow_code)
    if problem.task != request.task:
        raise InputError(
            f"The request says task: {request.task} and the problem {problem.name} is one of {problem.task}. They are the same "
            f"thing. Write task: {problem.task}, or name another problem."
        )
    if request.model is None and problem.training is None:
        raise InputError(
            f"The problem {problem.name} has no training recipe and the request names no model. The original is loaded from a "
            "checkpoint or trained by the recipe. Name it: model: FILE."
        )
    plan = NetPlan(request, problem, identity, method)
    for place in plan.given.values():
        load_net(plan.fresh(0), place)  # a checkpoint that does not fit is found before a net is trained
    notes = []
    if request.retrained is None and problem.training is None:
        notes.append(
            "No retrained model was given and there is no recipe to train one: what is defined against one is not available."
        )
    return replace(plan, notes=tuple(notes))


def _refuse_keys(request: ForgetRequest) -> None:
    given = [key for key in _LANGUAGE_ONLY if getattr(request, key) is not None]
    if request.adapter.name != "auto":
        given.append("adapter")
    given += [key for key in ("drop_overlap", "include_plaintext") if getattr(request, key)]
    if given:
        raise InputError(
            f"A request with task: {request.task} names {', '.join(given)}, which belong to language models. The problem names the "
            "rows of a net, and the method its settings. Leave these out."
        )
    if not isinstance(request.evaluate, str):
        odd = [choice.suite for choice in request.evaluate if choice != SuiteChoice(suite=SUITE)]
        if odd:
            raise InputError(
                f"A request with task: {request.task} asks for the suite {', '.join(odd)}, which measures language models or is "
                f"given settings. A net is measured by the suite {SUITE}, which has none. Leave evaluate out, or set it to none."
            )


def make_net_method(choice: Any, training: Mapping[str, Any] | None = None) -> NetMethod:
    """Return a method by name, as ``{"name": ..., **settings}``, or as an object.

    Args:
        choice: The method.
        training: Settings of the request's ``unlearning``, which win over the method's own.

    Raises:
        InputError: When the name or a setting is not known.
    """
    if isinstance(choice, NetMethod):
        choice = choice.resolved()
    if not isinstance(choice, str | Mapping) or (isinstance(choice, Mapping) and "name" not in choice):
        keys = ", ".join(map(str, choice)) if isinstance(choice, Mapping) else ""
        shown = f"a mapping ({keys}) without a name" if isinstance(choice, Mapping) else repr(choice)
        raise InputError(
            f"The method is {shown}. A method is a name, a mapping with a name, or an object. Write method='scrub' or "
            "method={'name': 'scrub', 'epochs': 3}; `efface methods --task TASK` lists the names."
        )
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    kind: type[NetMethod] = NETS.get(str(settings.pop("name")))
    given = {key: value for key, value in (training or {}).items() if key != "threads" and value != {}}
    if "epochs" in given and given["epochs"] == int(given["epochs"]):
        given["epochs"] = int(given["epochs"])
    unknown = [key for key in given if key not in kind.Config.model_fields]
    if unknown:
        raise InputError(
            f"{kind.name} has no setting {', '.join(unknown)}, which the request gives under unlearning. It has "
            f"{', '.join(kind.Config.model_fields)}. Leave it out, or set one of these under method."
        )
    return kind(**{**settings, **given})


def _training(problem: Problem) -> NetTraining:
    if problem.training is None:
        raise InputError(
            f"The problem {problem.name} has no training recipe. One is needed to train a net. Give it training=NetTraining(...)."
        )
    return problem.training


def _weights_hash(place: str) -> str:
    """SHA-256 of a checkpoint: of its bytes, and for a directory of its weights."""
    path = Path(place).expanduser()
    if path.is_dir():
        return weights_hash(path)
    with require_net_files(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def rows_hash(rows: Any) -> str:
    """SHA-256 over the values of all rows in order; random augmentation is drawn from a fixed seed."""
    digest = hashlib.sha256()

    def add(tree: Any) -> None:
        for tensor in tensors_in(tree):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())

    with seeded(0):
        labelled = labelled_rows(rows)
    some = 0 < len(labelled) < len(rows)  # such rows make no batch with labels
    with seeded(0):
        for part in RowBatches(Relabelled(rows, None) if some else rows, batch_size=256):
            add(part)
        for row in labelled.tolist() if some else ():
            add((torch.tensor(row), rows[row][1]))
    return digest.hexdigest()
