"""What a request for an ordinary net comes to, checked before anything is trained."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from efface.data.net_batches import RowBatches, tensors_in
from efface.data.net_sets import Part, as_rows
from efface.data.problem import NetTraining, Problem
from efface.errors import InputError
from efface.methods.nets.base import NetMethod
from efface.models.net_files import require_net_files
from efface.models.net_losses import NetLoss
from efface.registry import NETS, PROBLEMS, closest
from efface.request import ForgetRequest
from efface.train.net import seeded
from efface.world.problems import embedded_problem

__all__ = ["DEFAULT_METHODS", "NetPlan", "find_problem", "make_net_method", "make_net_plan", "prepare_problem"]

DEFAULT_METHODS = {"classification": "laf", "regression": "blindspot", "forecasting": "blindspot"}
EMBEDDED_PREFIX = "embedded:"
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
        with seeded(seed):
            return self.problem.make_model(seed)

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
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

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
    for place in (request.model, request.retrained, request.retrained_2):
        if place is not None and place != "none":
            require_net_files(place)
    notes = []
    if request.retrained is None and problem.training is None:
        notes.append(
            "No retrained model was given and there is no recipe to train one: what is defined against one is not available."
        )
    return NetPlan(request, problem, identity, method, tuple(notes))


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
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    kind: type[NetMethod] = NETS.get(str(settings.pop("name")))
    given = {key: value for key, value in (training or {}).items() if key not in ("threads", "stop")}
    if "epochs" in given and given["epochs"] == int(given["epochs"]):
        given["epochs"] = int(given["epochs"])
    unknown = [key for key in given if key not in kind.Config.model_fields]
    if unknown:
        raise InputError(
            f"{kind.name} has no setting {', '.join(unknown)}, which the request gives under unlearning. It has "
            f"{', '.join(kind.Config.model_fields)}. Leave it out, or set one of these under method."
        )
    return kind(**{**settings, **given})


def find_problem(spec: str, *, allow_code: bool) -> tuple[Problem, str]:
    """Return a problem and what decides it beside its data.

    Args:
        spec: A file that ends in ``.py``, ``embedded:NAME``, or a name of the entry-point group ``efface.problems``.
        allow_code: Whether a file may be run.

    Raises:
        InputError: When there is none, its code may not run or fails, or it returns something else.
    """
    if spec.startswith(EMBEDDED_PREFIX):
        return prepare_problem(embedded_problem(spec.removeprefix(EMBEDDED_PREFIX)), spec), spec
    if spec.endswith(".py"):
        return _from_file(Path(spec), allow_code=allow_code)
    made = PROBLEMS.get(spec)
    return prepare_problem(made(), spec), f"{spec} of {made.__module__}"


def _from_file(path: Path, *, allow_code: bool) -> tuple[Problem, str]:
    if not path.is_file():
        near = closest(path.name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [])
        guess = f" The nearest name there is {near[0]!r}." if near else ""
        raise InputError(f"There is no problem file {path}.{guess} It is a Python file with a function problem(). Check the path.")
    if not allow_code:
        raise InputError(
            f"The request names the problem file {path.name}, which is Python code. Code runs only where that is allowed. Read the "
            "file, and add --allow-code (allow_code=True in Python)."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"_efface_problem_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path.name} cannot be read as Python. A problem file is a module with a function problem(). Mend it.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
        function = getattr(module, "problem", None)
        if not callable(function):
            raise InputError(f"{path.name} has no function problem(). It takes nothing and returns a Problem. Add it.")
        made = function()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The problem file {path.name} failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}. Its "
            "function problem() takes nothing and returns a Problem. Run it in Python to see where."
        ) from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return prepare_problem(made, path.name), digest


def prepare_problem(made: Any, where: str) -> Problem:
    """Return a problem with its sets as rows and its choices as row numbers.

    Args:
        made: The problem.
        where: Where it comes from, for an error.

    Raises:
        InputError: When it is none, a set holds no rows, or a choice is out of range.
    """
    if not isinstance(made, Problem):
        raise InputError(
            f"{where} gives a {type(made).__name__}. A problem is an efface.Problem. Return one from the function problem()."
        )
    sets = {name: getattr(made, name) for name in ("train", "test", "validation", "train_as_tested")}
    rows = {name: as_rows(value, name=name) for name, value in sets.items() if value is not None}
    problem = replace(made, **rows)
    # Chosen once: numbers out of range are found here, and a function is not asked about every row again and again.
    return replace(problem, forget=problem.forget_rows(), test_forget=problem.test_forget_rows())


def _training(problem: Problem) -> NetTraining:
    if problem.training is None:
        raise InputError(
            f"The problem {problem.name} has no training recipe. One is needed to train a net. Give it training=NetTraining(...)."
        )
    return problem.training


def rows_hash(rows: Any) -> str:
    """SHA-256 over the values of all rows in order; random augmentation is drawn from a fixed seed."""
    digest = hashlib.sha256()
    with seeded(0):
        for part in RowBatches(rows, batch_size=256):
            for tensor in tensors_in(part):
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
