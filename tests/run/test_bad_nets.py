"""Ordinary nets, rows, problems and requests that are wrong: told in one line, with nothing changed or left behind."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from _blobs import FORGET, PROBLEM, RETAIN, LightningModule, X, Y, blobs, same, weights
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import efface
from efface.data.problem import NetTraining, Problem
from efface.errors import InputError, MissingNeed
from efface.run import execute


class Changing(Dataset):
    """Rows in another order each time."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.reads += 1
        return X[index], self.reads % 3


class Headless(nn.Module):
    """A net without a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def broken(value: float) -> TensorDataset:
    x = X[Y == 2].clone()
    x[3, 1] = value
    return TensorDataset(x, Y[Y == 2])


BAD = {
    "labels missing": (
        {"forget": X[Y == 2], "method": "neg_grad"},
        MissingNeed,
        "The forget rows have no labels and neg_grad reads them",
    ),
    "no retain set": ({"retain": None}, MissingNeed, "fine_tune needs rows to keep"),
    "shapes": (
        {"forget": TensorDataset(torch.ones(5, 7), torch.zeros(5).long())},
        InputError,
        "cannot take the forget rows, .* shape \\(7,\\)",
    ),
    "classes": (
        {"forget": TensorDataset(torch.ones(5, 4), torch.full((5,), 3)), "method": "neg_grad"},
        InputError,
        "labels run from 3 to 3 and the net tells 3",
    ),
    "no head": ({"net": Headless(), "method": "laf"}, InputError, "has no linear layer that could be its head"),
    "not a number": ({"forget": broken(float("nan"))}, InputError, "1 forget rows hold NaN or infinite values, such as row 3"),
    "infinite": ({"forget": broken(float("inf"))}, InputError, "1 forget rows hold NaN"),
    "a shuffling loader": ({"forget": DataLoader(FORGET, shuffle=True)}, InputError, "loader that shuffles"),
    "rows that change": ({"retain": Changing()}, InputError, "give other labels when they are read again"),
    "empty": ({"forget": TensorDataset(X[:0], Y[:0])}, InputError, "The forget set is empty"),
    "no forget set": ({"forget": None}, InputError, "No forget rows were given"),
    "no task": ({"task": None}, InputError, "The task is None"),
    "nothing but a net": ({"task": None, "forget": None, "retain": None}, InputError, "The model is a Sequential"),
    "task": ({"task": "ranking"}, InputError, "The task is 'ranking'"),
    "method for another task": ({"method": "blindspot"}, MissingNeed, "blindspot is no method for classification"),
    "method": ({"method": "laff"}, InputError, "no method for ordinary nets named 'laff'. Did you mean 'laf'"),
    "setting": ({"method": {"name": "laf", "epoch": 3}}, InputError, "unknown key 'epoch' \\(did you mean 'epochs'"),
    "no net": ({"net": "weights.pt"}, InputError, "The model is a str"),
    "several inner nets": ({"net": LightningModule(nn.Linear(4, 3))}, InputError, "holds 2 nets with weights"),
    "method without a name": ({"method": {"epochs": 3}}, InputError, "a mapping \\(epochs\\) without a name"),
    "method of another kind": ({"method": 3}, InputError, "The method is 3"),
    "seed": ({"seed": 1.5}, InputError, "The seed is 1.5"),
    "recipe": ({"training": 3}, InputError, "The training recipe is a int"),
    "best of no validation": ({"training": NetTraining(keep="best")}, InputError, "watches a validation set .* there is none"),
    "make_model": ({"make_model": 3}, InputError, "make_model is a int"),
    "another architecture": (
        {"make_model": lambda seed: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))},
        InputError,
        "another architecture: 0.weight is \\(8, 4\\) there and \\(16, 4\\)",
    ),
    "arguments of language models": ({"retention": "nll"}, InputError, "retention cannot be given for a net"),
    "no fresh net": ({"net": Headless(), "method": "retrain", "training": NetTraining()}, InputError, "no reset_parameters"),
}
BAD["several inner nets"][0]["net"].other = nn.Linear(2, 2)


@pytest.mark.parametrize("case", BAD)
def test_bad_input(net, case):
    changes, kind, message = BAD[case]
    given = {"net": net, "forget": FORGET, "retain": RETAIN, "method": "fine_tune", "task": "classification", **changes}
    model = given.pop("net")
    before = weights(model) if isinstance(model, nn.Module) else []
    with pytest.raises(kind, match=message):
        efface.unlearn(model, **given)
    assert not isinstance(model, nn.Module) or same(before, weights(model))


REFUSED = {
    "another task": (["task=regression", "method=blindspot"], "The request says task: regression and the problem blobs"),
    "keys of language models": (["retention=nll", "adapter=lora"], "names retention, adapter, which belong to language models"),
    "a setting the method lacks": (["method=laf", "unlearning.learning_rate=0.1"], "laf has no setting learning_rate"),
    "no such problem": (["problem=no_such"], "no problem named 'no_such'"),
    "no such embedded problem": (["problem=embedded:digit"], "no embedded problem named 'digit'. Did you mean 'digits'"),
    "no such checkpoint": (["model=./no-such.pt"], "There are no weights at"),
    "no checkpoint": (["model=./request.yaml"], "is no checkpoint that can be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_requests(request_file, tmp_path, monkeypatch, case):
    overrides, message = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        execute(efface.ForgetRequest.read(request_file, overrides), output=tmp_path / "run", allow_code=True)
    assert not (tmp_path / "run").exists()


REFUSED |= {
    "a suite of language models": (["evaluate=tofu"], "asks for the suite tofu, which measures language models"),
    "a stop rule": (["unlearning.stop.forget_nll=auto"], "fine_tune has no setting stop"),
    "the bare name of an embedded problem": (["problem=digits"], "Did you mean 'embedded:digits'.*problem: FILE.py"),
}


FILES = {
    "def other(): pass": "has no function problem()",
    "def problem(): return 3": "gives a int. A problem is an efface.Problem",
    "import no_such_package": "failed: ModuleNotFoundError: No module named 'no_such_package'",
    PROBLEM.replace("lambda x, y: int(y) == 2", "[0, 99]"): "row numbers that do not exist, such as 99",
    PROBLEM.replace("nn.Linear(16, 3)", "nn.Linear(16, 2)"): "labels run from 0 to 2 and the net .* tells 2 classes apart",
    PROBLEM.replace("test=rows(45, 1)", "test=None"): "The problem blobs has no test rows",
    PROBLEM.replace("test=rows(45, 1)", "test=rows(0, 1), test_forget=[]"): "test holds no rows",
    PROBLEM.replace("rows(45, 1)", "TensorDataset(torch.ones(5, 7), torch.arange(5))"): "cannot take the test rows, .*\\(7,\\)",
    PROBLEM.replace("rows(45, 1)", "TensorDataset(torch.ones(5, 4), torch.arange(5))"): "test labels run from 0 to 4 and .* 3",
    PROBLEM.replace("lambda seed: nn", "nn"): "make_model is a net itself",
    PROBLEM.replace("lambda seed: nn", "lambda: nn"): "make_model does not take one argument",
    PROBLEM.replace("make_model=lambda seed: nn.Sequential", "make_model=lambda seed: (lambda *a: 3)"): "returns a int",
    PROBLEM.replace("nn.Linear(4, 16)", "nn.Linear(seed + 'x', 16)"): "make_model\\(0\\) failed: TypeError",
}


@pytest.mark.parametrize("code", FILES, ids=range(len(FILES)))
def test_bad_problem_files(request_file, tmp_path, code):
    (tmp_path / "blobs.py").write_text(code, encoding="utf-8")
    with pytest.raises(InputError, match=FILES[code]):
        execute(efface.ForgetRequest.read(request_file), output=tmp_path / "run", allow_code=True)
    assert not (tmp_path / "run").exists()


UNFIT = {
    "inputs": (nn.Linear(7, 3), "The unlearned net cannot take the training rows, whose inputs have the shape \\(4,\\)"),
    "classes": (nn.Linear(4, 2), "training labels run from 0 to 2 and the unlearned net tells 2 classes apart"),
    "more classes than make_model's": (nn.Linear(4, 5), "The untrained net answers \\(3,\\) values per row and the unlearned"),
    "no logits": (nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), "A classifier gives logits, one row per item"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_evaluate_refuses_a_net_that_does_not_fit(net, case):
    other, message = UNFIT[case]
    problem = Problem("classification", lambda seed: copy.deepcopy(net), (X, Y), blobs(45, 1), [2, 5, 8])
    with pytest.raises(InputError, match=message):
        efface.evaluate(other, problem=problem)


def test_output_never_removes_files_of_the_user(net, tmp_path):
    given = {"forget": FORGET, "retain": RETAIN, "method": "fine_tune", "task": "classification"}
    folder, file = tmp_path / "mine", tmp_path / "mine.py"
    folder.mkdir()
    made = efface.unlearn(net, **given, output=folder)  # an empty folder is fine, and so is one that efface wrote
    assert efface.unlearn(net, **given, output=folder).weights_hash == made.weights_hash
    assert made.save(made.save(tmp_path / "copy")) == tmp_path / "copy"
    (folder / "thesis.txt").write_text("x", encoding="utf-8")
    file.write_text("x", encoding="utf-8")
    for place, message in ((folder, "not a model of efface: thesis.txt"), (file, "mine.py is a file"), (file / "in", "is a file")):
        with pytest.raises(InputError, match=message):
            efface.unlearn(net, **given, output=place, progress=lambda *_: pytest.fail("trained first"))
        with pytest.raises(InputError, match=message):
            made.save(place)
    assert (folder / "thesis.txt").read_text(encoding="utf-8") == file.read_text(encoding="utf-8") == "x"


def test_bad_input_leaves_no_claimed_folder(request_file, tmp_path, net):
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "other.pt")
    request = efface.ForgetRequest.read(request_file, [f"retrained={tmp_path / 'other.pt'}"])
    with pytest.raises(InputError, match="it holds weight"):
        execute(request, output=tmp_path / "run", allow_code=True)
    assert not (tmp_path / "cache").exists()  # no net was trained
    late = efface.ForgetRequest.read(request_file, ["method={name: certified_removal}"])
    with pytest.raises(InputError, match="The net is a Sequential"):
        execute(late, output=tmp_path / "run", allow_code=True)
    assert not (tmp_path / "run").exists()
    ran = execute(efface.ForgetRequest.read(request_file), output=tmp_path / "run", allow_code=True)
    costs = json.loads((ran.folder / "report.json").read_text(encoding="utf-8"))["costs"]
    shown = sum(cost["seconds"] for cost in costs if "evaluation" in cost["stage"] or "relearning" in cost["stage"])
    in_all = json.loads((ran.folder / "manifest.json").read_text(encoding="utf-8"))["stages"]["evaluation"]["seconds"]
    assert shown == pytest.approx(in_all, rel=0.05)


def test_overwriting_never_removes_what_the_request_names(request_file, tmp_path, net):
    first = execute(efface.ForgetRequest.read(request_file), output=tmp_path / "run", allow_code=True)
    model = first.unlearned.path
    tree = {"task": "classification", "problem": str(tmp_path / "blobs.py"), "method": "neg_grad", "model": str(model)}
    with pytest.raises(InputError, match="--overwrite would clear"):
        execute(efface.ForgetRequest.from_tree(tree), output=tmp_path / "run", overwrite=True, allow_code=True)
    assert (model / "model.safetensors").is_file()
    assert (tmp_path / "run" / "report.html").is_file()
