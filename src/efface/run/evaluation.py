"""The evaluation stage: every role's model is loaded from disk and measured by the same suites."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from efface.data.cache import cache_root
from efface.errors import InputError
from efface.evals import SuiteData
from efface.evals.aggregate import with_aggregates
from efface.evals.evaluate import evaluate_all
from efface.evals.judges import Judges
from efface.evals.metrics.base import Variant
from efface.evals.suites.base import Suite, make_suite
from efface.evals.suites.privacy import with_original
from efface.models.language_model import LocalModel, load_language_model
from efface.models.memory import peak_memory
from efface.models.protocol import LanguageModel
from efface.registry import SUITES
from efface.request import ForgetRequest, SuiteChoice
from efface.results import Cost, Metric, Results
from efface.run.progress import Progress, within
from efface.train.language_model import cpu_threads

__all__ = ["ROLES", "Evaluated", "evaluate_roles", "measure_suites", "side_by_side", "suites_of", "with_extra_sets"]

ROLES = ("retrained", "original", "unlearned", "retrained_2")
"""Order of measuring: the retrained model first, since others are compared with it."""

TINY = 5_000_000
"""Below this many parameters one CPU thread is faster than two."""


@dataclass(frozen=True)
class Evaluated:
    """Figures and costs by role."""

    results: Mapping[str, Results]
    costs: Mapping[str, Cost]


def suites_of(request: ForgetRequest, variant: Variant = "strict") -> dict[Variant, list[Suite]]:
    """Return the suites the request asks for by the variant they follow; ``variant`` where a suite names none.

    Raises:
        InputError: When there is no such suite, or it has no such option.
    """
    if request.evaluate == "none":
        return {}
    if isinstance(request.evaluate, str):
        return {variant: [make_suite(request.evaluate)]}
    grouped: dict[Variant, list[Suite]] = {}
    for choice in request.evaluate:
        grouped.setdefault(choice.variant or variant, []).append(_chosen(choice))
    return grouped


def _chosen(choice: SuiteChoice) -> Suite:
    """Return the suite with its options and the judges the request names for it."""
    if not choice.judges:
        return make_suite(choice.suite, choice.options)
    if "judges" not in inspect.signature(SUITES.get(choice.suite)).parameters:
        raise InputError(
            f"The suite {choice.suite} takes no judges. Judges decide figures of copyright and closer_look. Leave judges out there."
        )
    judges = Judges(**{str(name): place for name, place in choice.judges.items()})
    return make_suite(choice.suite, {**choice.options, "judges": judges})


def with_extra_sets(data: SuiteData, request: ForgetRequest) -> SuiteData:
    """Return the sets with those that the request's suites name themselves; a suite sees its own only."""
    if isinstance(request.evaluate, str):
        return data
    own = dict(data.own)
    for choice in request.evaluate:
        own[choice.suite] = {**own.get(choice.suite, {}), **choice.sets()}
    return replace(data, own={suite: sets for suite, sets in own.items() if sets})


def measure_suites(
    model: LanguageModel,
    request: ForgetRequest,
    data: SuiteData,
    *,
    role: str,
    against: Mapping[str, Results] | None = None,
    variant: Variant = "strict",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Results]:
    """Run every suite of the request on one model in one measuring pass; results by suite.

    A tiny model on the CPU is measured with one thread unless the request says otherwise.

    Raises:
        InputError: When the request asks for no suite.
    """
    found: dict[str, Results] = {}
    with cpu_threads(request.unlearning.threads or (1 if _is_tiny(model) else None)):
        for chosen, suites in suites_of(request, variant).items():
            found |= evaluate_all(
                model,
                suites=suites,
                data=data,
                against=dict(against) if against else None,
                role=role,
                seed=request.seeds.evaluation,
                variant=chosen,
                cache=cache,
                progress=within(progress, f"evaluation of the {role.replace('_', ' ')} model"),
            )
    if not found:
        raise InputError("The request asks for no evaluation (evaluate: none). Suites are auto, tofu, ... . Name one to measure.")
    return found


def _is_tiny(model: LanguageModel) -> bool:
    if not isinstance(model, LocalModel):
        return False
    return sum(p.numel() for p in model.model.parameters()) < TINY and model.device.type == "cpu"


def evaluate_roles(
    request: ForgetRequest,
    models: Mapping[str, str | Path],
    data: SuiteData,
    *,
    own_rows: Path | None,
    known: Mapping[str, Mapping[str, Results]] | None = None,
    progress: Progress | None = None,
) -> Evaluated:
    """Measure every model that is there, the retrained one first.

    Args:
        request: The request, for suites, seeds and threads.
        models: Role -> directory or hub id.
        data: Forget, retain, holdout and further sets.
        own_rows: Row cache of the unlearned model (of several processes the main one keeps it); the others' rows are shared
            between runs.
        known: Role -> results by suite of models that were measured before on these rows; they are not measured again.
        progress: Told of items done.
    """
    results: dict[str, Results] = {}
    costs: dict[str, Cost] = {}
    retrained: dict[str, Results] = {}
    if request.evaluate == "none":
        return Evaluated(results, costs)
    for role in (role for role in ROLES if role in models):
        if known is not None and role in known:
            retrained = dict(known[role]) if role == "retrained" else retrained
            results[role] = side_by_side(known[role])
            continue
        started = time.perf_counter()
        measured = measure_suites(
            load_language_model(models[role], template=request.template),
            request,
            data,
            role=role,
            against=retrained,
            cache=own_rows if role == "unlearned" else cache_root() / "rows",
            progress=progress,
        )
        retrained = measured if role == "retrained" else retrained
        results[role] = side_by_side(measured)
        costs[f"evaluation of the {role.replace('_', ' ')} model"] = Cost(time.perf_counter() - started, peak_memory())
    return Evaluated(with_aggregates(with_original(results)), costs)


def side_by_side(measured: Mapping[str, Results]) -> Results:
    """Put several suites' figures of one model into one result; a name measured twice keeps the first suite's figure."""
    found = list(measured.values())
    first = found[0]
    if len(found) == 1:
        return first
    metrics: dict[str, Metric] = {}
    for result in reversed(found):
        metrics |= result.metrics
    return replace(
        first,
        suite=", ".join(measured),
        metrics=metrics,
        examples=next((result.examples for result in found if result.examples), ()),
        notes=tuple(dict.fromkeys(note for result in found for note in result.notes)),
    )
