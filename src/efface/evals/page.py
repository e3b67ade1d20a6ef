"""The page ``docs/metrics.md``, made from what the metrics say about themselves."""

from __future__ import annotations

from efface.evals.metrics.base import describe_metric
from efface.evals.names import OPENUNLEARNING_KEYS
from efface.registry import METRICS

__all__ = ["metrics_page"]

_AIMS = {
    "higher": "higher is better",
    "lower": "lower is better",
    "reference": "the retrained model's value is the aim",
    "zero": "zero is the aim",
}
_HEAD = """# Metrics

This page is made from the metric classes (`efface metrics NAME` prints the same); do not edit it by hand.

A figure is called `<set>_<metric>`: `forget_probability`, `retain_rouge`, `world_facts_fact_accuracy`. Figures over several sets
(forget quality, membership, utility) have no set in their name. Every metric is a pure function of the rows of one measuring pass,
so asking for more metrics of the same items costs nothing.

Three variants: `openunlearning` reproduces OpenUnlearning's code with its edge cases, `original` the paper's own repository,
`strict` is ours: log space, unbiased at the edges, missing values named. `strict` is the default.

Missing values: an item without a valid token is skipped and counted (`n_skipped`). A figure that is not a number is never averaged
away: the metric is then not available, and the reason lists the rows. What a model or the rows cannot give is *not available*, with
the reason, and never a default number.

Intervals resample entities with all their rows (2000 draws, seeded); below ten entities they are not meaningful and say so. A
p-value has no interval: forget quality shows the KS distance D with its interval, n, log10 p and the smallest log10 p possible.
"""
_SETS = """## Sets

| set | what is measured |
|---|---|
| `forget`, `retain` | every item-level metric the rows allow |
| `holdout` | loss, probability, fact accuracy, refusals; the membership metrics compare it with `forget` |
| `real_authors`, `world_facts` | loss, probability (also against wrong answers), truth ratio, ROUGE, fact accuracy, refusals |
| `refusals` | refusal rate (higher is better); its answers also count as refusals elsewhere |
| `context` | fact accuracy where the fact stands in the prompt |
| `unseen_frames_*`, `rewordings_*` | fact accuracy, ROUGE, refusals |
| `passages_*` | of a plain text after its first third: loss, ROUGE, extraction strength, exact memorisation |
| any other key | loss, probability, ROUGE, fact accuracy, refusals |

The suite `muse` has sets of its own and measures no others: `verbmem` (`forget_verbmem`, extraction strength, exact
memorisation), `forget_qa` and `retain_qa` (`forget_knowmem`, `retain_knowmem`, fact accuracy) with `forget_qa_icl` and
`retain_qa_icl` as examples, `privleak_forget` and `privleak_holdout` (`muse_mia_min_k`, `muse_privleak`). How a suite says what it
measures: [suites](suites.md).

The suite `nets` measures ordinary nets: `forget`, `retain` and `test`, and where it is known which test rows are of the forgotten
kind `test_retain` and `test_forget` ([what is measured](nets.md#what-is-measured)). Its figures stand below too,
their intervals resample rows.

A key that ends in `_forget` or `_holdout` is judged like that set, any other like what must not change.
"""


def metrics_page() -> str:
    """Return the page as Markdown."""
    own = [name for name in METRICS.names() if METRICS.get(name).__module__.startswith("efface.")]
    return "\n".join([_HEAD, _SETS, "## The metrics\n", *(_entry(name) for name in own), _names()])


def _entry(name: str) -> str:
    said = describe_metric(name)
    lines = [f"### {name}\n", f"*{said['title'][:1].upper()}{said['title'][1:]}.* {said['definition']}\n"]
    aim = _AIMS[said["aim"]]
    if said["aim"] != said["aim_elsewhere"] and said["aim"] != "zero" and said["aim_elsewhere"]:
        aim += f" (on sets that must not change: {_AIMS[said['aim_elsewhere']]})"
    lines.append(f"- Aim: {aim}.")
    lines += [f"- `{variant}`: {what}." for variant, what in said["variants"].items()]
    if said["needs"]:
        lines.append(f"- Needs: {said['needs']}.")
    lines += [f"- Interval: {said['interval']}.", f"- Cost: {said['cost']}."]
    if said["paper"]:
        lines.append(f"- Source: {said['paper']}.")
    return "\n".join(lines) + "\n"


def _names() -> str:
    rows = [f"| `{name}` | `{key}` |" for name, key in OPENUNLEARNING_KEYS.items()]
    return "\n".join(["## Names in OpenUnlearning\n", "| here | there |", "|---|---|", *rows]) + "\n"
