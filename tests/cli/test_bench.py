"""``efface bench`` and ``efface compare`` on a tiny model, in processes of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def suite(folder: Path, model: Path) -> Path:
    fields = {
        "model": str(model),
        "forget": "forget.jsonl",
        "retain": "retain.jsonl",
        "methods": ["npo", "ga"],
        "references": ["original"],
        "unlearning": {"max_steps": 1, "batch_size": 2, "learning_rate": 1e-3},
        "output": "bench",
        "jobs": 1,
    }
    path = folder / "suite.yaml"
    path.write_text(json.dumps(fields), encoding="utf-8")  # JSON is YAML
    return path


@pytest.mark.slow
def test_bench_to_leaderboard_and_comparison(efface, suite: Path, folder: Path) -> None:
    planned = efface("bench", suite, "--dry-run")
    assert planned.code == 0, planned.err
    assert [line.split("\t")[:2] for line in planned.out.splitlines()[1:4]] == [
        ["left", f"original model, {json.loads(suite.read_text())['model'].rpartition('/')[2]}"],
        ["left", "npo, seed 0"],
        ["left", "ga, seed 0"],
    ]
    assert "0 done, 3 left, 1 at a time: no like node has run yet." in planned.out
    assert not (folder / "bench").exists()

    ran = efface("bench", suite)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0].startswith("method\tforget_fact_accuracy")
    assert ran.out.splitlines()[-1].endswith("bench/leaderboard.html")
    assert [line.partition(",")[0] for line in ran.err.splitlines() if "/3 " in line][-1].startswith("3/3 ga")

    again = efface("bench", suite, "--json")
    found = json.loads(again.out)
    assert found["executed"] == 0
    assert [entrant["label"] for entrant in found["leaderboard"]["entrants"]] == ["original", "npo", "ga"]

    compared = efface("compare", "bench", "--output", "page.html")
    assert compared.code == 0, compared.err
    assert "npo\tga" in compared.out
    assert (folder / "page.html").is_file()
    assert json.loads(efface("compare", "bench", "--json").out)["kind"] == "compare"


def test_a_failed_run_gives_exit_code_1(efface, suite: Path) -> None:
    ran = efface("bench", suite, "--set", "methods=[{name: rmu, layer: 99}]")  # the layers are counted when the model is there
    assert ran.code == 1
    assert "rmu, seed 0" in ran.err
    assert "99" in ran.err


def test_weights_that_broke_off_are_named(efface, suite: Path, folder: Path, model: Path) -> None:
    shutil.copytree(model, folder / "broken")
    weights = folder / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    ran = efface("bench", suite, "--set", "model=broken")
    assert ran.code == 2
    assert "The weights in model.safetensors cannot be read" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bench", "there-is-none.yaml"), "There is no request there-is-none.yaml"),
        (("bench", "suite.yaml", "--set", "metod=[npo]"), "did you mean 'methods'"),
        (("bench", "suite.yaml", "--set", "methods=[npoo]"), "Did you mean 'npo'"),
        (("bench", "suite.yaml", "--set", "evaluate=[{suite: tofuu}]"), "Did you mean 'tofu'"),
        (("compare", "out", "elsewhere"), "not a finished run"),
        (("compare", "out", "--output", "page.txt"), "does not end in .html"),
    ],
)
def test_bad_input_is_one_line(efface, suite: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = efface(*arguments)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_print_python(efface, suite: Path) -> None:
    script = efface("bench", "suite.yaml", "--set", "seeds=[3]", "--jobs", "2", "--print-python").out
    assert "BenchSpec.read('suite.yaml', overrides=['seeds=[3]'])" in script
    assert "run_bench(suite, output=None, jobs=2)" in script
    compile(script, "script", "exec")
    compile(efface("compare", "a", "b", "--print-python").out, "script", "exec")
    exec(compile(efface("bench", "suite.yaml", "--dry-run", "--print-python").out, "script", "exec"), {"__name__": "__main__"})
