"""A bench as asked: one YAML of models, methods, settings and seeds, checked before anything runs.

model: embedded:mini
methods: [npo, grad_diff, {name: grun_npo, label: GRUN}]
grid: {npo: {beta: [0.05, 0.1]}}
seeds: [0, 1]
output: runs/bench
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from efface.errors import InputError
from efface.registry import unknown_name
from efface.request import EMBEDDED, EMBEDDED_MINI, Seeds, SuiteChoice, UnlearningChoice, explain
from efface.request_tree import anchor, assign, read_yaml

__all__ = ["AXES", "REFERENCES", "Axis", "BenchSpec", "MethodEntry", "ModelEntry", "Reference", "Variant"]

Reference = Literal["original", "retrained", "retrained_2"]
REFERENCES: tuple[Reference, ...] = ("original", "retrained", "retrained_2")
Axis = Literal["scalability", "sustainability"]
AXES: tuple[Axis, ...] = ("scalability", "sustainability")
_SHARED = ("forget", "retain", "holdout", "template", "drop_overlap")
_PLUGS = ("retention", "rule", "adapter", "forget_weight")
_REQUEST_KEYS = ("method", "unlearning", *_PLUGS)
_PAGE = "docs/bench.md"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelEntry(_Strict):
    """An original model and the models it is compared with."""

    model: str = Field(min_length=1)
    label: str | None = None
    retrained: str | None = None
    retrained_2: str | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the model and its rows are the embedded world's, another one for every seed."""
        return self.model in (EMBEDDED, EMBEDDED_MINI)

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.label or (self.model if self.is_embedded else Path(self.model).name)


class MethodEntry(BaseModel):
    """A method with its settings: the plugs of a request by their keys, any other key a hyper-parameter of the method."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(min_length=1)
    label: str | None = Field(None, min_length=1)
    retention: Any = None
    rule: Any = None
    adapter: Any = None
    forget_weight: float | None = None
    unlearning: Mapping[str, Any] = {}

    def tree(self) -> dict[str, Any]:
        """Return the entry as keys of a request."""
        method = {"name": self.name, **(self.model_extra or {})}
        plugs = {key: getattr(self, key) for key in _PLUGS if getattr(self, key) is not None}
        return {"method": method, **plugs, "unlearning": dict(self.unlearning)}


@dataclass(frozen=True)
class Variant:
    """One line of the leaderboard: a method at one choice of settings.

    Attributes:
        label: What tables call it.
        tree: The keys of a request that it sets.
    """

    label: str
    tree: Mapping[str, Any]


def _entry(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _models(value: Any) -> Any:
    listed = value if isinstance(value, list | tuple) else [value]
    return tuple({"model": item} if isinstance(item, str) else item for item in listed)


def _suites(value: Any) -> Any:
    if value is None or value == "auto":
        return "auto"
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _seed(value: Any) -> Any:
    """A number seeds data, training and unlearning; evaluation and attack stay as they are, so that references are shared."""
    return {"data": value, "training": value, "unlearning": value} if isinstance(value, int) else value


class BenchSpec(_Strict):
    """Methods x settings x seeds on one or several models.

    Attributes:
        model: One model or a list; each a place, "embedded", "embedded:mini", or a mapping with its ``retrained``.
        methods: Names, or mappings with settings.
        grid: Method or label -> path -> values to try, every combination; a bare path is a hyper-parameter of the method.
        seeds: One number (data, training and unlearning seed at once) or a mapping of seeds per repetition.
        forget, retain, holdout, template, drop_overlap, unlearning, evaluate: As in a request, shared by all runs.
        references: Which reference models are measured; those that are there by default.
        axes: MUSE's scalability and sustainability, per method.
        columns: Figures of the main table; by default the ones that matter most of those that are available.
        jobs: Processes at a time; None is one per usable core for small models, else one.
        threads: CPU threads of each; None is one for small models, else all.
        executor: "local" processes, or "ray".
        output: The folder of the bench.
        name: Title of the leaderboard.
    """

    model: Annotated[tuple[ModelEntry, ...], BeforeValidator(_models), Field(min_length=1)]
    methods: tuple[Annotated[MethodEntry, BeforeValidator(_entry)], ...] = Field(min_length=1)
    grid: Mapping[str, Mapping[str, tuple[Any, ...]]] = {}
    seeds: tuple[Annotated[Seeds, BeforeValidator(_seed)], ...] = Field((Seeds(),), min_length=1)
    forget: str | None = None
    retain: str | None = None
    holdout: str | None = None
    template: str | None = None
    drop_overlap: bool = False
    unlearning: UnlearningChoice = UnlearningChoice()
    evaluate: Annotated[Literal["auto"] | tuple[SuiteChoice, ...], BeforeValidator(_suites)] = "auto"
    references: tuple[Reference, ...] | None = None
    axes: tuple[Axis, ...] = ()
    columns: tuple[str, ...] = ()
    jobs: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    executor: Literal["local", "ray"] = "local"
    output: str | None = None
    name: str | None = None

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explain(error, type(self), what="The suite", page=_PAGE) from None

    @model_validator(mode="after")
    def _needs_rows(self) -> Self:
        if self.forget is None and not all(entry.is_embedded for entry in self.model):
            raise ValueError("forget: missing; it names the rows that must go, and only the embedded models bring their own")
        return self

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a suite; relative paths in it start from its folder, those of overrides from the working directory.

        Args:
            path: The YAML file.
            overrides: Assignments ``a.b=c`` that win over the file, the value in YAML.

        Raises:
            InputError: When the file is missing or not YAML, a key is unknown (names the nearest) or a value is not valid.
        """
        file = Path(path).expanduser()
        tree = read_yaml(file)
        _anchor(tree, file.parent.resolve())
        return cls.from_tree({"name": file.stem, **tree}, overrides)

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], overrides: Sequence[str] = ()) -> Self:
        """Build a suite from plain nested mappings; relative paths start from the working directory.

        Args:
            tree: Keys and values as a YAML file holds them.
            overrides: As in :meth:`read`.
        """
        values = dict(tree)
        for assignment in overrides:
            assign(values, assignment)
        _anchor(values, Path.cwd())
        return cls(**values)

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(self.output).expanduser() if self.output else Path("runs") / (self.name or "bench")

    def variants(self) -> list[Variant]:
        """Return every method at every choice of its settings, in the order of the table.

        Raises:
            InputError: When the grid names a method that is not in ``methods``, or two lines would have one label.
        """
        found: list[Variant] = []
        used: set[str] = set()
        for entry in self.methods:
            key = next((k for k in (entry.label, entry.name) if k is not None and k in self.grid), None)
            used |= set() if key is None else {key}
            found += _combinations(entry, {} if key is None else self.grid[key])
        for key in self.grid:
            if key not in used:
                known = [entry.label or entry.name for entry in self.methods]
                raise unknown_name("method of this suite", key, known, "grid holds settings of methods that stand under methods.")
        labels = [variant.label for variant in found]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise InputError(
                f"Several methods are called {', '.join(twice)}. Every line of the leaderboard has a name of its own. "
                "Give them a label each."
            )
        return found

    def request(self, entry: ModelEntry, variant: Variant | None, seeds: Seeds) -> dict[str, Any]:
        """Return the keys of the request of one run; of a run that only measures where there is no ``variant``."""
        shared = {key: getattr(self, key) for key in _SHARED if getattr(self, key) not in (None, False)}
        places: dict[str, Any] = {key: getattr(entry, key) for key in REFERENCES[1:] if getattr(entry, key) is not None}
        tree = {} if variant is None else {key: value for key, value in variant.tree.items() if key != "unlearning"}
        own = {} if variant is None else dict(variant.tree["unlearning"])
        training = {**self.unlearning.model_dump(mode="json", exclude_unset=True), **own}
        suites = self.evaluate if isinstance(self.evaluate, str) else [_suite(choice) for choice in self.evaluate]
        return {
            "model": entry.model,
            **places,
            **shared,
            **tree,
            **({"unlearning": training} if training else {}),
            "evaluate": suites,
            "seeds": seeds.model_dump(),
        }


def _suite(choice: SuiteChoice) -> dict[str, Any]:
    return {key: value for key, value in choice.model_dump().items() if value not in (None, {})}


def _anchor(tree: dict[str, Any], base: Path) -> None:
    """Make paths absolute; a list of models is one request's ``model`` after the other."""
    if isinstance(tree.get("model"), list | tuple | Mapping):
        listed = tree["model"] if isinstance(tree["model"], list | tuple) else [tree["model"]]
        anchored = []
        for item in listed:
            places = dict(item) if isinstance(item, Mapping) else {"model": item}
            anchor(places, base)
            anchored.append(places)
        rest = {key: value for key, value in tree.items() if key != "model"}
        anchor(rest, base)
        tree |= {**rest, "model": anchored}
        return
    anchor(tree, base)
    places = {key: tree.pop(key) for key in REFERENCES[1:] if key in tree}
    if places:  # of a single model they may stand beside it
        tree["model"] = [{"model": tree.get("model"), **places}]


def _combinations(entry: MethodEntry, axes: Mapping[str, Sequence[Any]]) -> list[Variant]:
    found = []
    for values in itertools.product(*axes.values()):
        tree = entry.tree()
        for path, value in zip(axes, values, strict=True):
            _put(tree, path if path.split(".")[0] in _REQUEST_KEYS else f"method.{path}", value)
        setting = " ".join(f"{path.rpartition('.')[2]}={_short(value)}" for path, value in zip(axes, values, strict=True))
        found.append(Variant(f"{entry.label or entry.name} {setting}".strip(), _with_names(tree)))
    return found


def _with_names(tree: dict[str, Any]) -> dict[str, Any]:
    """Name the plugs of which only a setting was given: it is the preset's own plug that is set."""
    nameless = [key for key in ("retention", "rule", "adapter") if isinstance(tree.get(key), Mapping) and "name" not in tree[key]]
    if not nameless:
        return tree
    from efface.methods.presets import preset_of

    preset = preset_of(tree["method"]["name"])
    own = {key: getattr(preset, key) for key in nameless}
    return {**tree, **{key: {"name": own[key] if isinstance(own[key], str) else own[key]["name"], **tree[key]} for key in nameless}}


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    node = tree
    for key in above:
        below = node.get(key)
        node[key] = {"name": below} if isinstance(below, str) else dict(below or {})
        node = node[key]
    node[last] = value


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
