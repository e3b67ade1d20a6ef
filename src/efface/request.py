"""The request: what must go, what must stay, and how; one YAML per run, checked before any model loads.

Example:
    >>> request = ForgetRequest(
    ...     model="./my-model",
    ...     forget=[{"question": "Where was Ada Quill born?", "answer": "In Ostrava."}],
    ...     method="npo",
    ... )
    >>> request.method.name, len(request.data().forget)
    ('npo', 1)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from efface.data.overlap import drop_overlap, require_disjoint
from efface.data.readers import read_rows, read_sets
from efface.data.schema import Row, RowSet
from efface.data.stand_ins import kind_of, sampled_count
from efface.errors import InputError
from efface.registry import closest
from efface.request_tree import EMBEDDED, EMBEDDED_MINI, EMBEDDED_WORLDS, SETS, anchor, assign, read_yaml

__all__ = [
    "EMBEDDED",
    "EMBEDDED_MINI",
    "EMBEDDED_WORLDS",
    "LANGUAGE_MODEL",
    "Choice",
    "ForgetRequest",
    "ForgetSubset",
    "RequestData",
    "RetentionChoice",
    "Seeds",
    "StopChoice",
    "SuiteChoice",
    "UnlearningChoice",
    "explain",
]


LANGUAGE_MODEL = "language_model"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(BaseModel):
    """A plug by name with its hyper-parameters: ``npo`` and ``{name: npo, beta: 0.1}`` are both fine."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(min_length=1)

    @property
    def settings(self) -> dict[str, Any]:
        """The hyper-parameters given beside the name."""
        return dict(self.model_extra or {})


class RetentionChoice(Choice):
    """The retention term and its weight; None leaves the preset's."""

    weight: float | None = Field(None, ge=0)


class SuiteChoice(_Strict):
    """One suite, the data it takes by key, and the models that judge for it; a part without its data or judge is not available.

    ``source`` (written ``from``) names a place that holds all of a suite's sets (``muse:DIR:news``); single keys win over it.
    ``options`` are the suite's own settings.
    """

    suite: str = Field(min_length=1)
    variant: Literal["openunlearning", "original", "strict"] | None = None
    source: str | None = None
    options: Mapping[str, str | int | float | bool] = {}
    judges: Mapping[Literal["reference", "fluency", "entailment", "embedder", "tokenizer"], str] = {}
    data: Mapping[str, RowSet | str] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_data(cls, value: Any) -> Any:
        """Let data keys stand beside ``suite``, as they do in a request."""
        if isinstance(value, str):
            return {"suite": value}
        if not isinstance(value, Mapping):
            return value
        named = {("source" if key == "from" else key): item for key, item in value.items()}
        own = {key: named[key] for key in ("suite", "variant", "source", "options", "judges") if key in named}
        data = {**named.get("data", {}), **{key: item for key, item in named.items() if key not in (*own, "data")}}
        return {**own, "data": {key: _in_memory(item) for key, item in data.items()}}

    def rows(self, key: str) -> RowSet | None:
        """Read one part, or return None when no data was given for it."""
        return read_rows(self.data[key]) if key in self.data else None

    def sets(self) -> dict[str, RowSet]:
        """Read every part, those of ``source`` first."""
        found = {} if self.source is None else read_sets(self.source)
        return found | {key: read_rows(place) for key, place in self.data.items()}


class Seeds(_Strict):
    """A seed per kind of random draw; a single number sets all."""

    data: int = Field(0, ge=0)
    training: int = Field(0, ge=0)
    unlearning: int = Field(0, ge=0)
    evaluation: int = Field(0, ge=0)
    attack: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, value: Any) -> Any:
        return dict.fromkeys(cls.model_fields, value) if isinstance(value, int) else value


class StopChoice(_Strict):
    """When to end early; None leaves the default."""

    forget_nll: Literal["auto", "off"] | None = None

    @field_validator("forget_nll", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        # YAML 1.1 reads a bare off as false.
        return "off" if value is False else value


def _trackers(value: Any) -> Any:
    """Let a bare name stand for one tracker; transformers calls none of them "none"."""
    if isinstance(value, str):
        return () if value == "none" else (value,)
    return value


class ForgetSubset(_Strict):
    """Train on a part of the forget rows only; they are all evaluated."""

    by: Literal["influence", "grad_norm", "random"] = "influence"
    share: float = Field(gt=0, le=1)


class UnlearningChoice(_Strict):
    """How to train; None leaves the preset's default, and a learning rate given here always wins."""

    epochs: float | None = Field(None, gt=0)
    max_steps: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    batch_size: int | None = Field(None, ge=1)
    micro_batch_size: int | None = Field(None, ge=1)
    scheduler: Literal["constant", "linear", "cosine"] | None = None
    warmup: float | None = Field(None, ge=0)
    weight_decay: float | None = Field(None, ge=0)
    max_grad_norm: float | None = Field(None, ge=0)
    max_length: int | None = Field(None, ge=2)
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    bf16: bool | None = None
    gradient_checkpointing: bool | None = None
    evaluate_every: int | None = Field(None, ge=1)
    save_every: int | None = Field(None, ge=1)
    select: Literal["last", "best"] | None = None
    stop: StopChoice = StopChoice()
    threads: int | None = Field(None, ge=1)
    forget_subset: ForgetSubset | None = None
    report_to: Annotated[tuple[str, ...], BeforeValidator(_trackers)] | None = None

    @model_validator(mode="after")
    def _micro_batch_is_part_of_batch(self) -> Self:
        if self.micro_batch_size and self.batch_size and self.micro_batch_size > self.batch_size:
            raise ValueError("micro_batch_size is larger than batch_size, of which it is a part; lower it")
        return self

    def given(self) -> dict[str, Any]:
        """Return what was set, without the fields left to the preset."""
        return self.model_dump(exclude_none=True)


def _named(value: Any) -> Any:
    """Let a bare name stand for a choice without hyper-parameters, and a plug object for its resolved settings."""
    if isinstance(value, str):
        return {"name": value}
    resolved = getattr(value, "resolved", None)
    return resolved() if callable(resolved) else value


def _in_memory(value: Any) -> Any:
    """Turn rows given in Python into a set; places stay text and are read when they are needed."""
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, RowSet, Mapping)) or not isinstance(value, Iterable):
        return value
    return read_rows(value)


def _suites(value: Any) -> Any:
    if isinstance(value, Mapping):
        return (value,)
    return (value,) if isinstance(value, str) and value not in ("auto", "none") else value


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


Rows = Annotated[RowSet | str, BeforeValidator(_in_memory)]
ModelPlace = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
Plug = Annotated[Choice, BeforeValidator(_named)]
RetentionPlug = Annotated[RetentionChoice, BeforeValidator(_named)]


@dataclass(frozen=True, slots=True)
class RequestData:
    """The rows of a request, read and checked against each other."""

    forget: RowSet
    retain: RowSet | None = None
    holdout: RowSet | None = None


class ForgetRequest(_Strict):
    """What must go, what must stay, and how.

    Attributes:
        model: Directory or hub id of the original model; "embedded" for the small world, "embedded:mini" for a smaller one,
            "embedded:contacts" or "embedded:contacts-mini" for one whose people have e-mail, telephone and account number.
        forget: Rows to forget: a path, ``hub:NAME:SPLIT``, ``tofu:DIR:SPLIT``, or rows in memory.
        retain: Rows to keep; a method that needs them says so. Where there are none: "neighbours:FILE", "generic" or "sampled".
        holdout: Rows of the same kind that the model never saw.
        retrained: A model trained without the forget set, to compare with.
        retrained_2: Another one, from a third seed.
        task: What the model does. An ordinary net brings its rows with its problem, and the keys of language models stay out.
        problem: A net, its rows and its recipe: a Python file with ``problem()``, "embedded:digits", or a name that a package
            declares in ``efface.problems``.
        method: A preset or an objective; None is ``npo``.
        forget_weight: Factor of the forget loss; None leaves the preset's.
        retention: The term that protects the rest; None leaves the preset's.
        rule: How the two losses become one update; None leaves the preset's.
        adapter: What is trained: "auto", "full", "lora".
        template: Named plain template for a model without a chat template.
        unlearning: Training settings.
        evaluate: "auto" (what the rows allow), "none", or suites.
        audit: "none" until the audit is built.
        seeds: One seed per kind of draw.
        drop_overlap: Take rows that also stand in the forget set out of the retain set.
        include_plaintext: Write examples in plain text to a file of their own.
        output: Run folder.
        name: What the request is called in a model's lineage, and its module where an adapter has named ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    model: ModelPlace | None = None
    forget: Rows | None = None
    retain: Rows | None = None
    holdout: Rows | None = None
    retrained: ModelPlace | None = None
    retrained_2: ModelPlace | None = None
    task: Literal["language_model", "classification", "regression", "forecasting"] = "language_model"
    problem: str | None = None
    method: Plug | None = None
    forget_weight: float | None = Field(None, gt=0)
    retention: RetentionPlug | None = None
    rule: Plug | None = None
    adapter: Plug = Choice(name="auto")
    template: str | None = None
    unlearning: UnlearningChoice = UnlearningChoice()
    evaluate: Annotated[Literal["auto", "none"] | tuple[SuiteChoice, ...], BeforeValidator(_suites)] = "auto"
    audit: str | Mapping[str, Any] = "none"
    seeds: Seeds = Seeds()
    drop_overlap: bool = False
    include_plaintext: bool = False
    output: str | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None = None
    _read: tuple[tuple[Any, ...], RequestData] | None = PrivateAttr(None)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explain(error, type(self), what="The request", page="docs/request.md") from None

    @model_validator(mode="after")
    def _refuse_what_is_not_built(self) -> Self:
        if self.task == LANGUAGE_MODEL and self.problem is not None:
            raise ValueError("problem: belongs to ordinary nets; name their task: classification, regression or forecasting")
        if self.task != LANGUAGE_MODEL and self.problem is None:
            raise ValueError(f"problem: missing; task: {self.task} takes a net, its rows and its recipe from a problem")
        if self.audit not in ("none", False):
            raise ValueError("audit: not built yet; leave it out or write audit: none, and the report says 'not audited'")
        return self

    @model_validator(mode="after")
    def _require_a_forget_set(self) -> Self:
        if self.forget is None and self.task == LANGUAGE_MODEL and self.model not in EMBEDDED_WORLDS:
            raise ValueError("forget: missing; it names the rows that must go, and only model: embedded brings its own")
        return self

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML request; relative paths in it start from its folder, those of overrides from the working directory.

        Args:
            path: The YAML file.
            overrides: Assignments ``a.b=c`` that win over the file, the value in YAML.

        Raises:
            InputError: When the file is missing or not YAML, a key is unknown (names the nearest) or a value is not valid.
        """
        file = Path(path).expanduser()
        tree = read_yaml(file)
        anchor(tree, file.parent.resolve())
        return cls.from_tree(tree, overrides)

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], overrides: Sequence[str] = ()) -> Self:
        """Build a request from plain nested mappings; relative paths start from the working directory.

        Args:
            tree: Keys and values as a YAML file holds them.
            overrides: As in :meth:`read`.

        Raises:
            InputError: When a key is unknown (names the nearest) or a value is not valid.
        """
        values = dict(tree)
        for assignment in overrides:
            assign(values, assignment)
        anchor(values, Path.cwd())
        return cls(**values)

    @property
    def sampled_texts(self) -> int | None:
        """How many texts the model is to write in place of rows to keep; None where it is not."""
        return sampled_count(str(self.retain)) if kind_of(self.retain) == "sampled" else None

    def data(self) -> RequestData:
        """Read the rows and check the sets against each other; a second call returns the same rows.

        Raises:
            InputError: When a file is missing or malformed, a set is empty, or forget and retain rows are the same.
        """
        # A copy with other sets carries the private attribute along, hence the comparison.
        if self._read is None or self._read[0] != (self.forget, self.retain, self.holdout, self.drop_overlap):
            self._read = ((self.forget, self.retain, self.holdout, self.drop_overlap), self._read_sets())
        return self._read[1]

    def _read_sets(self) -> RequestData:
        if self.forget is None:
            raise InputError(
                "The request names no forget set, since its model brings its own. "
                "Rows can be read where forget names a file or rows. Build the embedded world first, or name a forget set."
            )
        forget = read_rows(self.forget)
        retain = None if self.retain is None or self.sampled_texts else read_rows(self.retain)
        if retain is not None and self.drop_overlap:
            retain = drop_overlap(forget, retain)
        if retain is not None:
            require_disjoint(forget, retain)
        return RequestData(forget, retain, None if self.holdout is None else read_rows(self.holdout))

    def resolved(self) -> dict[str, Any]:
        """Return the whole request as plain types, each set as its row count and content hash; where it is written is no part."""
        tree = self.model_dump(mode="json", exclude={*SETS, "output", "evaluate"})
        for name in SETS:
            rows = None if self.forget is None else getattr(self.data(), name)
            tree[name] = None if rows is None else _summary(rows)
        kind = kind_of(self.retain)
        if kind is not None:
            tree["retain"] = {"kind": kind, **(tree["retain"] or {"texts": self.sampled_texts})}
        tree["evaluate"] = self.evaluate if isinstance(self.evaluate, str) else [_suite_summary(suite) for suite in self.evaluate]
        return tree

    def resolved_hash(self) -> str:
        """SHA-256 of :meth:`resolved`: the same for the same request on the same data, wherever it is written."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def as_yaml(self) -> str:
        """Return the request as YAML that :meth:`read` takes again; rows held in memory are named by their hash only."""
        tree = self.model_dump(mode="json", exclude={*SETS, "evaluate"}, exclude_defaults=True)
        for name in SETS:
            value = getattr(self, name)
            if value is not None:
                tree[name] = value if isinstance(value, str) else f"memory:{value.content_hash[:16]}"
        if not isinstance(self.evaluate, str):
            tree["evaluate"] = [
                {
                    "suite": s.suite,
                    **({"variant": s.variant} if s.variant else {}),
                    **({"from": s.source} if s.source else {}),
                    **({"options": dict(s.options)} if s.options else {}),
                    **({"judges": dict(s.judges)} if s.judges else {}),
                    **{k: _place(v) for k, v in s.data.items()},
                }
                for s in self.evaluate
            ]
        elif self.evaluate != "auto":
            tree["evaluate"] = self.evaluate
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _place(value: RowSet | str) -> str:
    return value if isinstance(value, str) else f"memory:{value.content_hash[:16]}"


def _summary(rows: RowSet) -> dict[str, Any]:
    return {"rows": len(rows), "sha256": rows.content_hash}


def _suite_summary(suite: SuiteChoice) -> dict[str, Any]:
    parts = {key: _summary(rows) for key, rows in suite.sets().items()}
    options = {"options": dict(suite.options)} if suite.options else {}
    judges = {"judges": dict(suite.judges)} if suite.judges else {}
    return {"suite": suite.suite, "variant": suite.variant, **options, **judges, **parts}


def explain(error: ValidationError, model: type[BaseModel], *, what: str, page: str) -> InputError:
    """Turn pydantic's errors into one message; an unknown key names the nearest valid one.

    Args:
        error: What pydantic found.
        model: The class that was being filled in.
        what: How the message calls it ("The request").
        page: Where its keys are described.
    """
    parts = [_explain_one(item, model) for item in error.errors()]
    return InputError(f"{what} is not valid: {'; '.join(dict.fromkeys(parts))}. See {page} for the keys. Mend or drop these.")


def _explain_one(item: Any, model: type[BaseModel]) -> str:
    location = [str(part) for part in item["loc"] if not str(part).startswith(("function-", "tuple[", "literal[", "is-instance"))]
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = _fields_at(location[:-1], model)
        near = closest(location[-1], known)
        guess = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"unknown key {path!r} ({guess})"
    if item["type"] == "value_error":
        reason = str(item["ctx"]["error"])
        return reason.rstrip(".") if not path else f"{path}: {reason.rstrip('.')}"
    if item["type"] == "missing":
        return f"{path} is missing"
    return f"{path}: {item['msg'][:1].lower() + item['msg'][1:]} (got {_shown(item['input'])})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 and not isinstance(value, (Row, RowSet)) else type(value).__name__


def _fields_at(location: Sequence[str], model: type[BaseModel]) -> list[str]:
    for part in location:
        found = next(_models_of(model.model_fields[part].annotation), None) if part in model.model_fields else None
        model = found or model
    return list(model.model_fields)


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_of(inner)
