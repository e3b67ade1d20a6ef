"""Our numbers beside published ones: ``python -m benchmarks.anchors --write docs/anchors.md``.

Three kinds of anchors. TOFU's own logs of trained models (golden fixtures ``tofu_aggregate_*``): the published code's aggregates of
them against ours, from the same per-row losses. Printed tables whose cells follow from other printed cells: recomputed by our
functions from the printed, rounded parts. And what cannot be compared here, with the reason.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.evals.metrics.aggregate import aggregate_score
from efface.evals.metrics.membership import privleak
from efface.evals.metrics.meta import meta_overall, metric_robustness
from efface.evals.metrics.tokens import option_probability, probability
from efface.evals.metrics.truth_ratio import forget_quality, log_truth_ratio, model_utility, preference

__all__ = ["TABLE_2", "TABLE_3", "Cell", "logs_part", "main", "page", "published_part"]

ROOT = Path(__file__).resolve().parents[1]

# Dorna et al., arXiv 2506.12618, TOFU forget10, Llama-3.2-1B-Instruct; reprinted in a public experiment tracker.
TABLE_3: Mapping[str, tuple[float, float, float, float, float | None]] = {
    "finetuned": (0.00, 0.10, 1.00, 0.00, None),
    "retrained": (0.31, 1.00, 0.99, 0.58, None),
    "SimNPO": (0.32, 0.63, 1.00, 0.53, 0.49),
    "RMU": (0.47, 0.50, 0.61, 0.52, 0.53),
    "UNDIAL": (0.27, 0.48, 0.78, 0.42, 0.40),
    "AltPO": (0.63, 0.06, 0.95, 0.15, 0.76),
    "IdkNLL": (0.08, 0.17, 0.93, 0.15, 0.14),
    "NPO": (0.52, 0.06, 0.99, 0.15, 0.69),
    "IdkDPO": (0.56, 0.06, 0.95, 0.14, 0.71),
    "GradDiff": (0.97, 3e-3, 0.79, 9e-3, 0.87),
}
"""Row -> memorisation, privacy, utility, aggregate, aggregate without privacy."""

TABLE_2: Mapping[str, tuple[float, float, float, float, float]] = {
    "extraction strength": (0.85, 0.92, 0.79, 0.95, 0.68),
    "exact memorisation": (0.80, 0.90, 0.72, 0.92, 0.59),
    "truth ratio": (0.73, 0.95, 0.59, 0.92, 0.43),
    "paraphrased probability": (0.73, 0.71, 0.75, 0.60, 0.98),
    "paraphrased ROUGE": (0.72, 0.89, 0.61, 0.93, 0.45),
    "probability": (0.72, 0.82, 0.65, 0.60, 0.70),
    "MIA zlib": (0.71, 0.92, 0.57, 0.56, 0.59),
    "ROUGE": (0.70, 0.79, 0.64, 0.93, 0.48),
    "jailbreak ROUGE": (0.69, 0.83, 0.59, 0.85, 0.45),
    "MIA min-k": (0.67, 0.93, 0.52, 0.48, 0.57),
    "MIA loss": (0.66, 0.93, 0.52, 0.48, 0.57),
    "MIA min-k++": (0.61, 0.81, 0.48, 0.61, 0.40),
}
"""Metric -> overall, faithfulness, robustness, quantisation Q, relearning R."""

# Shi et al., arXiv 2407.06460, as DRAGON (arXiv 2511.05784, Table 10) takes it over; times 100.
MUSE: Mapping[str, tuple[float, float, float, float, float, float]] = {
    "target": (58.4, 63.9, 55.2, 99.8, 59.4, 66.9),
    "retrained": (20.8, 33.1, 55.0, 14.3, 28.9, 74.5),
    "GA": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "NPO": (0.0, 0.0, 0.0, 0.0, 0.0, 10.7),
    "NPO_GDR": (1.2, 54.6, 40.5, 0.0, 0.0, 22.8),
    "Task Vector": (57.2, 66.2, 55.8, 99.7, 52.4, 64.7),
    "Who's Harry Potter": (19.7, 21.2, 28.3, 18.0, 55.7, 63.6),
}
_MUSE_AUC = {"News": 0.4772, "Books": 0.5393}  # constants in MUSE's code: min-40 % of its retrained models, in MUSE's sign
_KEPT = ("retain", "real_authors", "world_facts")


class Cell:
    """A figure recomputed from rounded parts: its value, and the range the rounding allows."""

    def __init__(self, formula: Callable[..., float], parts: Sequence[float]) -> None:
        ends = [(max(part - _half_unit(part), 0.0), part + _half_unit(part)) for part in parts]
        self.value = formula(*parts)
        found = [formula(*corner) for corner in itertools.product(*ends)]
        self.low, self.high = min(found), max(found)

    def agrees(self, printed: float) -> bool:
        """Whether the printed figure, itself rounded, can come from these parts."""
        return self.low - _half_unit(printed) <= printed <= self.high + _half_unit(printed)


def _half_unit(value: float) -> float:
    return 0.0005 if 0 < value < 0.01 else 0.005  # small cells are printed with three decimals


def published_part() -> list[str]:
    """Return the tables that need nothing but printed numbers."""
    return [*_table_3(), *_table_2(), *_muse()]


def _table_3() -> Iterator[str]:
    yield "## OpenUnlearning, Table 3 and Table 6: the aggregate\n"
    yield (
        "Printed: arXiv 2506.12618 (TOFU forget10, Llama-3.2-1B-Instruct), as reprinted in a public "
        "experiment tracker. Recomputed: "
        "`aggregate_score` on the printed memorisation, privacy and utility. In brackets: what their rounding allows.\n"
    )
    yield "| row | Mem | Priv | Utility | Agg printed | recomputed | without Priv printed | recomputed | agrees |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row, (memorization, privacy, utility, whole, without) in TABLE_3.items():
        full = Cell(lambda m, p, u: aggregate_score(m, u, p), (memorization, privacy, utility))
        part = Cell(aggregate_score, (memorization, utility))
        agrees = full.agrees(whole) and (without is None or part.agrees(without))
        cells = (memorization, privacy, utility, whole, _shown(full), "-" if without is None else without, _shown(part))
        yield f"| {row} | {' | '.join(str(cell) for cell in cells)} | {'yes' if agrees else 'no'} |"
    yield (
        "\nDifferences: none beyond rounding. The retrained model's cell of Table 6 is left out: its reprint "
        "does not follow from its "
        "parts, and the table itself could not be read.\n"
    )


def _table_2() -> Iterator[str]:
    yield "## OpenUnlearning, Table 2: which metrics deserve trust\n"
    yield "Recomputed: `metric_robustness` on the printed Q and R, `meta_overall` on the printed faithfulness and robustness.\n"
    yield "| metric | Q | R | robustness printed | recomputed | faithfulness | overall printed | recomputed | agrees |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, (overall, faithful, robust, quantised, relearnt) in TABLE_2.items():
        inner, outer = Cell(metric_robustness, (relearnt, quantised)), Cell(meta_overall, (faithful, robust))
        agrees = "yes" if inner.agrees(robust) and outer.agrees(overall) else "no"
        cells = (quantised, relearnt, robust, _shown(inner), faithful, overall, _shown(outer))
        yield f"| {name} | {' | '.join(str(cell) for cell in cells)} | {agrees} |"
    yield (
        "\nDifferences: none beyond rounding. Q and R themselves are not recomputed: they need trained and unlearned models of 1B "
        "parameters, in numbers. Ours are symmetric by default (bounded, no direction to choose), so they "
        "will differ from the printed ones, "
        "whose direction of Q is not stated in what could be read.\n"
    )


def _muse() -> Iterator[str]:
    yield "## MUSE\n"
    yield (
        "Printed: arXiv 2407.06460, as DRAGON (arXiv 2511.05784, Table 10) takes it over; ROUGE-L F1 times 100. Nothing here was "
        "measured by us: it needs Llama-2-7B models.\n"
    )
    yield "| model | News VerbMem | KnowMem forget | KnowMem retain | Books VerbMem | KnowMem forget | KnowMem retain |"
    yield "|---|---|---|---|---|---|---|"
    for row, cells in MUSE.items():
        yield f"| {row} | {' | '.join(str(cell) for cell in cells)} |"
    yield (
        "\nWhat follows from MUSE's arithmetic alone: `privleak` (our AUC is 1 minus MUSE's) at the two ends, with the AUC of the "
        "retrained model that stands in MUSE's code.\n"
    )
    yield "| corpus | AUC of the retrained model | forget texts plainly members | no difference to it | plainly strangers |"
    yield "|---|---|---|---|---|"
    for corpus, constant in _MUSE_AUC.items():
        ends = [privleak(1 - auc, 1 - constant, variant="original") for auc in (0.0, constant, 1.0)]
        yield f"| {corpus} | {constant} | {' | '.join('-' if end is None else f'{end:+.1f}' for end in ends)} |"
    yield (
        "\nTo know before comparing: OpenUnlearning stems words for ROUGE and MUSE does not; MUSE cuts the "
        "true continuation to the "
        "generated length; the printed KnowMem of the Books target (59.4) is not what public evaluators find on that model, so "
        "measure the target with the same evaluator as everything else.\n"
    )


def logs_part(folder: Path) -> list[str]:
    """Return the table made of real logs: the published code's aggregates beside ours."""
    lines = [
        "## TOFU: aggregates of real logs\n",
        (
            "Per-row losses of models that TOFU's authors trained and logged (Llama-2-7B-chat and phi-1.5); each cell: what the "
            "published code makes of them / what efface makes of them. `arithmetic` is the truth ratio of TOFU's "
            "first version, which "
            "its `utils.py` still has; `geometric` is the one in use.\n"
        ),
        "| log | n | forget quality | KS D | utility (geometric) | (arithmetic) | OpenUnlearning's | largest relative difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("tofu_aggregate_*.json")):
        lines.append(_log_row(path))
    lines.append(
        "\nDifferences: rounding of double precision only. OpenUnlearning's and TOFU's utilities differ by 1e-10 in a denominator. "
        "These figures use the first 300 forget10 rows, as the logs do; OpenUnlearning takes all 400, so its "
        "floors of forget quality "
        "differ.\n"
    )
    return lines


def _log_row(path: Path) -> str:
    data = json.loads(path.read_text(encoding="utf-8"))
    logs, expected = data["inputs"], data["expected"]
    ratios = {mean: _ratios(logs, "original", mean) for mean in ("geometric", "arithmetic")}
    test = forget_quality(ratios["geometric"]["forget"], _ratio(logs["retain_model_forget"], "original", "geometric"))
    theirs = _ratios(logs, "openunlearning", "geometric")
    pairs = [
        (expected["tofu_aggregate_eval_stat"]["forget_quality"], test.p_value),
        (expected["tofu_aggregate_eval_stat"]["ks_statistic"], test.statistic),
        (expected["tofu_aggregate_eval_stat"]["Model Utility"], _utility(logs, ratios["geometric"], "original")),
        (_utility_of(expected["tofu_utils_arithmetic_variant"]), _utility(logs, ratios["arithmetic"], "original")),
        (expected["openunlearning"]["model_utility"], _utility(logs, theirs, "openunlearning")),
    ]
    worst = max(abs(ours - published) / abs(published) if published else abs(ours) for published, ours in pairs)
    cells = [f"{published:.4g} / {ours:.4g}" for published, ours in pairs]
    rows = len(logs["unlearned"]["forget"]["avg_gt_loss"])
    return f"| {path.stem.removeprefix('tofu_aggregate_')} | {rows} | {' | '.join(cells)} | {worst:.0e} |"


def _utility_of(block: Mapping[str, float]) -> float:
    return next(value for key, value in block.items() if key.lower().replace("_", " ") == "model utility")


def _ratio(log: Mapping[str, Any], variant: Any, mean: Any) -> Any:
    return log_truth_ratio(log["avg_paraphrased_loss"], log["average_perturb_loss"], variant=variant, mean=mean)


def _ratios(logs: Mapping[str, Any], variant: str, mean: str) -> dict[str, Any]:
    return {key: _ratio(log, variant, mean) for key, log in logs["unlearned"].items()}


def _utility(logs: Mapping[str, Any], ratios: Mapping[str, Any], variant: Any) -> float:
    parts: list[float] = []
    for key in _KEPT:
        log = logs["unlearned"][key]
        if key == "retain":
            chances = [probability(loss) for loss in log["avg_gt_loss"]]
        else:
            pairs = zip(log["avg_gt_loss"], log["average_perturb_loss"], strict=True)
            chances = [option_probability(right, wrong, variant=variant) for right, wrong in pairs]
        parts += [_mean(values) for values in (chances, log["rougeL_recall"], preference(ratios[key]))]
    return model_utility(parts, variant=variant)


def _mean(values: Sequence[float | None] | NDArray[np.float64]) -> float:
    """Return the mean; a missing value makes it NaN, never the mean of the others."""
    return float(np.mean(np.asarray(values, dtype=float)))


def _shown(cell: Cell) -> str:
    digits = 4 if cell.value < 0.01 else 2
    return f"{cell.value:.{digits}f} [{cell.low:.{digits}f}, {cell.high:.{digits}f}]"


_HEAD = """# Anchors

efface's numbers beside published ones, with the reason for every difference. Made by `python -m benchmarks.anchors --write
docs/anchors.md`; do not edit it by hand.

Only numbers that could be read in the paper itself or in a reprint that names it are called published here; for reprints the
secondary source is named.
"""
_NOT_COMPARED = (
    (
        "TOFU, MUSE and WMDP rows of unlearned 1B and 7B models",
        "they need those weights and a GPU for days; nothing of that size was trained here",
    ),
    (
        "OpenUnlearning's memorisation, privacy and utility cells",
        "the models behind them were not measured here; sMIA's formula is not printed (ours is 1 minus the "
        "distance of the AUC to the "
        "retrained model's, divided by the latter), and fluency there comes from a classifier that has to be downloaded",
    ),
    (
        "MUSE's PrivLeak of unlearned models, scalability and sustainability curves",
        "not readable in the paper or a reprint",
    ),
    (
        "tables of FLAT, GRUN, ECO, S3T and others",
        "not readable; see the paper index for what is implemented, and the results pages for what we "
        "measured on models of our own",
    ),
)
_TAIL = """
The embedded world's figures ([results](results/methods.md)) are from small models of our own and stand beside no published number.
"""


def _not_compared() -> list[str]:
    rows = [f"| {what} | {why} |" for what, why in _NOT_COMPARED]
    return ["## What cannot be compared here\n", "| published | why not |", "|---|---|", *rows]


def page(folder: Path) -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *logs_part(folder), *published_part(), *_not_compared(), _TAIL])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--golden", type=Path, default=Path(os.environ.get("EFFACE_GOLDEN_DIR") or ROOT.parent / "shared" / "golden")
    )
    parser.add_argument("--write", type=Path, help="file for the page; without it, it is printed")
    asked = parser.parse_args(arguments)
    if not list(asked.golden.glob("tofu_aggregate_*.json")):
        parser.error(f"{asked.golden} holds no tofu_aggregate_*.json; name the folder of the golden fixtures with --golden")
    text = page(asked.golden)
    if asked.write is None:
        print(text)
    else:
        asked.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
