"""Can LAF's two VAEs tell rows that must go from rows that stay? They steer the method, so what they do not see it cannot undo.

    python -m benchmarks.nets --data DIR --parts fashion --work runs/nets
    python -m benchmarks.laf_apart --data DIR --work runs/nets

On the originals of ``benchmarks.nets``: one VAE learns the representations of the retain rows, one those of the forget rows, as LAF
trains them with a linear decoder. A row's score is its reconstruction error by the first less that by the second. Printed are areas
under the curve of forget against retain rows: all of them, those of classes that forget rows come from, and the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.net_problems import arguments_of, load_problem
from efface.methods.nets.laf import LAFConfig, fit_vae
from efface.models.activations import SplitNet
from efface.models.net_losses import NetLoss
from efface.stats import auc
from efface.train.net_tools import Tools

__all__ = ["apart", "measure"]

PROBLEMS = ("fashion_class", "fashion_random", "fashion_noise")


def apart(forget: Tensor, retain: Tensor, same: Tensor, *, seed: int = 0) -> dict[str, float | None]:
    """Return areas under the curve of forget against retain rows.

    Args:
        forget: Representations of the forget rows, (n, d).
        retain: Those of the retain rows, (m, d).
        same: Which retain rows are of classes that forget rows come from, (m,) bool.
        seed: Of the VAEs.

    Returns:
        "all" retain rows, those of the "same" classes and "other" ones; None where there are none.
    """
    settings = LAFConfig(decoder_out="linear")
    tools = Tools(seed, torch.Generator().manual_seed(seed), batch_size=32, loss=NetLoss(None, task="classification"))
    keep, gone = (fit_vae(rows, settings, tools) for rows in (retain, forget))

    def score(e: Tensor) -> Tensor:
        errors = []
        for vae in (keep, gone):
            with torch.no_grad():
                recon, target = vae.reconstruct(e)
            errors.append((recon - target).square().sum(1))
        return errors[0] - errors[1]

    positives, scores = score(forget), score(retain)
    parts = {"all": scores, "same": scores[same], "other": scores[~same]}
    return {name: auc(negatives=part.numpy(), positives=positives.numpy()) if len(part) else None for name, part in parts.items()}


def measure(name: str, seed: int, data: Path, work: Path) -> dict[str, float | None]:
    """Return :func:`apart` of a problem's original of one seed."""
    problem = load_problem(name, data)
    net = problem.make_model(seed).eval()
    net.load_state_dict(torch.load(work / name / f"seed{seed}" / "original.pt", weights_only=True)["weights"])
    clean: Any = problem if name != "fashion_noise" else load_problem("fashion_class", data)  # the true classes of the same images
    rows = {"forget": torch.as_tensor(problem.forget_rows()), "retain": torch.as_tensor(problem.retain_rows())}
    split = SplitNet(net)
    with torch.no_grad():
        found = {part: split.features(problem.train.take(indices)[0]) for part, indices in rows.items()}
    classes = {part: clean.train.take(indices)[1] for part, indices in rows.items()}
    return apart(found["forget"], found["retain"], torch.isin(classes["retain"], classes["forget"].unique()), seed=seed)


def main() -> None:
    """Measure what is asked for and print the table."""
    options = arguments_of(__doc__)
    print("| problem | all retain rows | of the same classes | of other classes |\n|---|---|---|---|")
    for name in PROBLEMS:
        found = [measure(name, seed, options.data, options.work) for seed in options.seeds]
        cells = []
        for part in ("all", "same", "other"):
            values = [value for one in found if (value := one[part]) is not None]
            cells.append(f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "-")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
