"""Can LAF's two VAEs tell rows that must go from rows that stay? They steer the method, so what they do not see it cannot undo.

    python -m benchmarks.nets --data DIR --parts fashion --work runs/nets
    python -m benchmarks.laf_apart --data DIR --work runs/nets

On the originals of ``benchmarks.nets``: one VAE learns the representations of the retain rows, one those of the forget rows, as LAF
trains them with a linear decoder. A row's score is its reconstruction error by the first less that by the second. Printed are areas
under the curve of forget against retain rows: all of them, those of classes that forget rows come from, and the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.net_problems import load_problem
from efface.methods.nets.laf import RepresentationVAE, vae_loss
from efface.stats import auc

__all__ = ["apart", "fitted"]

PROBLEMS = ("fashion_class", "fashion_random", "fashion_noise")
EPOCHS, BATCH, CODE, RATE = 10, 32, 8, 1e-3
"""LAF's defaults for its VAEs."""


def representations(net: nn.Module, x: Tensor) -> Tensor:
    """Return what the net's last linear layer is given, (n, d)."""
    head = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    found: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].detach()))
    with torch.no_grad():
        net.eval()(x)
    handle.remove()
    return found[0]


def fitted(e: Tensor, *, seed: int) -> RepresentationVAE:
    """Return a VAE trained on representations (n, d)."""
    torch.manual_seed(seed)
    vae = RepresentationVAE(
        e.shape[1],
        CODE,
        decoder_out="linear",
        generator=torch.Generator().manual_seed(seed),
        mean=e.mean(0),
        scale=e.std(0).clamp_min(1e-6),
    )
    optimizer = torch.optim.Adam(vae.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for (batch,) in DataLoader(TensorDataset(e), batch_size=BATCH, shuffle=True):
            recon, target, mu, sigma = vae(batch)
            optimizer.zero_grad()
            vae_loss(recon, target, mu, sigma).backward()
            optimizer.step()
    return vae.eval()


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
    keep, gone = fitted(retain, seed=seed), fitted(forget, seed=seed)

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
    net = problem.make_model(seed)
    net.load_state_dict(torch.load(work / name / f"seed{seed}" / "original.pt", weights_only=True)["weights"])
    clean: Any = problem if name != "fashion_noise" else load_problem("fashion_class", data)  # the true classes of the same images
    rows = {"forget": torch.as_tensor(problem.forget_rows()), "retain": torch.as_tensor(problem.retain_rows())}
    found = {part: representations(net, problem.train.take(indices)[0]) for part, indices in rows.items()}
    classes = {part: clean.train.take(indices)[1] for part, indices in rows.items()}
    return apart(found["forget"], found["retain"], torch.isin(classes["retain"], classes["forget"].unique()), seed=seed)


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets; see benchmarks/net_problems.py")
    parser.add_argument("--work", type=Path, default=Path("runs/nets"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
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
