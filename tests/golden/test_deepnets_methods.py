"""Influence, IAU and the baselines for ordinary nets against the reference implementations' numbers (deepnets_*.json)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from _fixtures import fixture_params, read_fixture
from torch import Tensor, nn

from efface.evals.nets.similarity import js_divergence, zrf
from efface.methods.nets.bad_teacher import bad_teacher_loss
from efface.methods.nets.boundary_shrink import fgsm
from efface.methods.nets.certified_removal import newton_removal, residual_bound, row_gradient
from efface.methods.nets.curvature import woodbury_solve, woodfisher_reference
from efface.methods.nets.fisher import batch_fisher_diagonal, noise_variance
from efface.methods.nets.gradients import diagonal_fisher, flatten, mean_gradient, unflatten
from efface.methods.nets.iau import combined_gradient, direction, gradient_norm
from efface.methods.nets.influence import first_gradients, influence_direction
from efface.methods.nets.salun import largest, saliency
from efface.methods.nets.scrub import distillation_kl
from efface.methods.nets.ssd import dampened, importances
from efface.methods.nets.unsir import noise_loss

PATTERNS = ("deepnets_iau*.json", "deepnets_influence*.json", "deepnets_baselines*.json")


class FixtureNet(nn.Module):
    """The linear layers of a stored state in order, tanh between them."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self.order = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
        for name in self.order:
            outputs, inputs = tensor(state[f"{name}.weight"]).shape
            setattr(self, name, nn.Linear(inputs, outputs, dtype=torch.float64))
        self.load_state_dict({name: tensor(value) for name, value in state.items()})

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for name in self.order[:-1]:
            x = torch.tanh(getattr(self, name)(x))
        return getattr(self, self.order[-1])(x)


def tensor(value: Any) -> Tensor:
    made = torch.tensor(value)
    return made.double() if made.is_floating_point() else made


def rows(part: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return tensor(part["x"]), tensor(part["y"])


def batches(part: tuple[Tensor, Tensor], length: int) -> list[tuple[Tensor, Tensor]]:
    x, y = part
    return [(x[start : start + length], y[start : start + length]) for start in range(0, len(x), length)]


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def found_gr_training_step(case: dict[str, Any], _: Any) -> dict[str, Any]:
    params, net = case["params"], FixtureNet(case["inputs"]["model_state"])
    optimizer = torch.optim.Adam(net.parameters(), lr=params["lr"])
    first: dict[str, Any] = {}
    for batch in case["inputs"]["batches"]:
        x, y = rows(batch)
        plain = F.cross_entropy(net(x), y)
        gradients = torch.autograd.grad(plain, list(net.parameters()), create_graph=True)
        loss = plain + params["alpha"] * gradient_norm(gradients)
        if not first:
            norms = [gradient_norm([gradient]).detach() for gradient in gradients]
            first = {"first_batch_ce": plain.detach(), "first_batch_loss": loss.detach()}
            first["first_batch_per_tensor_grad_norms"] = torch.stack(norms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {**first, "model_state": state_of(net)}


def found_iau_update(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net = FixtureNet(case["inputs"]["model_state"])
    retain = mean_gradient(net, [rows(case["inputs"]["remain"])], F.cross_entropy)
    forget = mean_gradient(net, [rows(case["inputs"]["forget"])], F.cross_entropy)
    both = {name: combined_gradient(retain[name], forget[name]) for name in retain}
    moved = {name: weight - case["params"]["lr"] * direction(both[name], "adam_sign") for name, weight in state_of(net).items()}
    return {"grad_mean_remain": retain, "grad_mean_forget": forget, "accumulated_grad": both, "model_state_adam": moved}


def sample_gradients(net: nn.Module, part: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat(list(first_gradients(net, [part], F.cross_entropy, len(part[0]))))


def found_woodfisher_reference(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, v = FixtureNet(case["inputs"]["model_state"]), tensor(case["inputs"]["v"])
    gradients = sample_gradients(net, rows(case["inputs"]["retain"]))
    k = woodfisher_reference(v, iter(gradients), count=case["params"]["N"])
    return {"k": k, "abs_cos_of_(k-v)_with_first_sample_gradient": F.cosine_similarity(k - v, gradients[0], dim=0).abs()}


def found_woodbury_exact(case: dict[str, Any], fixture: Any) -> dict[str, Any]:
    other = next(each for each in fixture["cases"] if each["id"] == case["inputs"]["same_as"])
    net, v = FixtureNet(other["inputs"]["model_state"]), tensor(other["inputs"]["v"])
    return {"k": woodbury_solve(v, sample_gradients(net, rows(other["inputs"]["retain"])), count=other["params"]["N"])}


def found_wfisher_unlearn(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, params = FixtureNet(case["inputs"]["model_state"]), case["params"]
    retain, forget = rows(case["inputs"]["retain"]), rows(case["inputs"]["forget"])
    v = influence_direction(
        flatten(mean_gradient(net, batches(retain, params["batch_size"]), F.cross_entropy)),
        flatten(mean_gradient(net, batches(forget, params["batch_size"]), F.cross_entropy)),
        retain_rows=len(retain[0]),
        forget_rows=len(forget[0]),
    )
    step = woodfisher_reference(v, iter(sample_gradients(net, retain)), count=params["N"])
    moved = flatten(state_of(net)) + params["alpha"] * step
    return {"model_state": unflatten(moved, state_of(net))}


def found_empirical_fisher_diag(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net = FixtureNet(case["inputs"]["model_state"])
    return {"fisher": diagonal_fisher(net, [rows(case["inputs"]["retain"])], F.cross_entropy)}


def found_fisher_forgetting_mean_var(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, params = FixtureNet(case["inputs"]["model_state"]), case["params"]
    parts = batches(rows(case["inputs"]["retain"]), params["hessian_batch"])
    squares = batch_fisher_diagonal(net, parts, params["num_classes"])
    variances = {
        name: noise_variance(value, alpha=params["alpha"], num_classes=params["num_classes"]) for name, value in squares.items()
    }
    return {"grad2": squares, "var": variances}


def found_salun_mask(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, params = FixtureNet(case["inputs"]["model_state"]), case["params"]
    scores = saliency(net, batches(rows(case["inputs"]["forget"]), params["batch_size"]), F.cross_entropy)
    return {f"mask_{share}": largest(scores, share) for share in params["keep_fraction"]}


def found_bad_teacher_loss(case: dict[str, Any], _: Any) -> dict[str, Any]:
    names = ("student_logits", "full_teacher_logits", "bad_teacher_logits", "forget_flag")
    inputs, temperature = [tensor(case["inputs"][name]) for name in names], case["params"]["temperature"]
    return {
        "loss_reference_mean_reduction": bad_teacher_loss(*inputs, temperature=temperature, reduction="mean"),
        "loss_batchmean": bad_teacher_loss(*inputs, temperature=temperature),
    }


def found_zrf(case: dict[str, Any], _: Any) -> dict[str, Any]:
    a, b = case["inputs"]["logits_a"], case["inputs"]["logits_b"]
    return {
        "jsdiv_reference": mean(js_divergence(a, b, variant="reference")),
        "zrf_reference": mean(zrf(a, b, variant="reference")),
        "js_standard_mean_nats": mean(js_divergence(a, b)),
        "zrf_standard": mean(zrf(a, b)),
    }


def mean(values: Any) -> Tensor:
    return torch.as_tensor(values).mean()


def found_ssd(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, params = FixtureNet(case["inputs"]["model_state"]), case["params"]
    retain, forget = rows(case["inputs"]["retain"]), rows(case["inputs"]["forget"])
    every = (torch.cat([retain[0], forget[0]]), torch.cat([retain[1], forget[1]]))
    of_forget = importances(net, batches(forget, params["forget_batch"]), F.cross_entropy)
    of_all = importances(net, batches(every, params["full_batch"]), F.cross_entropy)
    state = {
        name: dampened(
            weight,
            of_forget[name],
            of_all[name],
            selection=params["alpha_selection"],
            dampening=params["lambda_dampening"],
            upper=params["lower_bound"],
            exponent=params["exponent"],
        )
        for name, weight in state_of(net).items()
    }
    return {"forget_importance": of_forget, "full_importance": of_all, "model_state": state}


def found_unsir_noise(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, params = FixtureNet(case["inputs"]["model_state"]), case["params"]
    noise = tensor(case["inputs"]["noise"]).requires_grad_(True)
    labels = torch.full((len(noise),), params["forget_class"])
    optimizer = torch.optim.Adam([noise], lr=params["lr"])
    for _step in range(params["steps"]):
        optimizer.zero_grad()
        noise_loss(net(noise), labels, noise, F.cross_entropy, l2=params["l2"]).backward()
        optimizer.step()
    return {"noise": noise.detach()}


def found_boundary_shrink_fgsm(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net = FixtureNet(case["inputs"]["model_state"])
    moved = fgsm(net, *rows(case["inputs"]), bound=case["params"]["bound"], loss=F.cross_entropy)
    return {"x_adv": moved, "nearest_wrong_label": net(moved).argmax(-1)}


def found_scrub_kl(case: dict[str, Any], _: Any) -> dict[str, Any]:
    inputs = case["inputs"]
    return {
        "loss": distillation_kl(tensor(inputs["student_logits"]), tensor(inputs["teacher_logits"]), case["params"]["temperature"])
    }


def found_certified_removal_newton(case: dict[str, Any], _: Any) -> dict[str, Any]:
    inputs, lam = case["inputs"], case["params"]["lam"]
    x, y, w = (tensor(inputs[name]) for name in ("X", "y", "w"))
    gone = torch.zeros(len(x), dtype=torch.bool)
    gone[inputs["remove_index"]] = True
    gradient = row_gradient(w, x[gone], y[gone].double(), lam)
    delta = newton_removal(w, x[~gone], y[~gone].double(), gradient, lam)
    return {
        "grad_removed": gradient,
        "delta": delta,
        "w_new": w + delta,
        "grad_residual_bound": residual_bound(x[~gone], delta),
        "exact_spectral_norm_X_rem": torch.linalg.matrix_norm(x[~gone], 2),
    }


def cases() -> list[Any]:
    found = []
    for pattern in PATTERNS:
        for file in fixture_params(pattern):
            path = file.values[0]
            if path is None:
                found.append(pytest.param(None, None, marks=file.marks, id=f"{pattern}-absent"))
                continue
            found += [pytest.param(path, case, id=f"{path.stem}-{case['id']}") for case in read_fixture(path)["cases"]]
    return found


@pytest.mark.parametrize(("path", "case"), cases())
def test_case(path: Path, case: dict[str, Any]) -> None:
    compute: Callable[[dict[str, Any], Any], dict[str, Any]] | None = globals().get(f"found_{case['id']}")
    assert compute is not None, f"no test here reads the case {case['id']}"
    fixture = read_fixture(path)
    found = compute(case, fixture)
    assert set(found) == set(case["expected"])
    for name, expected in case["expected"].items():
        compare(found[name], expected, fixture["tolerance"], name)


def compare(found: Any, expected: Any, tolerance: dict[str, float], name: str) -> None:
    if isinstance(expected, dict):
        assert set(found) == set(expected), name
        for key, value in expected.items():
            compare(found[key], value, tolerance, f"{name}.{key}")
        return
    torch.testing.assert_close(
        found.detach().double(),
        tensor(expected).double(),
        rtol=tolerance["rtol"],
        atol=tolerance["atol"],
        msg=lambda m: f"{name}: {m}",
    )
