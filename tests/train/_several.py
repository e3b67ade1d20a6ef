"""Trains a few tiny models and writes their loss curves: run by one process, or by several under ``accelerate launch``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _loop import FORGET, HOLDOUT, ITEMS, RETAIN, inside, losses, settings

from efface.adapters.choice import make_adapter
from efface.train.language_model import train
from efface.train.processes import count, is_main, leave
from efface.train.settings import StopSettings

SETS = {"forget": FORGET, "retain": RETAIN, "holdout": HOLDOUT}
DUAL = {"name": "primal_dual", "epsilon": 1.0, "dual_step_size": 0.5, "dual_warmup_epochs": 0.0}
GRUN = {"name": "grun", "layers": (0, 1)}
CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "full, sum": ("full", "sum", {}),
    "full, sum, accumulation": ("full", "sum", {"micro_batch_size": 1}),
    "full, gru": ("full", {"name": "gru", "smoothing": 0.8}, {}),
    "full, blur, accumulation": ("full", "blur", {"micro_batch_size": 1}),
    "full, sam": ("full", {"name": "sam", "rho": 0.1}, {}),
    "full, primal_dual": ("full", DUAL, {}),
    "lora, sum": ("lora", "sum", {}),
    "lora, gru": ("lora", "gru", {}),
    "grun, sum": (GRUN, "sum", {}),
    "grun, gru, accumulation": (GRUN, "gru", {"micro_batch_size": 1}),
    "stopped early": ("full", "sum", {"learning_rate": 3e-2, "epochs": 20, "stop": StopSettings()}),
}


def curve(adapter: Any, rule: Any, changes: dict[str, Any]) -> dict[str, Any]:
    model, plugs = inside(make_adapter(adapter), losses("npo", rule=rule))
    chosen = settings(**{"epochs": 3, "learning_rate": 3e-3, "evaluate_every": 1, **changes})
    result = train(model, ITEMS, plugs, chosen, pad_id=0, monitor_sets=SETS)
    return {
        "points": [dict(point.values) for point in result.history],
        "stopped": result.stopped,
        "steps": result.steps,
        "processes": count(),
    }


def main(output: Path) -> None:
    found = {name: curve(*case) for name, case in CASES.items()}
    if is_main():
        output.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()
