"""Nets taken apart by hooks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.models.activations import Activations, SplitNet, as_in_use, forward, outputs_of


class Two(nn.Module):
    """Two linear layers, registered in the other order than they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 2)
        self.first = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))


X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def test_head_is_the_last_linear_layer_reached():
    net = Two()
    split = SplitNet(net)
    features, outputs = split.both(X)
    assert split.head_name(X) == "last"
    assert torch.equal(features, torch.tanh(net.first(X)))
    assert torch.equal(split.head_module(X)(features), outputs)
    features.sum().backward()
    assert net.first.weight.grad is not None
    assert net.last.weight.grad is None
    assert not net.last._forward_pre_hooks


def test_head_by_name_and_on_another_net():
    net, other = Two(), Two()
    assert torch.equal(SplitNet(net, head="first").features(X), X)
    split = SplitNet(net)
    split.features(X)
    assert torch.equal(split.on(other).features(X), torch.tanh(other.first(X)))


def test_bad_heads():
    with pytest.raises(InputError, match=r"no module named 'lasst'. Did you mean 'last'"):
        SplitNet(Two(), head="lasst").features(X)
    with pytest.raises(InputError, match="single linear layer"):
        SplitNet(nn.Linear(4, 2)).features(X)
    with pytest.raises(InputError, match="no linear layer that could be its head"):
        SplitNet(nn.Sequential(nn.Tanh())).features(X)
    unused = Two()
    unused.extra = nn.Linear(1, 1)
    with pytest.raises(InputError, match="'extra' was not reached"):
        SplitNet(unused, head="extra").features(X)


def test_activations_are_the_nonlinearities_or_the_hidden_layers():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))
    outputs, hidden = Activations(net).both(X)
    assert [tuple(h.shape) for h in hidden] == [(5, 6), (5, 3)]
    assert torch.equal(hidden[1], net[:4](X))
    assert torch.equal(outputs, net(X))
    plain = Activations(Two())
    assert plain.names(X) == ("first",)
    named = Activations(net, ["0"])
    assert torch.equal(named.both(X)[1][0], net[0](X))


def test_finding_them_leaves_no_trace():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    Activations(net).names(X)
    SplitNet(net).head_name(X)
    assert torch.equal(torch.get_rng_state(), state)
    assert net[0].num_batches_tracked == 0
    assert net.training


def test_recurrent_layers_answer_with_their_sequence():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 3, batch_first=True)
            self.head = nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    net = Recurrent()
    hidden = Activations(net, ["lstm"]).both(torch.randn(2, 7, 4))[1]
    assert hidden[0].shape == (2, 7, 3)


def test_inputs_and_answers_of_every_form():
    class Pair(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": a + b}

    a, b = torch.ones(2), torch.full((2,), 2.0)
    assert torch.equal(forward(Pair(), (a, b)), forward(Pair(), {"b": b, "a": a}))
    assert torch.equal(outputs_of((a, b)), a)
    with pytest.raises(InputError, match="The net answers with a str"):
        outputs_of("a")


def test_modes_are_put_back_even_after_an_error():
    net = nn.Sequential(nn.Dropout(), nn.Linear(1, 1))
    net[1].eval()
    with pytest.raises(RuntimeError, match="shapes"), as_in_use(net):
        net(torch.ones(2, 5))
    assert (net[0].training, net[1].training) == (True, False)
