"""Checkpoints of nets: what is said of one that is broken or does not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.models.net_files import load_net, save_net


def net(inputs: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 3), nn.ReLU(), nn.Linear(3, 2))


CASES = {
    "whole.pt": (lambda file: torch.save(net(), file), "more than tensors .* Code in a checkpoint is never run"),
    "old.pt": (lambda file: torch.save(net(), file, _use_new_zipfile_serialization=False), "more than tensors"),
    "junk.pt": (lambda file: file.write_bytes(b"junk" * 40), "junk.pt is damaged, or no file of torch.save"),
    "empty.pt": (lambda file: file.write_bytes(b""), "empty.pt is damaged"),
    "junk.safetensors": (lambda file: file.write_bytes(b"junk" * 40), "damaged, or no safetensors file"),
    "shape.pt": (
        lambda file: torch.save(net(5).state_dict(), file),
        r"0\.weight has the shape \(3, 5\) there and \(3, 4\) in",
    ),
    "names.pt": (
        lambda file: torch.save({"head.weight": torch.ones(2)}, file),
        r"holds head\.weight \(2,\), which the net has not; it lacks 0\.weight \(3, 4\) and 3 more",
    ),
    "folder": (
        lambda file: save_net(nn.Linear(4, 2), file, {}),
        r"it holds \w+ \(.*\) and 1 more, which .*; it lacks 0",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said(tmp_path, name):
    write, message = CASES[name]
    write(tmp_path / name)
    with pytest.raises(InputError, match=message) as refused:
        load_net(net(), tmp_path / name)
    assert "\n" not in str(refused.value)
