"""Influence steps against exact retraining, and the solvers against each other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from efface.errors import InputError, MissingNeed
from efface.methods.nets.curvature import conjugate_gradients, diagonal_solve, lissa, woodbury_solve
from efface.methods.nets.gradients import (
    curvature_product,
    flatten,
    mean_gradient,
    per_sample_gradients,
    trained,
    unflatten,
)
from efface.methods.nets.iau import IAU, combined_gradient, direction, gradient_norm
from efface.methods.nets.influence import Influence, exact_solve, influence_direction, mean_curvature_product
from efface.models.net_losses import NetLoss
from efface.train.unlearn_net import NetJob, run_net_job

PENALTY = 1e-2


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data / 16.0), torch.tensor(data.target)


def penalised(outputs: Tensor, y: Tensor, net: nn.Module) -> Tensor:
    return F.cross_entropy(outputs, y) + PENALTY * sum(p.square().sum() for p in net.parameters()) / 2


def logistic(x: Tensor, y: Tensor, start: Tensor | None = None) -> nn.Linear:
    """Return the minimiser of the mean cross entropy with an l2 penalty, to the last digits."""
    net = nn.Linear(x.shape[1], 10, dtype=torch.float64)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
        if start is not None:
            for p, value in zip(net.parameters(), unflatten(start, trained(net)).values(), strict=True):
                p.copy_(value)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = penalised(net(x), y, net)
        loss.backward()
        return loss

    optimizer.step(closure)
    return net


@pytest.mark.parametrize(("k", "least"), [(1, 0.99), (20, 0.95)])
def test_newton_step_points_where_exact_retraining_goes(digits: tuple[Tensor, Tensor], k: int, least: float) -> None:
    x, y = digits[0][:400], digits[1][:400]
    full, without = logistic(x, y), logistic(x[k:], y[k:])
    gone = flatten(mean_gradient(full, [(x[:k], y[:k])], F.cross_entropy))
    kept = flatten(mean_gradient(full, [(x[k:], y[k:])], F.cross_entropy))
    v = influence_direction(kept, gone, retain_rows=len(x) - k, forget_rows=k)
    product = mean_curvature_product(full, [(x[k:], y[k:])], F.cross_entropy, gauss_newton=True)
    step = conjugate_gradients(product, v, damping=PENALTY, iterations=2000, tolerance=1e-10)
    truth = flatten(trained(without)) - flatten(trained(full))
    assert float(F.cosine_similarity(step, truth.detach(), dim=0)) > least
    assert float(step.norm() / truth.norm()) == pytest.approx(1, abs=0.15)


def test_solvers_agree(digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:60, :20], digits[1][:60] % 3
    torch.manual_seed(0)
    net = nn.Linear(20, 3, dtype=torch.float64)
    v = torch.randn(63, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    product = curvature_product(net, x, y, F.cross_entropy, gauss_newton=True)
    damping = 0.05
    exact = exact_solve(product, v, damping=damping)
    cg = conjugate_gradients(product, v, damping=damping, iterations=500, tolerance=1e-10)
    scale = 5.0
    neumann = lissa(product, v, damping=damping / scale, scale=scale, iterations=20_000, tolerance=1e-10)
    for found in (cg, neumann):
        assert float((found - exact).norm() / exact.norm()) < 1e-3


def test_woodbury_is_the_inverse_of_the_damped_fisher(digits: tuple[Tensor, Tensor]) -> None:
    rows = torch.randn(7, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for damping in (1.0, 0.1):
        matrix = damping * torch.eye(12, dtype=torch.float64) + rows.T @ rows / 7
        torch.testing.assert_close(woodbury_solve(v, rows, damping=damping), torch.linalg.solve(matrix, v))
    torch.testing.assert_close(diagonal_solve(v, torch.zeros_like(v), damping=0.5), 2 * v)


def test_the_hessian_product_is_the_derivative_of_the_gradient() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    point = flatten(trained(net)).detach()
    v = torch.randn(len(point), dtype=torch.float64)

    def gradient_at(offset: float) -> Tensor:
        with torch.no_grad():
            for p, value in zip(net.parameters(), unflatten(point + offset * v, trained(net)).values(), strict=True):
                p.copy_(value)
        return flatten(mean_gradient(net, [(x, y)], F.cross_entropy))

    numeric = (gradient_at(1e-5) - gradient_at(-1e-5)) / 2e-5
    gradient_at(0.0)
    torch.testing.assert_close(curvature_product(net, x, y, F.cross_entropy)(v), numeric, rtol=1e-6, atol=1e-8)


def test_conjugate_gradients_refuse_negative_curvature() -> None:
    with pytest.raises(InputError, match="Raise the damping"):
        conjugate_gradients(lambda v: -v, torch.ones(3), damping=0.1)


def test_lissa_refuses_a_scale_below_the_largest_eigenvalue() -> None:
    with pytest.raises(InputError, match="LiSSA diverges"):
        lissa(lambda v: 100 * v, torch.ones(3), scale=1.0)


def test_exact_refuses_what_would_not_fit() -> None:
    with pytest.raises(InputError, match="solver: cg"):
        exact_solve(lambda v: v, torch.zeros(6000), damping=0.1)


def test_per_sample_gradients_are_those_of_single_rows() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 36, 3)).eval()
    net[3].bias.requires_grad_(False)
    x, y = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    together = per_sample_gradients(net, x, y, F.cross_entropy)
    assert "3.bias" not in together
    for row in range(5):
        alone = mean_gradient(net, [(x[row : row + 1], y[row : row + 1])], F.cross_entropy)
        for name, gradient in alone.items():
            torch.testing.assert_close(together[name][row], gradient, rtol=1e-4, atol=1e-6)


def test_mean_gradient_counts_rows_and_not_batches() -> None:
    torch.manual_seed(0)
    net, x, y = nn.Linear(3, 2), torch.randn(7, 3), torch.tensor([0, 1, 0, 1, 1, 0, 1])
    whole = mean_gradient(net, [(x, y)], F.cross_entropy)
    parts = mean_gradient(net, [(x[:4], y[:4]), (x[4:], y[4:])], F.cross_entropy)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name])
    with pytest.raises(InputError, match="no rows"):
        mean_gradient(net, [], F.cross_entropy)


@pytest.mark.parametrize("solver", ["diagonal", "woodfisher", "woodfisher_reference", "cg", "lissa", "exact"])
def test_every_solver_raises_the_forget_loss(digits: tuple[Tensor, Tensor], solver: str) -> None:
    x, y = digits[0][:300].float(), digits[1][:300]
    net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    torch.manual_seed(0)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    forget, retain = TensorDataset(x[:30], y[:30]), TensorDataset(x[30:], y[30:])
    # published code damps by 1, so that its step is one plain gradient difference
    alpha = 300.0 if solver == "woodfisher_reference" else 1.0
    job = NetJob(
        net=net,
        method=Influence(solver=solver, alpha=alpha, iterations=400),
        forget=forget,
        retain=retain,
        task="classification",
        loss=NetLoss(None, task="classification"),
    )
    made = run_net_job(job).net
    with torch.no_grad():
        assert float(F.cross_entropy(made(x[:30]), y[:30])) > float(F.cross_entropy(net(x[:30]), y[:30]))
    assert torch.equal(made[0].weight, net[0].weight), "only the last layer changes by default"


def test_kfac_says_what_to_install_or_solves() -> None:
    net = nn.Linear(4, 3)
    x, y = torch.randn(10, 4), torch.arange(10) % 3
    v = torch.randn(15)
    from efface.methods.nets.kfac import kfac_solve

    try:
        import curvlinops  # noqa: F401
    except ImportError:
        with pytest.raises(MissingNeed, match=r"efface\[kfac\]"):
            kfac_solve(net, v, [(x, y)], damping=0.1, loss="cross_entropy")
        return
    assert float(kfac_solve(net, v, [(x, y)], damping=0.1, loss="cross_entropy") @ v) > 0


def test_iau_sums_weigh_the_sets_by_their_rows() -> None:
    retain, forget = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    torch.testing.assert_close(combined_gradient(retain, forget), torch.tensor([-2.0, 3.0]))
    by_sums = (90 * retain - 10 * forget) / 100
    torch.testing.assert_close(combined_gradient(retain, forget, forget_share=0.1), by_sums)


def test_iau_directions() -> None:
    gradient = torch.tensor([2.0, -0.5, 0.0])
    assert direction(gradient, "sgd") is gradient
    torch.testing.assert_close(direction(gradient, "adam_sign"), torch.tensor([1.0, -1.0, 0.0]))
    fisher = torch.tensor([0.99, 0.49, 0.0])
    torch.testing.assert_close(direction(gradient, "diag_fisher", fisher=fisher), torch.tensor([2.0, -1.0, 0.0]))


def test_gradient_norms_of_gr_training() -> None:
    gradients = [torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])]
    assert float(gradient_norm(gradients)) == pytest.approx(17)
    assert float(gradient_norm(gradients, kind="global")) == pytest.approx(13)
    zero = torch.zeros(2, requires_grad=True)
    gradient_norm([zero]).backward()
    assert bool(torch.isfinite(zero.grad).all())


def test_iau_search_keeps_the_retain_loss_within_its_tolerance(digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:300].float(), digits[1][:300]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    zeros = y == 0
    for step in ("sgd", "adam_sign", "diag_fisher"):
        job = NetJob(
            net=net,
            method=IAU(step=step, tolerance=0.1),
            forget=TensorDataset(x[zeros], y[zeros]),
            retain=TensorDataset(x[~zeros], y[~zeros]),
            task="classification",
            loss=NetLoss(None, task="classification"),
        )
        outcome = run_net_job(job)
        with torch.no_grad():
            before, after = (float(F.cross_entropy(n(x[~zeros]), y[~zeros])) for n in (net, outcome.net))
            forgot = float(F.cross_entropy(outcome.net(x[zeros]), y[zeros]) - F.cross_entropy(net(x[zeros]), y[zeros]))
        assert after <= before + 0.1 + 1e-6
        assert forgot > 0.1, step
