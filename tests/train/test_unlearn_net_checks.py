"""What a job for an ordinary net refuses, and what it brings into one form, before and after the method runs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import Dataset, TensorDataset

from efface.data.net_sets import as_rows
from efface.data.problem import NetTraining
from efface.errors import InputError, MissingNeed, TrainingStopped
from efface.models.net_losses import NetLoss
from efface.registry import NETS
from efface.train.unlearn_net import NetJob, NetOutcome, run_net_job

CLASSES = 3
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % CLASSES
FORGET, RETAIN = (X[Y == 2], Y[Y == 2]), (X[Y != 2], Y[Y != 2])


class Rows(Dataset[Any]):
    """A caller's data set: whatever ``x`` and ``y`` hold, row by row."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index]


def make_net(seed: int = 0, *, outputs: int = CLASSES) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))


def run(method: str = "fine_tune", settings: dict[str, Any] | None = None, **changes: Any) -> NetOutcome:
    given = {"forget": FORGET, "retain": RETAIN, "task": "classification", **changes}
    if "net" not in given:  # making one seeds the global generator
        given["net"] = make_net()
    for name in ("forget", "retain", "validation"):
        if name in given:
            given[name] = as_rows(given[name], name=f"the {name} set")
    given.setdefault("loss", NetLoss(None, task=given["task"]))
    return run_net_job(NetJob(method=NETS.get(method)(**(settings or {})), make_model=make_net, **given))


def weights(outcome: NetOutcome) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in outcome.net.parameters()])


@pytest.mark.parametrize("method", ["laf_r", "random_label", "salun", "unsir", "fine_tune"])
@pytest.mark.parametrize("kind", ["numpy", "numbers", "tensors"])
def test_a_data_set_gives_what_arrays_give_whatever_its_rows_hold(method: str, kind: str) -> None:
    make = {
        "numpy": lambda x, y: Rows(x, y),
        "numbers": lambda x, y: Rows(torch.as_tensor(x), y.tolist()),
        "tensors": lambda x, y: Rows(torch.as_tensor(x), torch.as_tensor(y)),
    }[kind]
    fetched = run(method, forget=make(*FORGET), retain=make(*RETAIN))
    assert torch.equal(weights(fetched), weights(run(method)))


def some_labels(y: np.ndarray) -> list[int | None]:
    return [int(label) if row % 5 == 0 else None for row, label in enumerate(y)]


@pytest.mark.parametrize("form", [lambda x, y: Rows(x, y), lambda x, y: (x, y)])
def test_laf_takes_rows_of_which_few_have_labels(form: Any) -> None:
    retain = form(RETAIN[0], some_labels(RETAIN[1]))
    settings = {"epochs": 1, "vae_epochs": 1}
    plain = run("laf", settings, forget=FORGET[0], retain=retain)
    assert torch.equal(weights(plain), weights(run("laf", settings)))
    repaired = run("laf_r", settings, forget=FORGET[0], retain=retain)
    assert not torch.equal(weights(repaired), weights(plain))
    assert "retain_loss" in repaired.history[-1].values
    with pytest.raises(MissingNeed, match=r"32 of 40 retain rows have no label and fine_tune reads them all.*laf_r"):
        run(retain=retain)


def test_labels_that_are_not_read_are_not_required_to_fit() -> None:
    unknown = np.full(len(FORGET[1]), -1)
    outcome = run("laf", {"epochs": 1}, forget=(FORGET[0], unknown))
    assert any("laf does not read the labels of the forget rows" in note for note in outcome.notes)
    assert "forget_loss" not in outcome.history[-1].values
    with pytest.raises(InputError, match="give None in its place"):
        run("laf_r", {"epochs": 1}, retain=(RETAIN[0], np.where(RETAIN[1] == 0, -1, RETAIN[1])))


def broken(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[7, 1] = np.nan
    return x


class Shuffled(Rows):
    """Another row each time."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(int(torch.randint(len(self), ())))


class Augmented(Rows):
    """The same row with fresh noise."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return torch.as_tensor(x) + torch.rand(4) / 100, y


FRAME = pd.DataFrame(X, columns=list("abcd"))
PLAIN = as_rows((FRAME[Y == 2], Y[Y == 2]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retain": Rows(broken(RETAIN[0]), RETAIN[1])}, "1 retain rows hold NaN or infinite values, such as row 7"),
        ({"validation": Rows(broken(X), Y)}, "1 validation rows hold NaN"),
        ({"validation": (X[:, :2], Y)}, "cannot take the validation rows, whose inputs have the shape"),
        ({"validation": X}, "60 of 60 validation rows have no label"),
        ({"validation": (X, Y + 9)}, "validation labels run from 9 to 11"),
        ({"forget": (X[:0], Y[:0])}, "The forget set is empty"),
        ({"retain": FRAME[:0]}, "The retain set is empty"),
        ({"retain": []}, "The retain set is empty"),
        ({"forget": PLAIN, "retain": (FRAME[list("abdc")], Y)}, "another order than The forget set: d stands for c"),
        ({"forget": PLAIN, "retain": (FRAME.rename(columns={"a": "e"}), Y)}, "it lacks a and has e besides"),
        ({"forget": FRAME.assign(label=Y)}, r"one that holds labels is named by target="),
        ({"forget": np.array([1, 2, 3])}, "Row numbers are no rows"),
        ({"forget": [{"pixels": x} for x in X]}, r"Rows are \(x, y\); an item of another form"),
        ({"retain": (RETAIN[0], RETAIN[1] + 0.5)}, r"retain labels hold values such as 0\.5"),
        ({"retain": (RETAIN[0], RETAIN[1] + 9.0)}, "retain labels run from 9 to 10"),
        ({"num_classes": 5}, "num_classes is 5 and the net tells 3 classes apart"),
        ({"retain": (X, Y)}, "All 20 forget rows also stand in the retain set"),
        ({"retain": Shuffled(*RETAIN)}, "other labels when they are read again"),
        ({"forget": Shuffled(*FORGET)}, "stand in another place when they are read again"),
        ({"net": nn.Flatten()}, r"The net \(Flatten\) has no weights"),
        ({"recipe": 3}, "The training recipe is a int"),
        ({"loss": NetLoss(lambda outputs, y: y.no, task="classification")}, "The loss <lambda> fails on the"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(**changes)
    assert "\n" not in str(caught.value)


def test_a_net_that_answers_nan_or_cannot_be_copied_is_refused() -> None:
    net = make_net()
    nn.init.constant_(net[0].weight, float("nan"))
    with pytest.raises(InputError, match="The net answers NaN for the forget rows"):
        run(net=net)
    held = make_net()
    held.lock = threading.Lock()
    with pytest.raises(InputError, match="The net cannot be copied"):
        run(net=held)


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.uint16, np.int32, bool])
def test_class_numbers_of_any_type_are_the_same(kind: Any) -> None:
    forget, retain = ((x, (y > 0).astype(kind)) for x, y in (FORGET, RETAIN))
    plain = [(x, (y > 0).astype(np.int64)) for x, y in (FORGET, RETAIN)]
    for method in ("random_label", "scrub"):
        made, expected = run(method, forget=forget, retain=retain), run(method, forget=plain[0], retain=plain[1])
        assert torch.equal(weights(made), weights(expected))


def test_augmentation_is_no_shuffling_and_leaves_the_callers_draws_alone() -> None:
    net = make_net()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    outcome = run(net=net, forget=Augmented(*FORGET), retain=Augmented(*RETAIN))
    assert torch.equal(torch.rand(1), expected)
    again = run(net=net, forget=Augmented(*FORGET), retain=Augmented(*RETAIN))
    assert torch.equal(weights(outcome), weights(again))
    assert outcome.history[0].values == again.history[0].values


def test_a_few_rows_in_both_sets_are_told() -> None:
    both = tuple(np.concatenate([a, b[:2]]) for a, b in zip(RETAIN, FORGET, strict=True))
    assert any("2 of 20 forget rows also stand in the retain set" in note for note in run(retain=both).notes)
    other_label = (both[0], np.concatenate([RETAIN[1], [0, 1]]))
    assert not any("also stand" in note for note in run(retain=other_label).notes)


def test_a_net_that_diverged_is_refused() -> None:
    with pytest.raises(TrainingStopped, match=r"The method left (values in|a forget loss of)"):
        run("fine_tune", {"learning_rate": 1e30, "epochs": 1, "batch_size": 100})


def test_frozen_parameters_stay_and_the_flags_come_back() -> None:
    net = make_net()
    net[0].requires_grad_(False)
    for method in ("fine_tune", "scrub", "fisher", "influence", "unsir", "laf_r"):
        made = run(method, net=net)
        assert torch.equal(made.net[0].weight, net[0].weight), method
        assert [p.requires_grad for p in made.net.parameters()] == [False, False, True, True]
        assert any("2 parameters are frozen in the net and stayed" in note for note in made.notes)
        assert made.cost.trained_parameters == 8 * 3 + 3
    retrained = run("retrain", net=net, recipe={"epochs": 1})
    assert any("2 of the 2 parameters that are frozen in the net were changed" in note for note in retrained.notes)
    head_alone = make_net()
    head_alone[2].requires_grad_(False)
    with pytest.raises(InputError, match="All that influence would change is frozen"):
        run("influence", net=head_alone)


def test_a_net_that_is_frozen_as_a_whole_is_in_use_and_is_trained() -> None:
    net = make_net().requires_grad_(False)
    for method in ("fine_tune", "retrain"):
        made = run(method, net=net, recipe=NetTraining(epochs=1))
        assert not torch.equal(made.net[0].weight, net[0].weight)
        assert not any(parameter.requires_grad for parameter in made.net.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_inputs_get_the_type_of_the_net(dtype: torch.dtype) -> None:
    for forget, retain in ((FORGET, RETAIN), (Rows(*FORGET), Rows(*RETAIN))):
        made = run("ssd", net=make_net().to(dtype), forget=forget, retain=retain)
        assert made.net[0].weight.dtype == dtype
    double = TensorDataset(torch.as_tensor(RETAIN[0]).double(), torch.as_tensor(RETAIN[1]))
    assert torch.isfinite(weights(run("fine_tune", net=make_net().double(), retain=double))).all()


def test_lazy_layers_of_the_caller_stay_lazy() -> None:
    net = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, CLASSES))
    first, second = run("neg_grad", net=net), run("neg_grad", net=net)
    assert isinstance(net[0], nn.LazyLinear)
    assert torch.equal(weights(first), weights(second))


def test_a_recipe_may_be_a_mapping() -> None:
    first, second = (run("retrain", recipe=recipe) for recipe in ({"epochs": 1}, NetTraining(epochs=1)))
    assert torch.equal(weights(first), weights(second))
    with pytest.raises(InputError, match=r"unknown key 'epoch' \(did you mean 'epochs'\?\)") as caught:
        NetTraining(epoch=1)
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingNeed, match="watches a validation set"):
        run("retrain", recipe={"keep": "best"})


def test_a_loss_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match=r"There is no loss named 'quantiles'\. Did you mean 'quantile'\?"):
        NetLoss("quantiles", task="regression")


def test_what_a_forward_pass_left_does_not_keep_a_net_from_being_copied() -> None:
    net = make_net()
    prune.l1_unstructured(net[0], "weight", 0.3)
    before = net[0].weight_orig.detach().clone()
    made = run(net=net).net
    assert torch.equal(net[0].weight_orig, before)
    assert not torch.equal(made[0].weight_orig, before)


class Flipped(Dataset[Any]):
    """Rows that are mirrored half of the time."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, chosen: list[int]) -> None:
        self.x, self.y, self.chosen = x, y, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Any:
        row = self.x[self.chosen[index]]
        return (row.flip(0) if torch.rand(1) < 0.5 else row), self.y[self.chosen[index]]


@pytest.mark.parametrize("seed", range(10))
def test_augmented_duplicates_are_no_shuffling(seed: int) -> None:
    x, y = torch.as_tensor(X), torch.as_tensor(Y)
    kept = np.flatnonzero(Y != 2).tolist()
    run(forget=Flipped(x, y, [2, 5, 2, 5, 8, 8]), retain=Flipped(x, y, [*kept, *kept[:9]]), seed=seed)


@pytest.mark.parametrize("method", ["laf", "laf_r", "bad_teacher"])
@pytest.mark.parametrize("first", [[2, None], [None, 2]])
def test_forget_labels_that_nobody_reads_may_be_missing_anywhere(method: str, first: list[Any]) -> None:
    settings = {"epochs": 1} if method == "bad_teacher" else {"epochs": 1, "vae_epochs": 1}
    some = (FORGET[0], [*first, *FORGET[1][2:].tolist()])
    assert torch.equal(weights(run(method, settings, forget=some)), weights(run(method, settings)))


def test_a_row_may_have_a_twin_that_stays() -> None:
    x, y = np.concatenate([X[:1], X]), np.concatenate([Y[:1], Y])
    every = TensorDataset(torch.as_tensor(x), torch.as_tensor(y))
    parts = (torch.utils.data.Subset(every, [0]), torch.utils.data.Subset(every, range(1, 61)))
    assert not any("stand in the retain set" in note for note in run(forget=parts[0], retain=parts[1]).notes)
    alone = run(forget=(x[:1], y[:1]), retain=(x[1:], y[1:]))
    assert any("1 of 1 forget rows also stand in the retain set" in note for note in alone.notes)


@pytest.mark.parametrize("method", ["bad_teacher", "fine_tune"])
def test_a_classifier_of_pixels_is_refused(method: str) -> None:
    x = torch.rand(12, 3, 4, 4)
    rows = (x, (x[:, 0] > 0.5).long())
    with pytest.raises(InputError, match="gives logits, one row per item"):
        run(method, net=nn.Conv2d(3, 2, 1), forget=(rows[0][:4], rows[1][:4]), retain=(rows[0][4:], rows[1][4:]))
