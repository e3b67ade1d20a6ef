"""Ordinary nets through the verbs and through a run, on a problem that trains in a second."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from _blobs import FORGET, PROBLEM, RETAIN, LightningModule, X, Y, blobs, frame, same, weights
from torch import nn

import efface
from efface.data.problem import NetTraining, Problem
from efface.errors import InputError, MissingNeed
from efface.methods.nets.fine_tune import FineTune
from efface.models.net_files import load_net
from efface.run import execute
from efface.run.net_problem import find_problem
from efface.run.sequence import execute_in_turn

FORMS = {
    "data sets": (FORGET, RETAIN, {}),
    "pairs of tensors": ((X[Y == 2], Y[Y == 2]), (X[Y != 2], Y[Y != 2]), {}),
    "arrays": ((X[Y == 2].numpy(), Y[Y == 2].numpy()), (X[Y != 2].numpy(), Y[Y != 2].numpy()), {}),
    "frames": (frame(Y == 2), frame(Y != 2), {"target": "y"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_unlearn_takes_rows_in_every_form_and_gives_the_same_net(net, form):
    before, reference = weights(net), efface.unlearn(net, forget=FORGET, retain=RETAIN, method="fine_tune", task="classification")
    forget, retain, extra = FORMS[form]
    made = efface.unlearn(net, forget=forget, retain=retain, method="fine_tune", task="classification", **extra)
    assert made.weights_hash == reference.weights_hash
    assert same(before, weights(net))
    assert not same(before, weights(made.model))
    assert made.history[-1].values["forget_loss"] > made.history[0].values["forget_loss"]


def test_unlearn_in_place_and_by_object(net):
    before = weights(net)
    made = efface.unlearn(net, forget=FORGET, retain=RETAIN, method=FineTune(epochs=2), task="classification", inplace=True)
    assert not same(before, weights(net))
    assert same(weights(net), weights(made.model))
    assert made.method["epochs"] == 2


def test_unlearn_without_labels_where_the_method_reads_none(net):
    made = efface.unlearn(net, forget=X[Y == 2], retain=X[Y != 2], method={"name": "laf", "epochs": 2}, task="classification")
    assert np.isfinite(made.cost.seconds)
    assert made.method["mode"] == "eval"


def test_retraining_needs_a_recipe_and_fresh_weights(net):
    with pytest.raises(MissingNeed, match="no recipe was given"):
        efface.unlearn(net, forget=FORGET, retain=RETAIN, method="retrain", task="classification")
    made = efface.unlearn(
        net,
        forget=FORGET,
        retain=RETAIN,
        method="retrain",
        task="classification",
        training=NetTraining(epochs=20, learning_rate=0.02),
    )
    assert str(made.intention) == "exact"
    assert (made.model(X[Y == 2]).argmax(1) == 2).sum() == 0
    assert (made.model(X[Y != 2]).argmax(1) == Y[Y != 2]).float().mean() > 0.8


class Wrapped(nn.Module):
    """A classifier that answers with an object that holds logits, as Hugging Face's do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.inner(pixel_values)}


def test_logits_and_inner_nets_are_found(net):
    plain = efface.unlearn(net, forget=FORGET, retain=RETAIN, method="fine_tune", task="classification")
    for other in (Wrapped(copy.deepcopy(net)), LightningModule(copy.deepcopy(net))):
        made = efface.unlearn(other, forget=FORGET, retain=RETAIN, method="fine_tune", task="classification")
        assert same(weights(made.model), weights(plain.model))


def test_an_image_classifier_of_hugging_face():
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=3, **sizes))
    pixels, labels = torch.rand(12, 1, 8, 8), torch.arange(12) % 3
    rows = {"forget": (pixels[:4], labels[:4]), "retain": (pixels[4:], labels[4:])}
    moved = efface.unlearn(model, **rows, method={"name": "laf", "epochs": 1, "vae_epochs": 1}, task="classification")
    assert moved.model(pixels).logits.shape == (12, 3)
    fresh = efface.unlearn(model, **rows, method="retrain", task="classification", training=NetTraining(epochs=1))
    assert not torch.equal(fresh.model.classifier.weight, model.classifier.weight)


def test_an_unchanged_forget_loss_is_said(net):
    still = FineTune(epochs=1, learning_rate=1e-9)
    made = efface.unlearn(net, forget=FORGET, retain=RETAIN, method=still, task="classification")
    assert any("hardly moved" in note for note in made.notes)
    far = FineTune(epochs=20, learning_rate=0.02)
    made = efface.unlearn(net, forget=FORGET, retain=RETAIN, method=far, task="classification")
    assert not any("hardly moved" in note for note in made.notes)


def test_class_forgetting_is_noted(net):
    made = efface.unlearn(net, forget=FORGET, retain=RETAIN, method="fine_tune", task="classification")
    assert any("All forget rows are of class 2" in note for note in made.notes)


def test_run_writes_a_report_and_is_continued(request_file, tmp_path):
    request = efface.ForgetRequest.read(request_file)
    with pytest.raises(InputError, match="add --allow-code"):
        execute(request, output=tmp_path / "run")
    first = execute(request, output=tmp_path / "run", allow_code=True)
    assert set(first.results) == {"retrained", "original", "unlearned", "retrained_2"}
    assert first.results["original"].value("forget_accuracy") > 0.7
    assert first.results["retrained"].value("forget_accuracy") == 0
    assert first.facts["steps_executed"] > 0
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "not audited"
    assert str(tmp_path) not in json.dumps(report)
    assert "the model “blobs” forget 30 rows" in report["headline"][0]
    again = execute(request, output=tmp_path / "run", allow_code=True)
    assert again.facts == {"steps_executed": 0.0, "items_scored": 0.0}
    assert again.results["unlearned"].metrics["forget_accuracy"] == first.results["unlearned"].metrics["forget_accuracy"]
    other = efface.ForgetRequest.read(request_file, ["method.epochs=4"])
    with pytest.raises(InputError, match=r"belongs to another request: method\.epochs"):
        execute(other, output=tmp_path / "run", allow_code=True)


def test_what_is_shipped_is_what_was_measured(request_file, tmp_path):
    request = efface.ForgetRequest.read(request_file, ["retrained_2=none"])
    ran = execute(request, output=tmp_path / "run", allow_code=True)
    fresh = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    loaded = load_net(fresh, tmp_path / "run" / "model")
    accuracy = (loaded(X[Y == 2]).argmax(1) == 2).float().mean()
    assert ran.results["unlearned"].value("forget_accuracy") == pytest.approx(float(accuracy))
    assert "retrained_2" not in ran.results
    made = efface.unlearn(request=request, allow_code=True)
    assert made.weights_hash == ran.unlearned.weights_hash
    figures = efface.evaluate(made, request=request, allow_code=True)
    assert figures.value("average_gap") == pytest.approx(ran.results["unlearned"].value("average_gap"))


def test_requests_in_a_row_continue_on_what_the_one_before_left(request_file, tmp_path):
    first = efface.ForgetRequest.read(request_file)
    second = efface.ForgetRequest.read(request_file, ["method.name=scrub", "method.epochs=2"])
    runs = execute_in_turn([first, second], output=tmp_path / "row", allow_code=True)
    left, found = (run.results[role] for run, role in zip(runs, ("unlearned", "original"), strict=True))
    assert found["forget_loss"].value == pytest.approx(left["forget_loss"].value)
    assert left["forget_loss"].value != pytest.approx(runs[0].results["original"]["forget_loss"].value)


def test_another_training_seed_is_another_original(request_file, tmp_path):
    hashes = set()
    for seed in (0, 1):
        request = efface.ForgetRequest.read(request_file, [f"seeds.training={seed}", "retrained=none", "retrained_2=none"])
        ran = execute(request, output=tmp_path / f"run{seed}", allow_code=True)
        assert set(ran.results) == {"original", "unlearned"}
        hashes.add(ran.results["original"].fingerprint)
    assert len(hashes) == 2
    assert len(list((tmp_path / "cache" / "models").iterdir())) == 2


@pytest.mark.parametrize("name", ["state.pt", "state.safetensors", "lightning.ckpt"])
def test_the_original_may_be_a_checkpoint(request_file, tmp_path, net, name):
    from safetensors.torch import save_file

    file, state = tmp_path / name, net.state_dict()
    if name.endswith(".ckpt"):
        torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}}, file)
    elif name.endswith(".pt"):
        torch.save(state, file)
    else:
        save_file(state, file)
    overrides = [f"model={file}", "retrained=none", "retrained_2=none"]
    ran = execute(efface.ForgetRequest.read(request_file, overrides), output=tmp_path / "run", allow_code=True)
    found = ran.results["original"].value("forget_accuracy")
    assert found == pytest.approx(float((net(X[Y == 2]).argmax(1) == 2).float().mean()))


def test_evaluate_takes_a_problem(net):
    problem = Problem("classification", lambda seed: copy.deepcopy(net), (X, Y), blobs(45, 1), [2, 5, 8])
    figures = efface.evaluate(net, problem=problem, role="mine")
    assert figures.role == "mine"
    assert figures.value("retain_accuracy") > 0.7
    with pytest.raises(InputError, match="The model is a int"):
        efface.evaluate(3, problem=problem)
    with pytest.raises(InputError, match="suite, original cannot be given for a net"):
        efface.evaluate(net, problem=problem, suite="tofu", original=net)


def test_evaluate_leaves_the_random_state_alone_and_does_not_depend_on_it(net):
    def make(seed: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    problem, found = Problem("classification", make, (X, Y), blobs(45, 1), [2, 5, 8]), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(efface.evaluate(net, problem=problem).value("zrf"))
        assert torch.equal(before, torch.get_rng_state())
    assert found[0] == found[1]


def test_another_net_at_the_same_place_is_another_request(request_file, tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    request = efface.ForgetRequest.read(request_file, ["model=./net.pt", "retrained=none", "retrained_2=none"])
    request = request.model_copy(update={"model": str(tmp_path / "net.pt")})
    execute(request, output=tmp_path / "run", allow_code=True)
    net[0].weight.data += 1
    torch.save(net.state_dict(), tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"another request: weights\.original"):
        execute(request, output=tmp_path / "run", allow_code=True)


def test_code_that_a_problem_file_imports_decides_its_nets(request_file, tmp_path):
    (tmp_path / "blobs.py").write_text(f"from blob_parts import HIDDEN\n{PROBLEM.replace('16', 'HIDDEN')}", encoding="utf-8")
    (tmp_path / "blob_parts").mkdir()
    (tmp_path / "blob_parts" / "__init__.py").write_text("from .sizes import HIDDEN", encoding="utf-8")
    found = []
    for hidden in (16, 16, 32):
        (tmp_path / "blob_parts" / "sizes.py").write_text(f"HIDDEN = {hidden}", encoding="utf-8")
        problem, identity = find_problem(str(tmp_path / "blobs.py"), allow_code=True)
        found.append((identity, problem.make_model(0)[0].out_features))
    assert found[0] == found[1] != found[2]
    assert [width for _, width in found] == [16, 16, 32]
    (tmp_path / "unused.py").write_text("", encoding="utf-8")
    assert find_problem(str(tmp_path / "blobs.py"), allow_code=True)[1] == found[2][0]
    other = tmp_path / "other"  # a module of the same name beside another file
    shutil.copytree(tmp_path / "blob_parts", other / "blob_parts")
    shutil.copy(tmp_path / "blobs.py", other)
    (other / "blob_parts" / "sizes.py").write_text("HIDDEN = 8", encoding="utf-8")
    assert find_problem(str(other / "blobs.py"), allow_code=True)[0].make_model(0)[0].out_features == 8


def test_the_page_of_certified_removal_runs(tmp_path, monkeypatch):
    page = Path(__file__).resolve().parents[2] / "docs" / "methods" / "nets" / "certified_removal.md"
    for name, code in re.findall(r"```(?:python|yaml)\n# (\w+\.\w+)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(compile((tmp_path / "nets.py").read_text(encoding="utf-8"), "nets.py", "exec"), {"__name__": "example"})
    ran = execute(efface.ForgetRequest.read("request.yaml"), allow_code=True)
    assert ran.unlearned.notes[0].startswith("Certified for epsilon 1")
    assert ran.results["unlearned"].value("average_gap") == pytest.approx(0, abs=0.1)


FEW = PROBLEM.replace("train=rows(90, 0)", "train=(rows(90, 0).tensors[0], [i % 3 if i % 5 else None for i in range(90)])").replace(
    "forget=lambda x, y: int(y) == 2", "forget=range(2, 90, 3)"
)


@pytest.mark.parametrize("method", ["laf", "laf_r"])
def test_a_problem_may_lack_labels_that_the_method_does_not_read(tmp_path, monkeypatch, net, method):
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path / "cache"))
    code = "\n".join(line for line in FEW.splitlines() if "training=" not in line)
    (tmp_path / "few.py").write_text(code, encoding="utf-8")
    torch.save(net.state_dict(), tmp_path / "original.pt")
    tree = {"task": "classification", "problem": str(tmp_path / "few.py"), "model": str(tmp_path / "original.pt")}
    request = efface.ForgetRequest.from_tree({**tree, "method": {"name": method, "epochs": 1, "vae_epochs": 1}})
    made = efface.unlearn(request=request, output=tmp_path / "out", allow_code=True)
    assert made.path == tmp_path / "out"
    assert efface.unlearn(request=request, output=tmp_path / "again", allow_code=True).weights_hash == made.weights_hash


def test_a_fresh_net_may_lack_the_wrapper_of_the_net(net):
    wrapped = nn.DataParallel(net)
    plain = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    settings = {"forget": FORGET, "retain": RETAIN, "task": "classification", "method": "bad_teacher"}
    assert efface.unlearn(wrapped, make_model=lambda seed: copy.deepcopy(plain), **settings).path.is_dir()


def test_a_problem_with_few_labels_is_trained_relearned_and_measured_on_the_rows_that_have_one(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "few.py").write_text(FEW, encoding="utf-8")
    tree = {"task": "classification", "problem": str(tmp_path / "few.py"), "method": {"name": "laf", "epochs": 1, "vae_epochs": 1}}
    done = execute(efface.ForgetRequest.from_tree(tree), output=tmp_path / "run", allow_code=True)
    found = done.results["unlearned"]
    assert found["forget_accuracy"].n == 24  # of 30 rows, every fifth has none
    assert found["retain_accuracy"].n == 48
    assert done.report.is_file()
