"""Ordinary nets, example by example and over many models: U-LiRA and KLOM, on scikit-learn's digits.

    python -m benchmarks.net_examples --out docs/results/nets-examples.md

U-LiRA (arXiv 2403.01218): every shadow model draws half of the candidates; one kind was trained with its half and made to forget
it, the other was trained without it. KLOM (arXiv 2410.23232): margins of many unlearned models against those of as many retrained
ones on one forget set, example by example. Originals and retrained models are trained once and serve every method. Figures of a
finished method are kept under --work.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "fine_tune": ("fine_tune", {}),
    "neg_grad_plus": ("neg_grad_plus", {}),
    "neg_grad_plus (alpha 0.8)": ("neg_grad_plus", {"alpha": 0.8}),
    "random_label": ("random_label", {"learning_rate": 1e-3}),
    "scrub": ("scrub", {}),
    "salun": ("salun", {"within": {"name": "random_label", "learning_rate": 1e-3}}),
    "ssd": ("ssd", {}),
    "ssd (selection 1)": ("ssd", {"selection": 1.0}),
    "iau": ("iau", {}),
    "iau (3 steps)": ("iau", {"steps": 3}),
    "influence (woodfisher)": ("influence", {}),
    "influence (woodfisher, all layers, damping 0.1)": ("influence", {"last_layer": False, "damping": 0.1}),
    "laf (four times its rates)": ("laf", {"epochs": 10, "lr_ue": 2e-4, "lr_ra": 4e-4}),
}
"""Row of the table -> method and settings over its defaults."""
CANDIDATES = 120
"""Training rows that may be drawn, forgotten and attacked."""
SETS = ("forget", "retain", "test")
HEAD = """# Ordinary nets, example by example

`python -m benchmarks.net_examples --out docs/results/nets-examples.md`

scikit-learn's digits and the embedded problem's net, trained until it knows its {rows} training rows by heart; random rows go, so
that only membership is left to be told. **U-LiRA**: {pairs} shadow models of each kind fit a Gaussian per example and kind,
{targets} more are attacked; {candidates} candidates, of which each model draws half. AUC .5 is chance; square brackets: 95 %
interval, examples resampled. **KLOM**: {models} unlearned models against as many retrained ones, {forget} rows to forget; mean over
the examples in nats, the 95th percentile in round brackets. With fewer than a hundred models of each kind it is a coarse figure,
and its floor (retrained models against other retrained ones) is far from 0: read the rows against that floor. *nothing*: the
original as it is. Time is that of one model over one retraining in the same process.

| method | U-LiRA AUC | TPR at 1 % FPR | KLOM, forget | KLOM, retain | KLOM, test | time / retraining |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Size:
    """How many models are made.

    Attributes:
        pairs: Shadow models of each kind that are fitted.
        targets: Models of each kind that are attacked.
        models: Models of each kind for KLOM.
        epochs: Epochs of the recipe; None keeps the problem's.
    """

    pairs: int = 16
    targets: int = 4
    models: int = 30
    epochs: int | None = None


@dataclass(eq=False)  # one is told from another by identity, as lru_cache asks
class Lab:
    """The problem, and every model that several methods share.

    Attributes:
        size: How many models are made.
    """

    size: Size
    _nets: dict[tuple[bytes, int], nn.Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from efface.models.net_losses import NetLoss
        from efface.world.problems import embedded_problem

        self.problem = embedded_problem("digits_random")
        recipe = self.problem.training
        if recipe is None:
            raise ValueError("the digits have a recipe")
        self.recipe = recipe if self.size.epochs is None else recipe.model_copy(update={"epochs": self.size.epochs})
        self.loss = NetLoss(None, task="classification")
        self.x, self.y = self.problem.train.take(np.arange(len(self.problem.train)))
        self.candidates = self.problem.forget_rows()[:CANDIDATES]

    def trained(self, rows: NDArray[np.int64], seed: int) -> nn.Module:
        """Return a model trained on some rows, made once."""
        key = (rows.tobytes(), seed)
        if key not in self._nets:
            self._nets[key] = self.fresh(rows, seed)
        return self._nets[key]

    def fresh(self, rows: NDArray[np.int64], seed: int) -> nn.Module:
        """Return a model trained on some rows."""
        from efface.data.net_sets import Part
        from efface.models.seeding import seeded
        from efface.train.net_recipe import train_recipe

        net = self.problem.make_model(seed)
        with seeded(seed):
            train_recipe(net, Part(self.problem.train, rows), self.recipe, self.loss, seed=seed)
        return net.eval()

    def without(self, forget: NDArray[np.int64], within: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the rows that are not forgotten."""
        return np.setdiff1d(np.arange(len(self.problem.train)) if within is None else within, forget)

    def unlearned(self, method: str, settings: Mapping[str, Any], everything: Any, forget: Any, seed: int) -> nn.Module:
        """Return a model trained on everything that forgot some of it."""
        from efface.data.net_sets import Part
        from efface.registry import NETS
        from efface.train.unlearn_net import NetJob, run_net_job

        original = self.trained(everything, seed)
        if method == "nothing":
            return original
        job = NetJob(
            net=original,
            method=NETS.get(method)(**settings),
            forget=Part(self.problem.train, forget),
            retain=Part(self.problem.train, self.without(forget, everything)),
            task="classification",
            loss=self.loss,
            num_classes=10,
            make_model=self.problem.make_model,
            recipe=self.recipe,
            head=self.problem.head,
            activations=self.problem.activations,
            seed=seed,
        )
        return run_net_job(job).net

    def margins(self, net: nn.Module, x: Any, y: Any) -> NDArray[np.float64]:
        """Return log(p / (1 - p)) of the true class of every row."""
        from efface.evals.nets.classification import margin
        from efface.models.predictor import NetPredictor

        return margin(NetPredictor(net).predict(x).double().numpy(), y)


def attack(lab: Lab, method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what U-LiRA reaches against a method."""
    from efface.evals.nets.per_example import shadow_attack

    x, y = lab.x[lab.candidates], lab.y[lab.candidates]
    stay = lab.without(lab.candidates)

    def with_half(half: NDArray[np.int64], seed: int) -> nn.Module:
        forget = lab.candidates[half]
        return lab.unlearned(method, settings, np.union1d(stay, forget), forget, seed)

    def without_half(half: NDArray[np.int64], seed: int) -> nn.Module:
        return lab.trained(stay, seed)

    found = shadow_attack(
        with_half,
        without_half,
        lambda net: lab.margins(net, x, y),
        examples=len(lab.candidates),
        pairs=lab.size.pairs,
        targets=lab.size.targets,
    )
    ends = None if found.interval is None else [found.interval.low, found.interval.high]
    return {"auc": found.auc, "interval": ends, "tpr": found.tpr_at_fpr}


@lru_cache(maxsize=4)
def oracle(lab: Lab, first: int) -> dict[str, NDArray[np.float64]]:
    """Return margins of retrained models on every set, (models, rows)."""
    stay = lab.without(lab.candidates)
    return _on_sets(lab, [lab.trained(stay, seed) for seed in range(first, first + lab.size.models)])


def _on_sets(lab: Lab, nets: Sequence[nn.Module]) -> dict[str, NDArray[np.float64]]:
    stay = lab.without(lab.candidates)[: len(lab.problem.test)]
    test = lab.problem.test.take(np.arange(len(lab.problem.test)))
    sets = {"forget": (lab.x[lab.candidates], lab.y[lab.candidates]), "retain": (lab.x[stay], lab.y[stay]), "test": test}
    return {name: np.stack([lab.margins(net, x, y) for net in nets]) for name, (x, y) in sets.items()}


def closeness(lab: Lab, method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return KLOM on every set, the mean and the 95th percentile over examples."""
    from efface.evals.nets.klom import klom

    everything = np.arange(len(lab.problem.train))
    seeds = range(20_000, 20_000 + lab.size.models)
    if method == "retrained again":
        ours = oracle(lab, 40_000)
    else:
        ours = _on_sets(lab, [lab.unlearned(method, settings, everything, lab.candidates, seed) for seed in seeds])
    found = {name: klom(ours[name], oracle(lab, 30_000)[name]) for name in SETS}
    return {name: [float(values.mean()), float(np.quantile(values, 0.95))] for name, values in found.items()}


def measure(lab: Lab, label: str) -> dict[str, Any]:
    """Return every figure of one row of the table."""
    method, settings = METHODS.get(label, (label, {}))
    record: dict[str, Any] = {"klom": closeness(lab, method, settings)}
    if method != "retrained again":
        record["ulira"] = attack(lab, method, settings)
    if method in ("nothing", "retrained again"):
        return record
    everything, seed = np.arange(len(lab.problem.train)), 20_000
    retraining = _seconds(lambda: lab.fresh(lab.without(lab.candidates), seed))
    unlearning = _seconds(lambda: lab.unlearned(method, settings, everything, lab.candidates, seed))  # the original is there by now
    return record | {"ratio": unlearning / retraining}


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def page(lab: Lab, records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page."""
    size = lab.size
    head = HEAD.format(
        rows=len(lab.problem.train),
        pairs=size.pairs,
        targets=size.targets,
        candidates=len(lab.candidates),
        models=size.models,
        forget=len(lab.candidates),
    )
    return head + "".join(_line(label, record) for label, record in records.items())


def _line(label: str, record: Mapping[str, Any]) -> str:
    found = record.get("ulira")
    attacked = ["-", "-"]
    if found is not None:
        ends = "" if found["interval"] is None else f" [{found['interval'][0]:.2f}, {found['interval'][1]:.2f}]"
        attacked = [f"{found['auc']:.2f}{ends}", f"{found['tpr']:.3f}"]
    klom = [f"{record['klom'][name][0]:.2f} ({record['klom'][name][1]:.2f})" for name in SETS]
    ratio = f"{record['ratio']:.2g}" if "ratio" in record else "-"
    return "| " + " | ".join([label, *attacked, *klom, ratio]) + " |\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not done and write the page."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=sorted(METHODS))
    parser.add_argument("--work", type=Path, default=Path("runs/net-examples"))
    parser.add_argument("--quick", action="store_true", help="few models of few epochs: whether it runs, not what comes out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # nets this small gain nothing from a second
    lab = Lab(Size(6, 2, 3, 2) if options.quick else Size())
    folder = options.work / ("quick" if options.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    records = {}
    for label in ("retrained again", "nothing", *options.methods):
        kept = folder / f"{label.replace(' ', '_')}.json"
        if not kept.is_file():
            kept.write_text(json.dumps(measure(lab, label)), encoding="utf-8")
            print(label, flush=True)
        records[label] = json.loads(kept.read_text(encoding="utf-8"))
    text = page(lab, records)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
