"""The whole job from one command, by stage, against the same stages as programs of their own.

Ours: ``efface run``: unlearns, then measures the retrained, the original and the unlearned model with every metric their rows allow
(TOFU's, membership, memorisation) and writes the report. Libraries load once, a set is read once, and each model is measured once.

Baseline: ``efface unlearn``, then ``efface evaluate`` for each of the three models, as scripts that call one tool per step do. Each
program starts Python and loads its libraries, and to compare a model with the retrained one it has to measure that one again.

Both sides do the same training and give the same figures; neither finds rows that were measured before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tables import Table
from benchmarks.timing import Ratio
from efface.world import Recipe, build_models

__all__ = ["JobComparison", "compare_job", "job_table"]

STAGES = ("unlearning", "retrained", "original", "unlearned")
_SETS = ("forget", "retain", "holdout")


@dataclass(frozen=True)
class JobComparison:
    """What the job took.

    Attributes:
        whole: Ratio of the whole job, baseline / ours.
        ours: Seconds per stage inside the one command, the last round.
        separate: Seconds per program, the last round.
        total: Seconds of the one command, the last round.
        values: Figures of the unlearned model on both sides.
    """

    whole: Ratio
    ours: dict[str, float]
    separate: dict[str, float]
    total: float
    values: tuple[dict[str, float | None], dict[str, float | None]]


def compare_job(recipe: Recipe, *, rounds: int, max_steps: int) -> JobComparison:
    """Do the job on both sides in turns, on the models and rows of an embedded world, which are built before."""
    models = build_models(recipe)
    world = recipe.load_world()
    with tempfile.TemporaryDirectory(prefix="efface-bench-") as folder:
        place = Path(folder)
        for key in _SETS:
            lines = (json.dumps(_plain(row), ensure_ascii=False) for row in world.sets[key])
            (place / f"{key}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings = f"{{max_steps: {max_steps}, stop: {{forget_nll: off}}}}"
        (place / "request.yaml").write_text(
            f"model: {models.original}\nretrained: {models.retrained}\nmethod: npo\nunlearning: {settings}\n"
            + "".join(f"{key}: {key}.jsonl\n" for key in _SETS),
            encoding="utf-8",
        )
        together, apart = [], []
        for number in range(rounds):
            total, ours, one = _one_command(place, f"run-{number}")
            separate, other = _programs(place, f"made-{number}", str(models.original), str(models.retrained), settings)
            together.append(total)
            apart.append(sum(separate.values()))
    return JobComparison(Ratio.of(apart, together), ours, separate, together[-1], (one, other))


def _plain(row: Any) -> dict[str, Any]:
    fields = ("id", "question", "answer", "entity", "value", "paraphrased_question", "paraphrased_answer", "perturbed_answer")
    return {name: getattr(row, name) for name in fields if getattr(row, name)}


def _one_command(place: Path, name: str) -> tuple[float, dict[str, float], dict[str, float | None]]:
    seconds, printed = _timed(place, "run", "request.yaml", "--output", name, "--json")
    costs = json.loads((place / name / "report.json").read_text(encoding="utf-8"))["costs"]
    stages = {stage: next(cost["seconds"] for cost in costs if stage in cost["stage"].split()) for stage in STAGES}
    return seconds, stages, json.loads(printed)["metrics"]["unlearned"]


def _programs(
    place: Path, name: str, original: str, retrained: str, settings: str
) -> tuple[dict[str, float], dict[str, float | None]]:
    sets = [part for key in _SETS for part in (f"--{key}", f"{key}.jsonl")]
    unlearn = ("unlearn", "--model", original, *sets, "--method", "npo", "--set", f"unlearning={settings}", "--output", name)
    seconds = {"unlearning": _timed(place, *unlearn, "--json")[0]}
    seconds["retrained"], _ = _timed(place, "evaluate", retrained, *sets, "--json")
    seconds["original"], _ = _timed(place, "evaluate", original, *sets, "--retrained", retrained, "--json")
    seconds["unlearned"], printed = _timed(place, "evaluate", name, *sets, "--retrained", retrained, "--json")
    return seconds, {metric: entry["value"] for metric, entry in json.loads(printed)["metrics"].items()}


def _timed(place: Path, *arguments: str) -> tuple[float, str]:
    """Run a command with an empty cache of rows; return its seconds and what it printed."""
    with tempfile.TemporaryDirectory(prefix="efface-cache-") as cache:
        environment = {**os.environ, "EFFACE_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(sys.path)}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "efface", *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"efface {arguments[0]} failed: {done.stderr[-500:]}")
    return seconds, done.stdout


def job_table(compared: JobComparison, *, max_steps: int) -> Table:
    """Put the comparison into a table; what the one command spends between its stages is a row of its own."""
    rest = compared.total - sum(compared.ours.values())
    rows = [[_titled(stage), f"{compared.ours[stage]:.1f}", f"{compared.separate[stage]:.1f}"] for stage in STAGES]
    rows.append(["start, reading, report", f"{rest:.1f}", "in each"])
    rows.append(["whole", f"{compared.total:.1f}", f"{sum(compared.separate.values()):.1f}"])
    return Table(
        title="The whole job",
        words=(
            f"Embedded world, NPO, {max_steps} steps, then every metric the rows allow on three models.",
            "Ours: efface run. Baseline: efface unlearn, then efface evaluate of each model as a program of its own, which "
            "measures the retrained model again where it compares with it. Rows measured before are found by neither.",
            f"Ratio of the whole: baseline / ours, median of rounds taken in turns (lowest-highest): {compared.whole}.",
        ),
        columns=("stage", "ours s", "separate s"),
        rows=rows,
        values=[{"ratio": compared.whole.as_dict(), "ours": compared.ours, "separate": compared.separate, "total": compared.total}],
        notes=("The models and rows lie ready for both sides.",),
    )


def _titled(stage: str) -> str:
    return stage if stage == "unlearning" else f"evaluation, {stage} model"
