"""A bench end to end on tiny untrained models: once, in part, failed, killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from filelock import FileLock

from efface.errors import InputError
from efface.registry import OBJECTIVES
from efface.run.bench import BenchSpec, compare_runs, forecast_bench, run_bench
from efface.run.bench.executors import make_executor


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return label -> record of the nodes that have ended."""
    paths = [path for path in (folder / "nodes").glob("*.json") if not path.name.endswith(".task.json")]
    return {record["label"]: record for record in (json.loads(path.read_text()) for path in paths)}


def test_everything_runs_once_what_is_needed_first(finished) -> None:
    assert finished.result.executed == 6
    assert not finished.result.failed
    assert finished.started[:2] == ["retrained model, original", "original model, original"]
    last = finished.states[-1]
    assert last.done == last.total == 6
    assert last.seconds_left == 0


def test_the_leaderboard_of_a_bench(finished) -> None:
    board, folder = finished.result.leaderboard, finished.result.folder
    assert [entrant.label for entrant in board.entrants] == ["original", "retrained", "npo", "ascent"]
    assert board.entrants[1].distance.value == 0.0
    assert board.entrants[2].figures["forget_fact_accuracy"].n_seeds == 2
    assert {test.metric for test in board.tests} >= {"forget_fact_accuracy", "retain_fact_accuracy"}
    assert all(test.n_entities == 12 and test.n_seeds == 2 for test in board.tests if test.metric == "forget_fact_accuracy")

    page = finished.result.page.read_text(encoding="utf-8")
    links = [run.report for entrant in board.entrants for run in entrant.runs if run.report]
    assert len(links) == 4
    for link in links:
        assert (folder / link).is_file()
        assert f'href="{link}"' in page
    assert str(folder.parent) not in page
    for word in ("Ada", "Oskar", "born"):  # of the forget rows
        assert word not in page
        assert word not in (folder / "leaderboard.json").read_text(encoding="utf-8")
    assert "src=" not in page
    assert "<svg" in page

    lines = list(csv.DictReader((folder / "leaderboard.csv").open(encoding="utf-8")))
    assert [line["method"] for line in lines] == ["original", "retrained", "npo", "ascent"]
    assert float(lines[2]["forget_probability"]) == board.entrants[2].figures["forget_probability"].value
    assert r"\toprule" in (folder / "leaderboard.tex").read_text(encoding="utf-8")


def test_a_grown_suite_runs_what_is_new(tree, here, grown: Path) -> None:
    methods = ["npo", {"name": "ga", "label": "ascent"}, "simnpo"]
    before = records(grown)
    found = run_bench(BenchSpec.from_tree(tree(methods=methods, seeds=[0])), executor=here)
    assert here.started == ["simnpo, seed 0"]
    assert found.leaderboard.entrants[-1].label == "simnpo"
    after = records(grown)
    assert len(after) == 7
    assert {label: after[label] for label in before} == before


def test_references_are_measured_once_and_handed_to_every_run(finished) -> None:
    for run in (finished.result.folder / "runs").iterdir():
        costs = json.loads((run / "report.json").read_text())["costs"]
        assert [cost["stage"] for cost in costs] == ["unlearning", "evaluation of the unlearned model"]
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics.keys() == {"retrained", "original", "unlearned"}
        assert metrics["unlearned"]["metrics"]["forget_quality"]["value"] is not None  # compared with the retrained model


def test_a_failure_is_a_line_and_not_the_end(tree, here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = OBJECTIVES.get("ga").loss
    monkeypatch.setattr(OBJECTIVES.get("ga"), "loss", lambda *args, **kwargs: loss(*args, **kwargs) * float("nan"))
    found = run_bench(BenchSpec.from_tree(tree(seeds=[0])), executor=here)
    assert list(found.failed) == ["ascent, seed 0"]
    line = found.leaderboard.entrants[-1]
    assert line.runs[0].state == "failed"
    assert line.runs[0].reason == found.failed["ascent, seed 0"]
    assert found.leaderboard.entrants[-2].is_complete
    assert "failed" in found.page.read_text(encoding="utf-8")
    assert all(test.reason == "ascent: no run is done" for test in found.leaderboard.tests)
    monkeypatch.undo()
    here.started.clear()
    mended = run_bench(BenchSpec.from_tree(tree(seeds=[0])), executor=here)
    assert here.started == ["ascent, seed 0"]
    assert not mended.failed


def test_what_needs_a_failed_node_is_not_run(tree, here, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise InputError("Nothing can be measured. A test asks for it. Undo it.")

    monkeypatch.setattr("efface.run.evaluation.measure_suites", fail)
    found = run_bench(BenchSpec.from_tree(tree(seeds=[0])), executor=here)
    assert here.started == ["retrained model, original"]
    assert "Nothing can be measured" in found.failed["retrained model, original"]
    assert "needs the retrained model, original, which failed" in found.failed["npo, seed 0"]


def test_a_forecast_writes_nothing(tree, tmp_path: Path) -> None:
    before = forecast_bench(BenchSpec.from_tree(tree()))
    assert (len(before.done), len(before.left), before.seconds) == (0, 6, None)
    assert not (tmp_path / "bench").exists()


def test_a_forecast_knows_what_like_nodes_took(tree, grown: Path) -> None:
    after = forecast_bench(BenchSpec.from_tree(tree(seeds=[0, 1, 2])), jobs=2)
    assert len(after.done) == 6
    assert after.left.keys() == {"npo, seed 2", "ascent, seed 2"}
    took = records(grown)
    like = [mean(took[f"{name}, seed {seed}"]["seconds"] for seed in (0, 1)) for name in ("npo", "ascent")]
    assert list(after.left.values()) == pytest.approx(like)
    assert after.seconds == pytest.approx(sum(like) / 2)


def test_refuses_a_folder_in_use_or_of_something_else(tree, here, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    with FileLock(str(tmp_path / "bench" / ".lock")), pytest.raises(InputError, match="Another bench is working"):
        run_bench(BenchSpec.from_tree(tree()), executor=here)
    (tmp_path / "bench" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="not a bench's: thesis"):
        run_bench(BenchSpec.from_tree(tree()), executor=here)
    assert not here.started


def test_ray_is_asked_for_and_not_there(tree) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"Install efface\[ray\]"):
            make_executor("ray", slots=1, threads=1)
    else:
        pytest.skip("Ray is installed")


def test_compares_runs_and_benches(finished, tmp_path: Path) -> None:
    folder = finished.result.folder
    runs = sorted(run for run in (folder / "runs").iterdir() if "seed-0" in run.name)
    board = compare_runs(runs, output=tmp_path / "pages" / "two.html")
    assert [entrant.label for entrant in board.entrants if not entrant.is_reference] == [run.name for run in runs]
    assert board.tests[0].n_entities == 12
    link = board.entrants[-1].runs[0].report
    assert f'href="{link}"' in (tmp_path / "pages" / "two.html").read_text(encoding="utf-8")
    assert (tmp_path / "pages" / link).is_file()
    assert compare_runs([folder]).tests == finished.result.leaderboard.tests
    with pytest.raises(InputError, match="not a finished run"):
        compare_runs([tmp_path, runs[0]])
    with pytest.raises(InputError, match="1 line to compare"):
        compare_runs([runs[0]])


def test_a_run_without_entities_takes_those_of_another_on_the_same_rows(grown: Path) -> None:
    first, second = sorted(run for run in (grown / "runs").iterdir() if "seed-0" in run.name)
    numbers = json.loads((second / "entities.json").read_text())
    in_twos = {name: {row: number // 2 for row, number in rows.items()} for name, rows in numbers.items()}
    (first / "entities.json").write_text(json.dumps(in_twos))
    (second / "entities.json").unlink()  # as older runs are
    assert {test.n_entities for test in compare_runs([first, second]).tests} == {6}
    (first / "entities.json").unlink()
    board = compare_runs([first, second])
    assert {test.n_entities for test in board.tests} == {12}
    assert any("name no entities" in note for note in board.notes)


def test_refuses_to_compare_what_was_measured_differently(finished, grown: Path) -> None:
    first, second = sorted(run for run in (grown / "runs").iterdir() if "seed-0" in run.name)
    report = json.loads((second / "report.json").read_text())
    report["data"]["forget"]["sha256"] = "0123456789abcdef"
    (second / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match=r"the forget set is sha256 \w{8} and sha256 01234567"):
        compare_runs([first, second])
    other = next(run for run in (finished.result.folder / "runs").iterdir() if run.name == first.name)
    metrics = json.loads((first / "metrics.json").read_text())
    for metric in metrics["unlearned"]["metrics"].values():
        metric["variant"] = "openunlearning"
    (first / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match="'strict' and 'openunlearning' definitions"):
        compare_runs([other, first])


@pytest.mark.slow
def test_ray_does_the_same_work(tree, finished, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    spec = BenchSpec.from_tree(tree(seeds=[0], methods=["npo"], references=["retrained"], executor="ray"))
    found = run_bench(spec, jobs=1)
    assert found.executed == 2
    assert not found.failed
    ours, theirs = (
        next((folder / "runs").glob("npo-seed-0-*")) / "metrics.json" for folder in (tmp_path / "bench", finished.result.folder)
    )
    figures = [json.loads(path.read_text())["unlearned"]["metrics"]["forget_probability"]["per_item"] for path in (ours, theirs)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)


def start(suite: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "efface", "bench", str(suite), "--jobs", "1"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen[bytes], folder: Path, label: str) -> set[str]:
    """Kill a bench (SIGKILL) as soon as a node is under way; return what had ended by then."""
    for _ in range(6000):
        tasks = [json.loads(path.read_text()) for path in folder.glob("nodes/*.task.json")] if folder.is_dir() else []
        if any(task["label"] == label for task in tasks):
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
            process.wait()
            return set(records(folder))
        assert process.poll() is None, "the bench ended before it could be killed"
        time.sleep(0.1)
    raise AssertionError("the node never began")


def workers_of(folder: Path) -> list[str]:
    """Return the command lines of processes that work on a bench's tasks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "efface.run.bench.worker" in line and str(folder) in line:
            found.append(line)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("world", ["tiny", "mini"])
def test_a_killed_bench_goes_on_where_it_was(tree, here, tmp_path: Path, world: str) -> None:
    if world == "mini":
        training = {"max_steps": 20}
        fields = tree(model="embedded:mini", forget=None, retain=None, seeds=[0], unlearning=training)
    else:
        fields = tree(seeds=[0], references=["retrained"])
    suite = tmp_path / "suite.yaml"
    suite.write_text(json.dumps(fields), encoding="utf-8")  # JSON is YAML
    folder = tmp_path / "bench"
    ended = kill_when(start(suite), folder, "npo, seed 0")
    assert ended
    assert "npo, seed 0" not in ended
    for _ in range(100):  # the worker notices that the bench is gone
        if not workers_of(folder):
            break
        time.sleep(0.1)
    assert not workers_of(folder)
    before = {label: record for label, record in records(folder).items() if label in ended}
    found = run_bench(BenchSpec.read(suite), executor=here)
    assert not found.failed
    assert set(here.started) == {"npo, seed 0", "ascent, seed 0"}
    assert {label: record for label, record in records(folder).items() if label in ended} == before
    assert all(entrant.is_complete for entrant in found.leaderboard.entrants)
