"""Privacy: can rows to be forgotten be told from rows the model never saw? Specification: evaluation §6.

Rows: forget and holdout, of the same kind. Passes: both answers scored; one gradient each. Metrics: every membership attack, the
leakage against the retrained model, and how near the attacks come to that model's (sMIA, privacy score).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from efface.data.items import ScoreItem
from efface.evals.measure import Measured
from efface.evals.metrics.base import Variant
from efface.evals.metrics.membership import MIN_K, MembershipGradNorm
from efface.evals.metrics.privacy_score import (
    SCALED_ATTACKS,
    PrivacyScore,
    PrivacyScoreFull,
    ScaledMembership,
    ScaledMembershipFull,
    privacy_score,
    s_mia,
    s_mia_full,
    scaled_interval,
)
from efface.evals.metrics.tokens import NLL
from efface.evals.suites.attacks import attack_metric
from efface.evals.suites.base import Plan, Suite
from efface.evals.suites.compare import membership_metrics
from efface.evals.suites.data import SetView, SuiteData
from efface.evals.suites.sets import Context
from efface.evals.summary import not_available, summarise
from efface.results import Example, Interval, Metric, Results

__all__ = ["Privacy", "PrivacyPlan", "with_original", "with_privacy_scores"]

_SIDES = ("forget", "holdout")
_NO_RETRAINED = "needs results of the retrained model on the same rows"
_NO_ORIGINAL = "needs results of the original model on the same rows"


@dataclass(frozen=True)
class PrivacyPlan(Plan):
    """The answers of both sides, scored, and a gradient of each.

    Attributes:
        norm: Which norm of the gradients.
    """

    norm: float = 2.0

    @property
    def gradient_p(self) -> float:
        """Which norm of the gradients is wanted."""
        return self.norm

    def score_items(self) -> Iterator[ScoreItem]:
        """Yield every answer."""
        for view in self.views.values():
            yield from view.answers

    def generate_items(self) -> Iterator:  # type: ignore[type-arg]
        """Yield nothing: no attack looks at what a model writes."""
        yield from ()

    def gradient_items(self) -> Iterator[ScoreItem]:
        """Yield every answer of a set that has another side to be told from."""
        yield from self.score_items() if len(self.views) == len(_SIDES) else ()


class Privacy(Suite):
    """Membership attacks on the forget rows, the gradient-norm attack included.

    Args:
        min_k: Share of least likely tokens in the min-k attacks.
        gradient_p: Which norm of the gradients.
    """

    name: ClassVar[str] = "privacy"
    title: ClassVar[str] = "Privacy: membership attacks, leakage, privacy score"
    max_new_tokens: ClassVar[int] = 1

    def __init__(self, *, min_k: float = MIN_K, gradient_p: float = 2.0) -> None:
        super().__init__(min_k=min_k)
        self.gradient_p = gradient_p

    def plan(self, data: SuiteData, *, max_new_tokens: int | None = None) -> PrivacyPlan:
        """Return the answers of the forget and the holdout rows.

        Raises:
            InputError: When a set is empty or badly named.
        """
        data.check()
        sets = {"forget": data.forget, "holdout": data.holdout}
        views = {key: SetView(key, rows, max_new_tokens=1) for key, rows in sets.items() if rows is not None}
        return PrivacyPlan(data, views, norm=self.gradient_p)

    def compute(self, plan: Plan, measured: Measured, *, variant: Variant, seed: int, against: Results | None) -> dict[str, Metric]:
        """Return every figure by name; without holdout rows all of them are not available."""
        context = Context(plan.data, plan.views, measured, variant, seed, self.min_k)
        found = {f"{key}_nll": _losses(key, context) for key in plan.views}
        found |= membership_metrics(found, context, against)
        found["mia_gradnorm"] = _gradient_attack(context, self.gradient_p)
        return with_privacy_scores(found, against)

    def examples(self, plan: Plan, measured: Measured) -> tuple[Example, ...]:
        """Return none: nothing was written."""
        return ()


def _losses(key: str, context: Context) -> Metric:
    if context.measured.not_scored:
        return not_available(f"{key}_nll", "reference", context.variant, context.measured.not_scored)
    view = context.views[key]
    values = [NLL.item(context.measured.row(item), variant=context.variant) for item in view.answers]
    aim = NLL.aim
    return summarise(
        f"{key}_nll", values, view.rows, aim=aim, variant=context.variant, seed=context.seed, missing="no answer token"
    )


def _gradient_attack(context: Context, p: float) -> Metric:
    missing = [key for key in _SIDES if key not in context.views]
    reason = f"no {missing[0]} set" if missing else context.measured.no_gradients
    if reason:
        return not_available(MembershipGradNorm.name, MembershipGradNorm.aim, context.variant, reason)
    norms = [[context.measured.gradient_norms[item.hash, p] for item in context.views[key].answers] for key in _SIDES]
    forget, holdout = (context.views[key].rows for key in _SIDES)
    return attack_metric(
        MembershipGradNorm, norms[0], norms[1], members=forget, strangers=holdout, variant=context.variant, seed=context.seed
    )


def with_privacy_scores(
    metrics: Mapping[str, Metric], retrained: Results | None, original: Results | None = None
) -> dict[str, Metric]:
    """Return the figures with the scaled memberships and the privacy scores made of their attacks.

    Args:
        metrics: Figures with the attacks of :data:`~efface.evals.metrics.privacy_score.SCALED_ATTACKS`.
        retrained: Figures of the retrained model on the same rows.
        original: Figures of the original model on the same rows; only the scores scaled by it need them.
    """
    found = dict(metrics)
    by_retrained = {name: _scaled(metrics[name], retrained, None, full=False) for name in SCALED_ATTACKS}
    by_original = {name: _scaled(metrics[name], retrained, original, full=True) for name in SCALED_ATTACKS}
    for definition, parts in ((PrivacyScore, by_retrained), (PrivacyScoreFull, by_original)):
        found |= {part.name: part for part in parts.values()}
        found[definition.name] = _together(definition, list(parts.values()))
    return found


def with_original(results: Mapping[str, Results]) -> dict[str, Results]:
    """Return the results by role with the scores that also need the original model's, wherever there are membership attacks."""
    retrained, original = results.get("retrained"), results.get("original")
    completed = dict(results)
    for role, found in results.items():
        if original is None or role == "retrained" or PrivacyScoreFull.name not in found.metrics:
            continue
        notes = tuple(note for note in found.notes if _NO_ORIGINAL not in note)  # they are there now
        completed[role] = replace(found, metrics=with_privacy_scores(found.metrics, retrained, original), notes=notes)
    return completed


def _scaled(attack: Metric, retrained: Results | None, original: Results | None, *, full: bool) -> Metric:
    definition: type[ScaledMembership] = ScaledMembershipFull if full else ScaledMembership
    name, variant = f"{definition.name}_{attack.name.removeprefix('mia_')}", cast("Variant", attack.variant)
    if attack.value is None:
        return not_available(name, definition.aim, variant, attack.reason)
    reference = None if retrained is None else retrained.value(attack.name)
    first = None if original is None else original.value(attack.name)
    if reference is None or (full and first is None):
        reason = _NO_RETRAINED if reference is None else _NO_ORIGINAL
        return not_available(name, definition.aim, variant, reason)
    value = s_mia_full(attack.value, reference, first) if full and first is not None else s_mia(attack.value, reference)
    if value is None:
        reason = "the original and the retrained model have the same AUC" if full else "the retrained model's AUC is 0"
        return not_available(name, definition.aim, variant, reason)
    distance = abs(first - reference) if full and first is not None else reference
    interval = None if attack.interval is None else scaled_interval(attack.interval, reference, distance)
    details = {"auc": attack.value, "auc_retrained": reference, "auc_original": first if full else None}
    return Metric(name, value, definition.aim, attack.variant, interval, attack.n, attack.n_skipped, details=details)


def _together(definition: type[PrivacyScore], parts: list[Metric]) -> Metric:
    missing = next((part for part in parts if part.value is None), None)
    if missing is not None:
        return not_available(definition.name, definition.aim, cast("Variant", missing.variant), f"{missing.name}: {missing.reason}")
    values = [part.value for part in parts if part.value is not None]
    intervals = [part.interval for part in parts if part.interval is not None]
    interval = None
    if len(intervals) == len(parts):
        ends = privacy_score([each.low for each in intervals]), privacy_score([each.high for each in intervals])
        interval = Interval(*ends, method="harmonic mean of the parts' ends", n_entities=intervals[0].n_entities)
    details = {part.name: part.value for part in parts}
    zero = [part.name for part in parts if part.value == 0]
    reason = f"0 because {' and '.join(zero)} is 0" if zero else ""
    first = parts[0]
    return Metric(
        definition.name,
        privacy_score(values),
        definition.aim,
        first.variant,
        interval,
        first.n,
        first.n_skipped,
        reason=reason,
        details=details,
    )
