"""Two processes on the CPU (gloo) draw the loss curves of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from _loop import ITEMS, losses, settings, tiny_llama
from _several import CASES, curve
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from efface.cli.main import main
from efface.errors import InputError
from efface.request import ForgetRequest
from efface.run import execute
from efface.train import processes
from efface.train.language_model import train

HERE = Path(__file__).parent


def launch(*arguments: str, folder: Path = HERE, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes; without ``--multi_gpu`` accelerate starts a single one on a machine without GPUs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", str(port)]
    command = [sys.executable, "-m", *launcher, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Curves of all cases, from one launch."""
    output = tmp_path_factory.mktemp("several") / "curves.json"
    done = launch(str(HERE / "_several.py"), str(output))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CASES)
def test_curve_is_that_of_one_process(curves: dict[str, Any], name: str) -> None:
    alone, together = curve(*CASES[name]), curves[name]
    assert together["stopped"] == alone["stopped"]
    assert together["steps"] == alone["steps"]
    assert together["processes"] == 2
    assert len(alone["points"]) > 1
    for expected, found in zip(alone["points"], together["points"], strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_batch_that_cannot_be_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match="over 4 processes"):
        train(tiny_llama(), ITEMS, losses(), settings(), pad_id=0)


def test_one_process_is_the_main_one() -> None:
    assert processes.count() == 1
    assert processes.is_main()
    assert processes.share(lambda: "value") == "value"


@pytest.fixture
def connected() -> Iterator[None]:
    """A process that is connected with others, of which there are none."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    processes.leave()


@pytest.mark.parametrize(("command", "stays"), [(["--version"], False), (["run", "no.yaml"], True)])
def test_a_command_that_succeeds_disconnects(connected: None, command: list[str], stays: bool) -> None:
    """One that fails does not: the others may wait for it, and leaving would wait for them."""
    with pytest.raises(SystemExit):
        main(command)
    assert dist.is_initialized() is stays
    processes.leave()
    assert not dist.is_initialized()


def test_sharded_parameters_are_put_together(connected: None) -> None:
    whole = {name: parameter.detach().clone() for name, parameter in tiny_llama().named_parameters()}
    model = tiny_llama()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    assert all(hasattr(parameter, "full_tensor") for parameter in model.parameters())
    processes.unshard(model)
    found = dict(model.named_parameters())
    assert found.keys() == whole.keys()
    assert all(type(found[name]) is torch.nn.Parameter and torch.equal(found[name], whole[name]) for name in whole)


REQUEST = """
model: embedded:mini
method: npo
rule: gru
unlearning: {max_steps: 4, batch_size: 8, evaluate_every: 1, stop: {forget_nll: "off"}}
evaluate: none
"""


@pytest.mark.slow
def test_the_main_process_alone_writes_the_run(tmp_path: Path) -> None:
    """``accelerate launch -m efface run`` leaves the run of one process, continues it, and prints once."""
    (tmp_path / "request.yaml").write_text(REQUEST, encoding="utf-8")
    command = ("-m", "efface", "run", "request.yaml", "--json", "--output")
    together = launch(*command, "two", folder=tmp_path, timeout=3000)
    assert together.returncode == 0, together.stderr[-3000:]
    assert json.loads(together.stdout)["facts"]["steps_executed"] == 4
    alone = execute(ForgetRequest.read(tmp_path / "request.yaml"), output=tmp_path / "one")
    assert alone is not None
    one, two = (json.loads((tmp_path / name / "unlearned.json").read_text(encoding="utf-8")) for name in ("one", "two"))
    assert len(one["history"]) == len(two["history"]) == 5
    for expected, found in zip(one["history"], two["history"], strict=True):
        assert found["values"] == pytest.approx(expected["values"], rel=1e-4, abs=1e-4)
    again = launch(*command, "two", folder=tmp_path)
    assert json.loads(again.stdout)["facts"]["steps_executed"] == 0


@pytest.mark.slow
def test_a_mistake_ends_every_process(tmp_path: Path) -> None:
    (tmp_path / "request.yaml").write_text(REQUEST + "retention: none\n", encoding="utf-8")
    done = launch("-m", "efface", "run", "request.yaml", folder=tmp_path)
    assert done.returncode != 0
    assert "Give a retention term" in done.stderr
