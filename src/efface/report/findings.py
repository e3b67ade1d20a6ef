"""What the figures amount to, in sentences: the headline, whether the model is still usable, and the limits.

Nothing here is a verdict. Before an audit the report says "not audited", and these sentences describe what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from efface.report.catalogue import describe
from efface.report.wording import count, figure, percent
from efface.results import Intention, Metric, Report, Results

__all__ = ["INTENTIONS", "attempts", "headline", "is_net", "limits", "pick", "usability", "worst_kept"]

# An audit takes a model below the floor for collapsed; below half of the reference the report says so without one.
UTILITY_FLOOR = 0.8
COLLAPSE = 0.5
_LEAST_REFERENCE = 0.05  # a reference this low says nothing of what was lost
_UTILITY = (
    ("retain", "fact_accuracy"),
    ("world_facts", "fact_accuracy"),
    ("real_authors", "fact_accuracy"),
    ("", "model_utility"),
    ("mmlu", "choice_text_accuracy_norm"),
    ("subjects_related", "choice_text_accuracy_norm"),
    ("retain_qa", "fact_accuracy"),
    ("", "retain_knowmem"),
    ("retain", "accuracy"),
    ("test_retain", "accuracy"),
    ("test_retain", "mae"),
    ("retain", "word_entropy"),
)
_UTILITY_FALLBACK = (("retain", "rouge"), ("retain", "probability"), ("test", "mae"))
_FORGETTING = (
    ("forget", "fact_accuracy"),
    ("forget", "rouge"),
    ("forget", "probability"),
    ("forget", "extraction_strength"),
    ("subjects_forget", "choice_text_accuracy_norm"),
    ("wmdp", "choice_text_accuracy_norm"),
    ("forget_qa", "fact_accuracy"),
    ("", "forget_knowmem"),
    ("forget", "accuracy"),
    ("forget", "mae"),
)

INTENTIONS = {
    Intention.EXACT: "The method sets out to guarantee that the rows never influenced the weights that remain.",
    Intention.REMOVAL: "The method sets out to change the weights so that the knowledge is gone.",
    Intention.SUPPRESSION: "The method leaves the knowledge in the weights and sets out to keep the model from telling it.",
}

_UNTRIED = "Nobody has yet tried to bring the knowledge back"
_RELEARNT = (
    "One way to bring the knowledge back was tried: a copy of each model was trained on the rows again, and the steps were counted "
    "(“Steps to learn again”). That is not an audit"
)


def pick(results: Mapping[str, Results], set_name: str, family: str) -> str | None:
    """Return the name of the available figure of ``family`` on the rows of a set."""
    names = [
        name
        for result in results.values()
        for name, metric in result.metrics.items()
        if is_number(metric.value) and _is(name, set_name, family)
    ]
    return min(names, key=len, default=None)


def is_net(results: Mapping[str, Results]) -> bool:
    """Return whether these are figures of ordinary nets."""
    return any("nets" in result.suite.split(", ") for result in results.values())


def is_number(value: float | None) -> bool:
    """Return whether a value can be shown as a figure."""
    return value is not None and math.isfinite(value)


def attempts(results: Mapping[str, Results]) -> str:
    """Return what was tried to bring the knowledge back, without a full stop."""
    return _RELEARNT if _is_relearnt(results) else _UNTRIED


def _is_relearnt(results: Mapping[str, Results]) -> bool:
    metric = results["unlearned"].metrics.get("relearn_steps") if "unlearned" in results else None
    return metric is not None and (metric.value is not None or metric.reason.startswith("not reached"))


def usability(results: Mapping[str, Results]) -> dict[str, Any]:
    """Return whether what should stay is still there: the worst kept figure as a share of the reference's.

    The status is "usable", "below_floor" (the upper end of the share is below 80 %), "collapsed" (below 50 %) or "unknown".
    """
    reference = "retrained" if "retrained" in results else "original"
    worst: dict[str, Any] = {"status": "unknown", "reference": reference}
    if "unlearned" not in results or reference not in results:
        return worst
    names = [pick(results, *place) for place in _UTILITY]
    if not any(names[:-1]):
        names += [pick(results, *place) for place in _UTILITY_FALLBACK]
    for name in [n for n in names if n is not None]:
        now, then = results["unlearned"].metrics.get(name), results[reference].value(name)
        if now is None or now.value is None or then is None or not math.isfinite(then):
            continue
        is_too_low = then <= 0 if now.aim == "lower" else then < _LEAST_REFERENCE  # an error may be small in its unit
        if is_too_low:
            continue
        share, high = _shares(now, then)
        if "share" not in worst or share < worst["share"]:
            worst |= {"metric": name, "value": now.value, "reference_value": then, "share": share, "share_high": max(share, high)}
    if "share" in worst:
        high = worst["share_high"]
        worst["status"] = "collapsed" if high < COLLAPSE else "below_floor" if high < UTILITY_FLOOR else "usable"
    return worst


def _shares(now: Metric, then: float) -> tuple[float, float]:
    """Return a kept figure as a share of the reference's, and the upper end of it; of an error, how far the reference's reaches."""
    if now.value is None or not math.isfinite(now.value):
        return 0.0, 0.0
    is_error = now.aim == "lower"
    ends = [now.value]
    if now.interval is not None and now.interval.is_meaningful:
        ends.append(now.interval.low if is_error else now.interval.high)
    found = [then / end if end > 0 else 1.0 for end in ends] if is_error else [end / then for end in ends]
    return found[0], found[-1]


def worst_kept(found: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return what :func:`usability` found as a sentence; ``row``: the worst figure's row in the comparison."""
    label, reference = row["label"], found["reference"]
    if row["aim"] != "lower":
        return (
            f"Of what should stay, the worst figure (“{label}”) is at {figure(found['share'], 'share')} of the {reference} model's."
        )
    if found["value"] is None:
        return f"Of what should stay, the worst error (“{label}”) is not a number."
    share = percent(found["value"] / found["reference_value"])
    return f"Of what should stay, the worst error (“{label}”) is {share} of the {reference} model's; lower is better."


def headline(report: Report) -> list[str]:
    """Return the report in a few plain sentences: asked, done, found so far, and what that does not mean."""
    sentences = [_asked(report), _done(report), *_collapse(report.results), *_forgotten(report.results), *_kept(report.results)]
    finding = f"Finding: {report.verdict}."
    if report.verdict == "not audited":
        finding += f" {attempts(report.results)}, so nothing here says that it is gone: a model may know what it no longer tells."
    sentences.append(finding)
    return [s for s in sentences if s]


def limits(report: Report) -> list[dict[str, str]]:
    """Return the limits that hold for this run, each with a short title, chosen by rule."""
    found: list[tuple[str, str]] = []
    if report.verdict == "not audited":
        found.append(("Removed or only hidden?", _limit_of_audit(report.results)))
    if report.unlearned is not None and report.unlearned.intention is Intention.SUPPRESSION:
        found.append(
            ("The weights still hold it", "The information is still in the stored weights; whoever holds them can recover it.")
        )
    found += _limits_of_reference(report)
    found += _limits_of_data(report)
    if report.unlearned is not None:
        found.append(("One run", "One unlearning run with one set of seeds. Another seed gives other figures."))
    found.append(_limit_of_rows(report))
    found.append(("Not legal advice", "This document is technical evidence. It draws no legal conclusion."))
    return [{"title": title, "text": text} for title, text in found]


def _limit_of_audit(results: Mapping[str, Results]) -> str:
    if not is_net(results):
        return (
            "Low figures on direct questions look the same for both. Only an audit, which tries to bring the knowledge back "
            "by relearning, quantisation, prompts and other attacks, can tell them apart. It has not been done."
        )
    relearnt = "Of these ways only relearning was tried; an audit has not been done."
    done = relearnt if _is_relearnt(results) else "It has not been done."
    return (
        "In the figures on the forget rows the two look the same. Only an audit, which tries to bring the knowledge back "
        f"in several ways, can tell them apart. {done}"
    )


def _limit_of_rows(report: Report) -> tuple[str, str]:
    if is_net(report.results):
        return (
            "What was not measured",
            "The figures hold for rows like those that were measured. Others may come out worse.",
        )
    return (
        "What was not asked",
        "The figures hold for the questions, wordings and languages that were asked. Others may bring out more, or break more.",
    )


def _limits_of_reference(report: Report) -> list[tuple[str, str]]:
    if "retrained" not in report.results:
        return [
            (
                "No retrained model",
                "Without a model trained anew without the forget rows, nobody knows what such a model would answer. "
                "Even an audit cannot conclude “removed” from this run; the finding is capped.",
            )
        ]
    if "retrained_2" in report.results:
        return []
    text = (
        "The reference is one model with one seed. Two retrained models differ from each other too; by how much is not known here."
    )
    if not is_net(report.results):
        text += " It shares its tokenizer with the original, which was made with the forget rows at hand."
    return [("One retrained model", text)]


def _limits_of_data(report: Report) -> list[tuple[str, str]]:
    found = []
    forget = report.data.get("forget", {})
    rows, entities = forget.get("rows"), forget.get("entities")
    if entities is not None and entities < 10:
        found.append(
            (
                "Few entities",
                f"n entities = {entities}, not meaningful: with fewer than ten, the intervals are not to be relied on.",
            )
        )
    elif entities is not None and entities == rows:
        found.append(
            (
                "Every row its own entity",
                "The rows name no entity, so that each counts as independent. Where several rows are about one person, "
                "the true intervals are wider.",
            )
        )
    if report.fictional:
        found.append(
            (
                "A small invented world",
                "The people in it do not exist and the model is small. What a method does here it need not do to a large one.",
            )
        )
    survival = report.unlearned.cast_survival if report.unlearned is not None else None
    if survival is not None and survival < 0.5:
        found.append(
            (
                "Changes lost in rounding",
                f"Only {percent(survival)} of the changed weights still differ once saved in the original's number format. "
                "The figures above were measured on the saved model.",
            )
        )
    return found


def _is(name: str, set_name: str, family: str) -> bool:
    found = describe(name)
    return found.set_name == set_name and found.family == family


def _asked(report: Report) -> str:
    model = str(report.request.get("model", "")).rstrip("/").rpartition("/")[2]
    model = "the embedded model" if model == "embedded" else f"the model “{model}”" if model else "the model"
    if report.unlearned is None:
        return f"The request: measure {model}. Nothing was changed."
    forget = report.data.get("forget", {})
    rows, entities = forget.get("rows"), forget.get("entities")
    what = count(rows, "row") if rows is not None else "a set of rows"
    if entities is not None and entities != rows:
        what += f" about {count(entities, 'entity', 'entities')}"
    target = _target(report.results)
    return f"The request: make {model} forget {what}." + (f" It predicts {target}." if target else "")


def _target(results: Mapping[str, Results]) -> str:
    """Return what a regressor predicts, with its unit, where its figures say so."""
    targets = (metric.details.get("target_name") for result in results.values() for metric in result.metrics.values())
    return str(next((target for target in targets if target), ""))


def _done(report: Report) -> str:
    made = report.unlearned
    if made is None:
        return ""
    method = made.method
    name = method.get("name") or _name(method.get("objective")) or "a method"
    kept = _name(method.get("retention"))
    guard = f" with {kept.upper() if len(kept) <= 3 else kept} on the retained rows" if kept and kept != "none" else ""
    steps = f" for {count(made.cost.steps, 'step')}" if made.cost.steps else ""
    return f"What was done: {name}{guard}{steps}. {INTENTIONS[made.intention]}"


def _name(plug: Any) -> str:
    return str(plug.get("name", "")) if isinstance(plug, Mapping) else str(plug or "")


def _collapse(results: Mapping[str, Results]) -> list[str]:
    found = usability(results)
    if found["status"] not in {"collapsed", "below_floor"}:
        return []
    description = describe(found["metric"])
    now, then = figure(found["value"], description.scale), figure(found["reference_value"], description.scale)
    if results["unlearned"].metrics[found["metric"]].aim == "lower":
        where = f"“{description.label}” is {now}, where the {found['reference']} model's is {then}; lower is better"
        if found["status"] == "collapsed":
            return [f"The model is broken: {where}. In a broken model high errors on the forget rows mean nothing."]
        times = f"{percent(found['value'] / found['reference_value'])} of it, above the ceiling of {percent(1 / UTILITY_FLOOR)}"
        return [f"The model is damaged: {where}. That is {times}."]
    where = f"on “{description.label}” it gets {now}, where the {found['reference']} model gets {then}"
    if found["status"] == "collapsed":
        return [f"The model is broken: {where}. In a broken model low figures on the forget rows mean nothing."]
    return [f"The model is damaged: {where}. That is {percent(found['share'])} of it, below the floor of {percent(UTILITY_FLOOR)}."]


def _forgotten(results: Mapping[str, Results]) -> list[str]:
    name = next((n for place in _FORGETTING if (n := pick(results, *place)) is not None), None)
    if name is None:
        return ["What it still knows of the forget rows could not be measured."]
    description = describe(name)
    values = {role: _value(results, role, name) for role in ("original", "unlearned", "retrained")}
    shown = {role: figure(value, description.scale) for role, value in values.items() if value is not None}
    if description.family == "fact_accuracy":
        parts = [
            f"the original model gave the right fact for {shown['original']} of the forget questions"
            if "original" in shown
            else "",
            f"the unlearned model gives it for {shown['unlearned']}" if "unlearned" in shown else "",
        ]
        text = _sentence(parts)
        return [text + (f" A model that never saw them gets {shown['retrained']}." if "retrained" in shown else "")]
    return [f"{description.label}: " + ", ".join(f"{role} {value}" for role, value in shown.items()) + "."]


def _kept(results: Mapping[str, Results]) -> list[str]:
    name = next((n for place in (*_UTILITY[:-1], *_UTILITY_FALLBACK) if (n := pick(results, *place)) is not None), None)
    if name is None:
        return ["What it still knows of everything else could not be measured."]
    description = describe(name)
    values = {role: _value(results, role, name) for role in ("original", "unlearned")}
    shown = {role: figure(value, description.scale) for role, value in values.items() if value is not None}
    if len(shown) < 2:
        return []
    if any(name in result.metrics and result.metrics[name].aim == "lower" for result in results.values()):
        return [f"“{description.label}” went from {shown['original']} to {shown['unlearned']}; lower is better."]
    what = "On what it had to keep" if description.set_name in ("retain", "retain_qa") else description.label
    return [f"{what}, it went from {shown['original']} to {shown['unlearned']}."]


def _sentence(parts: list[str]) -> str:
    text = "; ".join(p for p in parts if p)
    return text[:1].upper() + text[1:] + "."


def _value(results: Mapping[str, Results], role: str, name: str) -> float | None:
    metric: Metric | None = results[role].metrics.get(name) if role in results else None
    return metric.value if metric is not None and is_number(metric.value) else None
