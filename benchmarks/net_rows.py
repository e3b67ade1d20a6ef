"""Does a method forget the rows that must go, or a little of their classes? Random rows of FashionMNIST, docs/results/nets.md.

    python -m benchmarks.nets --data DIR --parts fashion --work runs/nets
    python -m benchmarks.net_rows --data DIR --work runs/nets

On the models of ``benchmarks.nets``: accuracy on the forget rows less that on retain rows of the same classes. A retrained model is
worse on rows that it never saw; a method can lower both alike and still come near it in every mean over sets.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.net_cells import cells_of
from benchmarks.net_page import mean_between
from benchmarks.net_problems import arguments_of

if TYPE_CHECKING:
    from torch.nn import Module

PROBLEM = "fashion_random"
LABELS = (
    "fine_tune",
    "random_label",
    "scrub",
    "influence (woodfisher, all layers, damping 0.1)",
    "iau",
    "laf (30 epochs, eight times its rates, temperature 5)",
)


def accuracies(net: Module, x: Any, y: Any, parts: dict[str, NDArray[np.int64]]) -> dict[str, float]:
    """Return the accuracy on every part of the rows."""
    import torch

    with torch.no_grad():
        right = (net.eval()(x).argmax(1) == y).double()
    return {name: float(right[torch.as_tensor(rows)].mean()) for name, rows in parts.items()}


def measure(seed: int, data: Path, work: Path) -> dict[str, dict[str, float]]:
    """Return, per model of one seed, the accuracy on forget rows, on retain rows of their classes and on the others."""
    from benchmarks.net_problems import load_problem
    from benchmarks.nets import Bench, folder_of

    problem = load_problem(PROBLEM, data)
    bench = Bench(problem, seed, folder_of(work, PROBLEM, seed))
    x, y = problem.train.take(np.arange(len(problem.train)))
    forget, retain = problem.forget_rows(), problem.retain_rows()
    same = np.isin(y.numpy()[retain], y.numpy()[forget])
    parts = {"forget": forget, "same": retain[same], "other": retain[~same]}
    found = {role: accuracies(net, x, y, parts) for role, net in bench.nets.items()}
    for cell in cells_of("fashion", PROBLEM):
        if cell.label in LABELS:
            found[cell.label] = accuracies(bench.unlearn(cell).net, x, y, parts)
    return found


def table(found: list[dict[str, dict[str, float]]]) -> str:
    """Return the table over seeds."""
    lines = ["| model | forget | retain, same classes | difference | retain, other classes |", "|---" * 5 + "|"]
    for model in found[0]:
        of_model = [one[model] for one in found]
        apart = [100 * (one["forget"] - one["same"]) for one in of_model]
        shown = [f"{100 * mean(one[part] for one in of_model):.1f}" for part in ("forget", "same", "other")]
        lines.append(f"| {model} | {shown[0]} | {shown[1]} | {mean_between(apart)} | {shown[2]} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    import torch

    options = arguments_of(__doc__)
    torch.set_num_threads(1)  # nets this small gain nothing from a second
    print(table([measure(seed, options.data, options.work) for seed in options.seeds]))


if __name__ == "__main__":
    main()
