"""Influence, IAU and the baselines for ordinary nets against the reference implementations' numbers (deepnets_*.json)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from _fixtures import fixture_params, read_fixture
from _nets import CROSS_ENTROPY, DEVICE, net_of, rows, tensor, tolerance_of
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from efface.data.problem import NetTraining
from efface.evals.nets.similarity import js_divergence, zrf
from efface.methods.nets.bad_teacher import bad_teacher_loss
from efface.methods.nets.base import NetData, NetMethod, Turn, make_optimizer
from efface.methods.nets.boundary_shrink import fgsm
from efface.methods.nets.certified_removal import newton_removal, residual_bound, row_gradient
from efface.methods.nets.curvature import woodbury_solve, woodfisher_reference
from efface.methods.nets.fisher import batch_fisher_diagonal, noise_variance
from efface.methods.nets.gradients import diagonal_fisher, mean_gradient
from efface.methods.nets.iau import IAU, combined_gradient, gradient_norm
from efface.methods.nets.influence import Influence, first_gradients
from efface.methods.nets.salun import largest, saliency
from efface.methods.nets.scrub import distillation_kl
from efface.methods.nets.ssd import dampened, importances
from efface.methods.nets.unsir import noise_loss
from efface.train.net import fit
from efface.train.net_recipe import penalised_loss
from efface.train.net_tools import Tools

PATTERNS = ("deepnets_iau*.json", "deepnets_influence*.json", "deepnets_baselines*.json")


def batches(part: tuple[Tensor, Tensor], length: int) -> list[tuple[Tensor, Tensor]]:
    x, y = part
    return [(x[start : start + length], y[start : start + length]) for start in range(0, len(x), length)]


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def unlearned(method: NetMethod, net: nn.Module, *, retain: dict[str, Any], forget: dict[str, Any]) -> dict[str, Tensor]:
    tools = Tools(seed=0, generator=torch.Generator(), batch_size=len(retain["x"]), loss=CROSS_ENTROPY)
    data = NetData(TensorDataset(*rows(forget)), TensorDataset(*rows(retain)), "classification")
    return state_of(method.run(net, data, tools))


def found_gr_training_step(case: dict[str, Any], _: Any) -> dict[str, Any]:
    params, net = case["params"], net_of(case)
    optimizer = params["optimizer"].split()[0].lower()
    recipe = NetTraining(gradient_penalty=params["alpha"], learning_rate=params["lr"], optimizer=optimizer)
    penalised = penalised_loss(CROSS_ENTROPY, recipe)
    parts = [rows(batch) for batch in case["inputs"]["batches"]]
    x, y = parts[0]
    norms = [gradient_norm([gradient]) for gradient in mean_gradient(net, parts[:1], CROSS_ENTROPY).values()]
    first = {"first_batch_ce": CROSS_ENTROPY(net(x), y), "first_batch_loss": penalised(net, parts[0])}
    fit(net, parts, Turn(penalised, make_optimizer(net.parameters(), recipe)))
    return {**first, "first_batch_per_tensor_grad_norms": torch.stack(norms), "model_state": state_of(net)}


def found_iau_update(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, remain, gone = net_of(case), case["inputs"]["remain"], case["inputs"]["forget"]
    retain, forget = (mean_gradient(net, [rows(part)], CROSS_ENTROPY) for part in (remain, gone))
    both = {name: combined_gradient(retain[name], forget[name]) for name in retain}
    method = IAU(step="adam_sign", scale="mean", learning_rate=case["params"]["lr"])
    moved = unlearned(method, net, retain=remain, forget=gone)
    return {"grad_mean_remain": retain, "grad_mean_forget": forget, "accumulated_grad": both, "model_state_adam": moved}


def sample_gradients(net: nn.Module, part: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat(list(first_gradients(net, [part], CROSS_ENTROPY, len(part[0]))))


def found_woodfisher_reference(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, v = net_of(case), tensor(case["inputs"]["v"])
    gradients = sample_gradients(net, rows(case["inputs"]["retain"]))
    k = woodfisher_reference(v, iter(gradients), count=case["params"]["N"])
    return {"k": k, "abs_cos_of_(k-v)_with_first_sample_gradient": F.cosine_similarity(k - v, gradients[0], dim=0).abs()}


def found_woodbury_exact(case: dict[str, Any], fixture: Any) -> dict[str, Any]:
    other = next(each for each in fixture["cases"] if each["id"] == case["inputs"]["same_as"])
    net, v = net_of(other), tensor(other["inputs"]["v"])
    return {"k": woodbury_solve(v, sample_gradients(net, rows(other["inputs"]["retain"])), count=other["params"]["N"])}


def found_wfisher_unlearn(case: dict[str, Any], _: Any) -> dict[str, Any]:
    params = case["params"]
    method = Influence(
        solver="woodfisher_reference",
        last_layer=False,
        alpha=params["alpha"],
        samples=params["N"],
        batch_size=params["batch_size"],
    )
    return {"model_state": unlearned(method, net_of(case), retain=case["inputs"]["retain"], forget=case["inputs"]["forget"])}


def found_empirical_fisher_diag(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net = net_of(case)
    return {"fisher": diagonal_fisher(net, [rows(case["inputs"]["retain"])], CROSS_ENTROPY)}


def found_fisher_forgetting_mean_var(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, params = net_of(case), case["params"]
    parts = batches(rows(case["inputs"]["retain"]), params["hessian_batch"])
    squares = batch_fisher_diagonal(net, parts, params["num_classes"])
    variances = {
        name: noise_variance(value, alpha=params["alpha"], num_classes=params["num_classes"]) for name, value in squares.items()
    }
    return {"grad2": squares, "var": variances}


def found_salun_mask(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net, params = net_of(case), case["params"]
    scores = saliency(net, batches(rows(case["inputs"]["forget"]), params["batch_size"]), CROSS_ENTROPY)
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
    net, params = net_of(case), case["params"]
    retain, forget = rows(case["inputs"]["retain"]), rows(case["inputs"]["forget"])
    every = (torch.cat([retain[0], forget[0]]), torch.cat([retain[1], forget[1]]))
    of_forget = importances(net, batches(forget, params["forget_batch"]), CROSS_ENTROPY)
    of_all = importances(net, batches(every, params["full_batch"]), CROSS_ENTROPY)
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
    net, params = net_of(case), case["params"]
    noise = nn.Parameter(tensor(case["inputs"]["noise"]))
    labels = torch.full((len(noise),), params["forget_class"], device=DEVICE)
    turn = Turn(
        lambda net, _: noise_loss(net(noise), labels, noise, CROSS_ENTROPY, l2=params["l2"]),
        torch.optim.Adam([noise], lr=params["lr"]),
    )
    fit(net, [None] * params["steps"], turn)
    return {"noise": noise}


def found_boundary_shrink_fgsm(case: dict[str, Any], _: Any) -> dict[str, Any]:
    net = net_of(case)
    moved = fgsm(net, *rows(case["inputs"]), bound=case["params"]["bound"], loss=CROSS_ENTROPY)
    return {"x_adv": moved, "nearest_wrong_label": net(moved).argmax(-1)}


def found_scrub_kl(case: dict[str, Any], _: Any) -> dict[str, Any]:
    inputs = case["inputs"]
    return {
        "loss": distillation_kl(tensor(inputs["student_logits"]), tensor(inputs["teacher_logits"]), case["params"]["temperature"])
    }


def found_certified_removal_newton(case: dict[str, Any], _: Any) -> dict[str, Any]:
    inputs, lam = case["inputs"], case["params"]["lam"]
    x, y, w = (tensor(inputs[name]) for name in ("X", "y", "w"))
    gone = torch.zeros(len(x), dtype=torch.bool, device=DEVICE)
    gone[inputs["remove_index"]] = True
    gradient = row_gradient(w, x[gone], y[gone], lam)
    delta = newton_removal(w, x[~gone], y[~gone], gradient, lam)
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
        compare(found[name], expected, tolerance_of(fixture), name)


def compare(found: Any, expected: Any, tolerance: dict[str, float], name: str) -> None:
    if isinstance(expected, dict):
        assert set(found) == set(expected), name
        for key, value in expected.items():
            compare(found[key], value, tolerance, f"{name}.{key}")
        return
    found = torch.as_tensor(found, device=DEVICE).detach().double()
    torch.testing.assert_close(found, tensor(expected), **tolerance, msg=lambda m: f"{name}: {m}")
