"""Trackers under transformers' names: the path and losses while training, the figures at the end, in one run that is ended once."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from efface.errors import InputError
from efface.request import ForgetRequest
from efface.run import execute, unlearn
from efface.train.trackers import check_trackers


class Notebook(TrainerCallback):
    """A tracker that writes into a list, as transformers' own write to their services."""

    pages: ClassVar[list[tuple[str, int, dict[str, Any]]]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pages.append(("begin", state.global_step, {"run_name": args.run_name, "model": kwargs.get("model") is not None}))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.pages.append(("log", state.global_step, dict(logs)))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pages.append(("end", state.global_step, {}))


class Missing(TrainerCallback):
    """A tracker whose package is not there."""

    def __init__(self) -> None:
        raise RuntimeError("Missing requires `missing` to be installed. Run `pip install missing`.")


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> type[Notebook]:
    monkeypatch.setattr(Notebook, "pages", [])
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "notebook", Notebook)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "missing", Missing)
    return Notebook


def logged(notebook: type[Notebook]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for kind, step, logs in notebook.pages:
        if kind == "log":
            for name, value in logs.items():
                found.setdefault(name, []).append((step, value))
    return found


UNLEARNING = {"max_steps": 3, "batch_size": 4, "evaluate_every": 1, "stop": {"forget_nll": "off"}}


@pytest.fixture
def request_on(write_request) -> ForgetRequest:
    return told_to(write_request, "notebook")


def told_to(write_request, tracker: str, **changes: object) -> ForgetRequest:
    return ForgetRequest.read(write_request(unlearning={**UNLEARNING, "report_to": tracker}, name="letter-7", **changes))


def test_a_run_tells_its_path_its_losses_and_its_figures(notebook, request_on, tmp_path: Path) -> None:
    result = execute(request_on, output=tmp_path / "run")
    assert result is not None
    kinds = [kind for kind, _, _ in notebook.pages]
    assert (kinds[0], kinds[-1]) == ("begin", "end")
    assert kinds.count("begin") == kinds.count("end") == 1
    assert notebook.pages[0][2] == {"run_name": "letter-7", "model": True}
    told = logged(notebook)
    path = [(point.step, point.values["forget_nll"]) for point in result.unlearned.history]
    assert told["path/forget_nll"] == path
    assert all(math.isfinite(value) for _, value in told["loss"])
    last = result.unlearned.history[-1].step
    rouge = result.results["unlearned"].value("forget_rouge")
    assert told["unlearned/forget_rouge"] == [(last, rouge)]
    assert {"original/forget_rouge", "retrained/forget_rouge"} <= set(told)


def test_a_continued_run_tells_the_figures_again(notebook, request_on, tmp_path: Path) -> None:
    execute(request_on, output=tmp_path / "run")
    notebook.pages.clear()
    again = execute(request_on, output=tmp_path / "run")
    assert again is not None
    assert again.facts["steps_executed"] == 0
    assert [kind for kind, _, _ in notebook.pages] == ["log", "end"]
    assert "unlearned/forget_rouge" in logged(notebook)


def test_who_is_told_does_not_make_it_another_request(notebook, request_on, write_request, tmp_path: Path) -> None:
    execute(request_on, output=tmp_path / "run")
    again = execute(told_to(write_request, "none"), output=tmp_path / "run")
    assert again is not None
    assert again.facts["steps_executed"] == 0


def test_a_method_that_trains_twice_goes_on_in_one_run(notebook, write_request, tmp_path: Path) -> None:
    unlearn(
        request=told_to(write_request, "notebook", method="whos_harry_potter_distilled", forget_weight=None),
        output=tmp_path / "made",
    )
    kinds = [kind for kind, _, _ in notebook.pages]
    assert kinds.count("begin") == kinds.count("end") == 1


def test_trackers_are_checked_before_anything_loads(notebook) -> None:
    with pytest.raises(InputError, match=r"no tracker named 'notebuk'.*'notebook'"):
        check_trackers(["notebuk"])
    with pytest.raises(InputError, match=r"tracker missing cannot be used \(Missing requires `missing`.*unlearning.report_to"):
        check_trackers(["notebook", "missing"])


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_writes_into_the_run_folder(write_request, tmp_path: Path) -> None:
    execute(told_to(write_request, "tensorboard"), output=tmp_path / "run")
    assert list((tmp_path / "run" / "logs").glob("events.out.*"))
