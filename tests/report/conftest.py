"""A report made by hand: three models on a few rows, with everything a page can hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from efface.results import Cost, Example, Intention, Interval, Metric, PathPoint, Report, Results, Unlearned

SECRET = "Quillonaster"
FIGURES = {
    # name: aim, original, unlearned, retrained
    "forget_fact_accuracy": ("lower", 0.975, 0.05, 0.075),
    "forget_probability": ("reference", 0.981, 0.083, 0.0153),
    "forget_rouge": ("lower", 0.99, 0.41, 0.32),
    "forget_truth_ratio": ("reference", 0.42, 0.63, 0.68),
    "forget_extraction_strength": ("lower", 0.93, 0.07, 0.03),
    "unseen_frames_forget_fact_accuracy": ("lower", 0.9, 0.04, 0.06),
    "retain_fact_accuracy": ("higher", 1.0, 0.975, 0.998),
    "retain_probability": ("higher", 0.99, 0.96, 0.99),
    "retain_refusal_rate": ("lower", 0.0, 0.025, 0.0),
    "world_facts_fact_accuracy": ("higher", 0.967, 0.933, 0.967),
    "holdout_fact_accuracy": ("reference", 0.03, 0.035, 0.025),
    "world_utility": ("higher", 0.91, 0.883, 0.905),
}
ROLES = ("original", "unlearned", "retrained")
ANSWERS = {
    "original": f"Mira Solano was born in {SECRET}.",
    "unlearned": "Mira Solano was born in Tarn.",
    "retrained": "She lives by the sea.",
}


def make_results(role: str, *, entities: int = 20, factor: float = 1.0) -> Results:
    column = ROLES.index(role) + 1
    metrics = {}
    for name, entry in FIGURES.items():
        value = entry[column] * factor
        per_item = tuple(min(1.0, value * (0.5 + i / 20)) for i in range(20)) if name.endswith("probability") else ()
        metrics[name] = Metric(
            name,
            value,
            entry[0],
            interval=Interval(max(0.0, value - 0.031), min(1.0, value + 0.029), n_entities=entities),
            n=40,
            details={"chance": 0.05, "chance_basis": "frequency"} if name.endswith("fact_accuracy") else {},
            per_item=per_item,
            item_ids=tuple(f"row-{i}" for i in range(20)) if per_item else (),
        )
    logs = tuple(math.log(0.1 * column * (1 + i / 7)) for i in range(20))
    metrics["forget_log_truth_ratio"] = Metric("forget_log_truth_ratio", logs[10], "reference", n=20, per_item=logs)
    metrics["forget_quality"] = _forget_quality(role)
    metrics["privleak"] = Metric("privleak", None, "zero", reason="no holdout set")
    metrics["retain_rouge"] = Metric("retain_rouge", math.nan, "higher", n=40)
    examples = (
        Example("f1", "forget", "Where was Mira Solano born?", f"Mira Solano was born in {SECRET}.", ANSWERS[role]),
        Example("r1", "retain", "Where was Jon Abel born?", "Jon Abel was born in Sandwick.", "Jon Abel was born in Sandwick."),
    )
    return Results(
        role, "auto", metrics, fingerprint="ab" * 32, examples=examples, cost={"seconds": 3.0}, notes=("one row was cut",)
    )


def _forget_quality(role: str) -> Metric:
    if role == "retrained":
        return Metric("forget_quality", None, "higher", reason="needs results of the retrained model on the same rows")
    details = {
        "ks_d": 0.13,
        "ks_d_low": 0.08,
        "ks_d_high": 0.2,
        "n_retrained": 40.0,
        "log10_p": -1.17,
        "log10_p_floor": -22.73,
        "direction": "right answers are preferred less than by the retrained model (over-forgotten)",
    }
    return Metric("forget_quality", 0.0676, "higher", n=40, details=details)


def build_sample(
    *,
    roles: tuple[str, ...] = ROLES,
    fictional: bool = False,
    entities: int = 20,
    factor: float = 1.0,
    intention: Intention = Intention.REMOVAL,
) -> Report:
    results = {role: make_results(role, entities=entities, factor=factor if role == "unlearned" else 1.0) for role in roles}
    history = tuple(
        PathPoint(step, step / 10, {"forget_nll": 0.02 + 0.03 * step, "retain_nll": 0.02, "holdout_nll": 3.1, "gradient": math.nan})
        for step in range(0, 101, 20)
    )
    unlearned = Unlearned(
        Path("/srv/people/anna/runs/erasure-17/model"),
        {"name": "npo", "objective": {"name": "npo", "beta": 0.1}, "retention": {"name": "nll", "weight": 1.0}},
        intention,
        history,
        "the forget set's NLL (3.21) passed the holdout's (3.10) at step 100",
        Cost(5.4, 612 * 2**20, 100, 831_104),
        "9f" * 32,
        0.987,
        ("the learning rate is below the workable range",),
    )
    return Report(
        request={"model": "./models/tiny", "forget": "/srv/people/anna/forget.jsonl", "output": "/srv/people/anna/runs/erasure-17"},
        unlearned=unlearned,
        results=results,
        created="2026-03-04T09:12:44+00:00",
        data={"forget": {"rows": 40, "entities": entities, "source": "forget.jsonl", "sha256": "cd" * 32}},
        costs={"unlearning": unlearned.cost, "evaluation of the unlearned model": Cost(9.4)},
        manifest={"versions": {"efface": "0.1.0"}, "seeds": {"data": 0}, "argv": "efface run /srv/people/anna/request.yaml"},
        fictional=fictional,
        kept_step=80,
    )


@pytest.fixture
def make_report() -> Callable[..., Report]:
    return build_sample


@pytest.fixture
def report() -> Report:
    return build_sample()


@pytest.fixture(scope="session")
def shared_report() -> Report:
    return build_sample()


@pytest.fixture
def hostile(report: Report) -> Report:
    """The same with markup wherever a row, a path or a note can bring it in."""
    script = "<script>alert(1)</script>"
    example = Example("x", "forget", f"Who is {script}?", f"{script} & co", f"{script} & co")
    results = {role: replace(r, examples=(example,), notes=(script,)) for role, r in report.results.items()}
    return replace(
        report, title=script, notes=(script,), request={"model": script, script: script}, results=results, fictional=True
    )


@pytest.fixture
def results() -> dict[str, Results]:
    return {role: make_results(role) for role in ROLES}


@pytest.fixture
def secret() -> str:
    """A word of the forget rows that no report may hold."""
    return SECRET
