"""What a suite is, in one file each: its sets, how their rows are put to a model, its figures, and what it makes of them together.

``docs/suites.md`` writes one from scratch. Most suites only declare ``sets`` and define :meth:`Suite.aggregate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from efface.data.items import GenerateItem, ScoreItem
from efface.data.schema import RowSet
from efface.errors import InputError
from efface.evals.measure import Measured
from efface.evals.metrics.base import Variant
from efface.evals.metrics.membership import MIN_K
from efface.evals.suites.data import SetView, SuiteData
from efface.evals.suites.sets import Context, SetSpec, set_metrics, spec_of
from efface.registry import SUITES, unknown_name
from efface.results import Example, Metric, Results

__all__ = ["Encoding", "Plan", "Suite", "make_suite"]

_EXAMPLES = {"forget": 8, "retain": 5}
_EXAMPLES_ELSEWHERE = 3

Encoding = tuple[Variant, int | None]
"""Which published way of making tokens a local model follows, and its longest sequence (None: that way's own)."""


@dataclass(frozen=True)
class Plan:
    """What a suite asks of a model.

    Attributes:
        data: The sets.
        views: The sets as items, by key.
        specs: What is measured of each set; also of sets that are missing and whose figures are then not available.
    """

    data: SuiteData
    views: dict[str, SetView]
    specs: Mapping[str, SetSpec] = field(default_factory=dict)

    def score_items(self) -> Iterator[ScoreItem]:
        """Yield everything to be scored; equal items may come twice."""
        for key, view in self.views.items():
            yield from view.score_items(self.specs[key].parts)

    def generate_items(self) -> Iterator[GenerateItem]:
        """Yield everything to be generated; equal items may come twice."""
        for key, view in self.views.items():
            if "generations" in self.specs[key].parts:
                yield from view.generations

    @property
    def gradient_p(self) -> float:
        """Which norm of the gradients is wanted."""
        return 2.0

    def gradient_items(self) -> Iterator[ScoreItem]:
        """Yield what gradient norms are wanted of; nothing, unless a suite says otherwise: they cost a backward pass each."""
        yield from ()


class Suite:
    """A benchmark: which sets it measures and which figures over several sets it adds.

    Attributes:
        name: Registered name.
        title: One line on what it is.
        max_new_tokens: Longest generated answer unless a set or the caller says otherwise.
        sets: What is measured of each set, by key.
        takes_other_sets: Whether sets that ``sets`` does not name are measured as well, as their names say (:func:`spec_of`).
        encodings: How a local model makes tokens for a variant, where that is not the way of the same name.

    Args:
        min_k: Share of least likely tokens in the min-k attacks.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    max_new_tokens: ClassVar[int]
    sets: ClassVar[Mapping[str, SetSpec]] = {}
    takes_other_sets: ClassVar[bool] = False
    encodings: ClassVar[Mapping[Variant, Encoding]] = {}

    def __init__(self, *, min_k: float = MIN_K) -> None:
        self.min_k = min_k

    def spec(self, key: str) -> SetSpec | None:
        """Return what is measured of a set; None leaves it to other suites."""
        if key in self.sets:
            return self.sets[key]
        return spec_of(key) if self.takes_other_sets else None

    def plan(self, data: SuiteData, *, max_new_tokens: int | None = None) -> Plan:
        """Return the items this suite needs.

        Raises:
            InputError: When a set is empty or badly named.
        """
        data.check()
        longest = max_new_tokens or self.max_new_tokens
        given = data.sets
        specs = {key: spec for key in given if (spec := self.spec(key)) is not None}
        views = {
            key: SetView(
                key, given[key], max_new_tokens=longest, asking=spec.asking, shots=_pairs(given.get(spec.asking.shots, None))
            )
            for key, spec in specs.items()
        }
        return Plan(data, views, specs | {key: spec for key, spec in self.sets.items() if spec.is_required and key not in specs})

    def compute(self, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None) -> dict[str, Metric]:
        """Return every figure by name: those of single sets, then those over several."""
        context = Context(plan.data, plan.views, measured, variant, seed, self.min_k)
        metrics: dict[str, Metric] = {}
        for key, spec in plan.specs.items():
            metrics |= set_metrics(key, spec, context)
        return metrics | self.aggregate(metrics, context, against)

    def aggregate(self, metrics: Mapping[str, Metric], context: Context, against: Results | None) -> dict[str, Metric]:
        """Return the figures over several sets or several models; none by default.

        Args:
            metrics: The figures of single sets.
            context: What was measured, and how to compute.
            against: Results of the retrained model, where there are any.
        """
        return {}

    def notes(self, plan: Plan, measured: Measured) -> tuple[str, ...]:
        """Return what a reader of the figures must know beside what holds for every suite."""
        return ()

    def examples(self, plan: Plan, measured: Measured) -> tuple[Example, ...]:
        """Return a few generations of each set, for the report."""
        found = []
        for key, view in plan.views.items():
            if key not in plan.specs or "generations" not in plan.specs[key].parts:
                continue
            wanted = _EXAMPLES.get(key, _EXAMPLES_ELSEWHERE)
            step = max(1, len(view.rows) // wanted)  # spread over the set: neighbours are often about the same entity
            for index in range(0, min(len(view.rows), step * wanted), step):
                row = view.rows[index]
                shown = row.question or ("(beginning of a text)" if row.is_text else "")
                answer = view.reference(row, index, measured)
                found.append(Example(row.id, key, shown, answer, measured.text(view.generations[index])))
        return tuple(found)


def make_suite(suite: str | Suite, options: Mapping[str, Any] | None = None) -> Suite:
    """Return a suite by its registered name; one that is already made is returned as it is.

    Raises:
        InputError: When there is no such suite, or it has no such option.
    """
    if isinstance(suite, Suite):
        return suite
    kind: type[Suite] = SUITES.get(suite)
    known = list(inspect.signature(kind).parameters)
    for name in options or {}:
        if name not in known:
            raise unknown_name(f"option of the {suite} suite", name, known)
    try:
        return kind(**(options or {}))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The options of the {suite} suite are not valid: {error}. It takes {', '.join(known)}. Mend them."
        ) from None


def _pairs(rows: RowSet | None) -> tuple[tuple[str, str], ...]:
    return tuple((row.question or "", row.answer or "") for row in rows or ())
