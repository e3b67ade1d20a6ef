"""The certificate: what is bounded is really below the bound, and it is refused when it is used up."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from efface.errors import InputError
from efface.methods.nets.certified_removal import CertifiedLinear, CertifiedRemoval, allowed_bound
from efface.models.net_losses import NetLoss
from efface.train.unlearn_net import NetJob, run_net_job

LAM = 1e-2


@pytest.fixture(scope="module")
def rows() -> tuple[Tensor, Tensor]:
    data = load_breast_cancer()
    x = torch.tensor(data.data)
    x = (x - x.mean(0)) / x.std(0)
    return x / x.norm(dim=1).max(), torch.tensor(data.target)


def job(net: nn.Module, x: Tensor, y: Tensor, gone: int, **settings: float | str) -> NetJob:
    return NetJob(
        net=net,
        method=CertifiedRemoval(**settings),
        forget=TensorDataset(x[:gone], y[:gone]),
        retain=TensorDataset(x[gone:], y[gone:]),
        task="classification",
        loss=NetLoss(None, task="classification"),
    )


def test_the_gradient_left_is_below_the_bound_and_the_exact_answer_near(rows: tuple[Tensor, Tensor]) -> None:
    x, y = rows
    net = CertifiedLinear.trained_on(x, y, lam=LAM, sigma=1.0, seed=3)
    assert float(net.bound) < 1e-4, "training ended far from the minimum"
    made = run_net_job(job(net, x, y, 10, epsilon=100.0)).net
    assert isinstance(made, CertifiedLinear)
    kept, signs = x[10:], made.signs(y[10:], 0)
    bound, left = float(made.bound), float(made.gradient(0, kept, signs).norm())
    assert 0 < left <= bound
    exact = CertifiedLinear.trained_on(kept, y[10:], lam=LAM, sigma=1.0, seed=3)  # the same seed is the same perturbation
    assert float((made.weight - exact.weight).norm()) <= bound / (LAM * len(kept))
    before = float((net.weight - exact.weight).norm())
    assert float((made.weight - exact.weight).norm()) < 0.1 * before
    # doing nothing would not pass: its gradient over the rows left is far above the bound
    assert float(net.gradient(0, kept, signs).norm()) > bound


def mnist_threes_and_eights() -> tuple[Tensor, Tensor]:
    """Threes and eights of real MNIST through a random projection to 64 numbers, rows of length 1."""
    folder = Path(os.environ.get("EFFACE_MNIST_DIR") or Path(__file__).parents[4] / "shared" / "data" / "mnist10k")
    files = [folder / f"t10k-{kind}.gz" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if not all(file.is_file() for file in files):
        pytest.skip("no MNIST: set EFFACE_MNIST_DIR to a folder with t10k-images-idx3-ubyte.gz and its labels")
    pixels, labels = (
        np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=offset)
        for file, offset in zip(files, (16, 8), strict=True)
    )
    chosen = np.isin(labels, (3, 8))
    x = torch.tensor(pixels.reshape(-1, 784)[chosen], dtype=torch.float64)
    x = x @ torch.randn(784, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x / x.norm(dim=1, keepdim=True), torch.tensor((labels[chosen] == 8).astype(np.int64))


def test_the_certificate_holds_on_real_digits() -> None:
    x, y = mnist_threes_and_eights()
    gone, lam = 5, 1e-3
    net = CertifiedLinear.trained_on(x, y, lam=lam, sigma=10.0, seed=0)
    made = run_net_job(job(net, x, y, gone, epsilon=100.0)).net
    assert isinstance(made, CertifiedLinear)
    kept, signs = x[gone:], made.signs(y[gone:], 0)
    bound = float(made.bound)
    assert float(made.gradient(0, kept, signs).norm()) <= bound < float(net.gradient(0, kept, signs).norm())
    exact = CertifiedLinear.trained_on(kept, y[gone:], lam=lam, sigma=10.0, seed=0)
    assert float((made.weight - exact.weight).norm()) <= bound / (lam * len(kept))


def test_bounds_add_up_until_the_certificate_is_refused(rows: tuple[Tensor, Tensor]) -> None:
    x, y = rows
    net = CertifiedLinear.trained_on(x, y, lam=LAM, sigma=1.0, seed=0)
    first = run_net_job(job(net, x, y, 5, epsilon=100.0)).net
    second = run_net_job(job(first, x[5:], y[5:], 5, epsilon=100.0)).net
    assert float(second.bound) > float(first.bound) > float(net.bound)
    with pytest.raises(InputError, match="Beyond it nothing is certified"):
        run_net_job(job(net, x, y, 200, epsilon=1e-4))
    noted = run_net_job(job(net, x, y, 200, epsilon=1e-4, exceed="note"))
    assert any("Not certified" in note for note in noted.notes)


def test_the_allowed_bound_is_theorem_3() -> None:
    # delta = 1.5 exp(-c^2 / 2) with c = 4
    assert allowed_bound(10.0, 0.5, 1.5 * math.exp(-8)) == pytest.approx(10 * 0.5 / 4)


def test_what_the_guarantee_does_not_hold_for_is_refused(rows: tuple[Tensor, Tensor]) -> None:
    x, y = rows
    with pytest.raises(InputError, match="length at most 1"):
        CertifiedLinear.trained_on(2 * x, y)
    with pytest.raises(InputError, match=r"CertifiedLinear\.trained_on"):
        run_net_job(job(nn.Linear(30, 2).double(), x, y, 5))


def test_several_classes_have_a_bound_each() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.randn(90, 4, generator=generator) * 0.1 + torch.eye(4)[y] * 0.5
    net = CertifiedLinear.trained_on(x / x.norm(dim=1).max(), y, classes=3, lam=LAM, sigma=0.1)
    assert net.bound.shape == (3,)
    assert float((net(x).argmax(1) == y).float().mean()) > 0.9
