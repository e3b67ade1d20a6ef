"""Scalability and sustainability (MUSE, arXiv 2407.06460, criteria 5 and 6) of any method on any forget set.

Scalability: forget sets that contain each other, each unlearned from the original model. Sustainability: disjoint forget sets, each
unlearned from the model the one before left. Every fold is a run of its own, with its report, and a finished one is not run again.
What is measured of the forget rows at a fold are the rows of the entities asked for so far; the utility is measured on the same
rows at every fold. Sets that name none of these entities (MUSE's own questions and passages) are measured whole at every fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from efface.data.folds import disjoint_folds, growing_folds
from efface.data.muse import split_place
from efface.data.readers import read_rows
from efface.data.schema import RowSet
from efface.errors import InputError
from efface.evals import SuiteData
from efface.evals.metrics.curves import slope_metric
from efface.evals.suites.muse import CRITERIA
from efface.registry import METRICS, closest, unknown_name
from efface.request import ForgetRequest, SuiteChoice
from efface.results import AxisPoint, AxisResult
from efface.run.execute import RunResult, execute
from efface.run.folder import write_json
from efface.run.plan import Plan, make_plan, prepare_models
from efface.run.progress import Progress, numbered
from efface.run.sequence import execute_in_turn
from efface.run.verbs import changed
from efface.world.muse import muse_world

__all__ = ["Axis", "run_axes"]

Axis = Literal["scalability", "sustainability"]
UTILITY = "retain_knowmem"
_OF_CORPUS: Mapping[str, str] = {"scalability": "scal", "sustainability": "sust"}


@dataclass(frozen=True)
class _Fold:
    """One forget set, and the sets its run is measured on."""

    forget: RowSet
    data: SuiteData


def run_axes(
    request: ForgetRequest,
    axis: Axis,
    *,
    output: str | Path,
    folds: Sequence[RowSet | str] | None = None,
    figures: Sequence[str] = CRITERIA,
    utility: str = UTILITY,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AxisResult | None:
    """Unlearn and measure fold by fold; started again, it does only what is missing.

    Args:
        request: Model, method, seeds and data. Its suites are measured at every fold; ``evaluate: auto`` stands for ``muse``.
        axis: "scalability" or "sustainability".
        output: Folder that gets a run folder per fold, and ``AXIS.json``.
        folds: Forget sets in order. None takes MUSE's own for the embedded world (four, the last ten times the first, and four
            disjoint ones) and for ``forget: muse:DIR:CORPUS``; any other forget set is cut by entity.
        figures: Figures whose curves are shown.
        utility: Figure whose slope is the result.
        overwrite: As in :func:`efface.run.execute`.
        progress: Told of (stage, done, in all), the stages with the number of the fold.

    Returns:
        Curves, slope and worst step; None in a process that is not the main one.

    Raises:
        InputError: When the axis or a figure is unknown, or there are fewer than two folds.
    """
    if axis not in get_args(Axis):
        raise unknown_name("axis", axis, list(get_args(Axis)))
    asked = changed(request, {"evaluate": (SuiteChoice(suite="muse"),)}) if request.evaluate in ("auto", "none") else request
    plan = make_plan(asked, trains=False)  # each fold's own plan asks for the method's needs
    sets = _folds(plan, axis) if folds is None else tuple(read_rows(fold) for fold in folds)
    if len(sets) < 2:
        raise InputError(f"There is {len(sets)} fold. A curve needs two at least. Give more forget sets, or leave folds out.")
    models = prepare_models(plan, progress)
    cut = _with_data(plan.data, sets, is_cumulative=axis == "sustainability")
    requests = [_request(plan, models, fold, number, axis) for number, fold in enumerate(cut, start=1)]
    folder = Path(output)
    results = _execute(requests, axis, folder, overwrite, progress)
    if not results:
        return None
    result = _gather(plan, axis, cut, results, figures, utility)
    write_json(folder / f"{axis}.json", result.as_dict())
    return result


def _folds(plan: Plan, axis: Axis) -> tuple[RowSet, ...]:
    place = plan.request.forget
    if plan.recipe is not None and place is None:
        shaped = muse_world(plan.recipe.load_world())
        return shaped.scal if axis == "scalability" else shaped.sust
    if isinstance(place, str) and place.startswith("muse:"):
        directory, corpus, _, _ = split_place(place)
        return tuple(read_rows(f"muse:{directory}:{corpus}:{_OF_CORPUS[axis]}:forget_{number}") for number in range(1, 5))
    return growing_folds(plan.data.forget) if axis == "scalability" else disjoint_folds(plan.data.forget)


def _with_data(data: SuiteData, sets: Sequence[RowSet], *, is_cumulative: bool) -> list[_Fold]:
    """Give each fold the rows of the entities asked for so far; sets that name none of the folds' entities stay whole."""
    everybody = {row.entity for rows in sets for row in rows}
    folds: list[_Fold] = []
    asked: set[str] = set()
    for rows in sets:
        own = {row.entity for row in rows}
        asked = asked | own if is_cumulative else own
        cut = {suite: _asked(named, everybody, asked) for suite, named in data.own.items()}
        folds.append(_Fold(rows, replace(data, forget=rows, extra=_asked(data.extra, everybody, asked), own=cut)))
    return folds


def _asked(sets: Mapping[str, RowSet], everybody: set[str], asked: set[str]) -> dict[str, RowSet]:
    found = {}
    for key, rows in sets.items():
        is_about_folds = any(row.entity in everybody for row in rows)
        kept = tuple(row for row in rows if row.entity in asked) if is_about_folds else rows.rows
        if kept:
            found[key] = RowSet(kept, rows.source)
    return found


def _request(plan: Plan, models: Mapping[str, str | Path], fold: _Fold, number: int, axis: Axis) -> ForgetRequest:
    """Return the request of one fold: models by place and every set in memory, so that any model can stand in the first's place."""
    asked = plan.request
    suites = () if isinstance(asked.evaluate, str) else asked.evaluate
    changes: dict[str, Any] = {
        "model": str(models["original"]),
        "forget": fold.forget,
        "retain": plan.retain if asked.sampled_texts is None else asked.retain,
        "holdout": plan.data.holdout,
        "name": f"{axis}-{number}",
        "output": None,
        "evaluate": tuple(
            choice.model_copy(update={"source": None, "data": {**fold.data.extra, **fold.data.own.get(choice.suite, {})}})
            for choice in suites
        ),
    }
    changes |= {role: str(models[role]) for role in ("retrained", "retrained_2") if role in models}
    return changed(asked, changes)


def _execute(
    requests: Sequence[ForgetRequest], axis: Axis, folder: Path, overwrite: bool, progress: Progress | None
) -> list[RunResult]:
    if axis == "sustainability":
        return execute_in_turn(requests, output=folder / axis, overwrite=overwrite, progress=progress)
    results = []
    for number, request in enumerate(requests, start=1):
        place = folder / axis / f"{number}-{request.name}"
        results.append(execute(request, output=place, overwrite=overwrite, progress=numbered(progress, number)))
    return [result for result in results if result is not None]


def _gather(
    plan: Plan, axis: Axis, folds: Sequence[_Fold], results: Sequence[RunResult], figures: Sequence[str], utility: str
) -> AxisResult:
    points = tuple(
        AxisPoint(
            number,
            len(fold.forget),
            len({row.entity for row in fold.forget}),
            result.results,
            f"{axis}/{result.folder.name}/{result.report.name}",
        )
        for number, (fold, result) in enumerate(zip(folds, results, strict=True), start=1)
    )
    known = points[0].results["unlearned"].metrics
    for name in (utility, *figures):
        if name not in known:
            near = closest(name, list(known))
            raise InputError(
                f"The runs measured no figure {name!r}. The nearest are {', '.join(near) or 'none'}. Choose figures of the suites "
                "that the request names."
            )
    curve = [point.results["unlearned"].metrics[utility] for point in points]
    slope = slope_metric(METRICS.get(axis), curve, _entities(folds), seed=plan.request.seeds.evaluation)
    return AxisResult(axis, plan.spec.name, points, tuple(figures), slope, utility)


def _entities(folds: Sequence[_Fold]) -> dict[str, str]:
    sets = [
        rows for fold in folds for rows in (*fold.data.sets.values(), *(s for own in fold.data.own.values() for s in own.values()))
    ]
    return {row.id: row.entity for rows in sets for row in rows}
