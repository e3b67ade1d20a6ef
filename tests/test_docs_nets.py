"""The page on ordinary nets: its examples run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from efface.cli.main import app
from efface.evals.nets.attacks import CLASSIFIER_ATTACKS, REGRESSOR_ATTACKS
from efface.evals.nets.compare import AGAINST_RETRAINED
from efface.world.problems import PROBLEMS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "nets.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", [i for i, block in enumerate(BLOCKS) if not block.startswith("# problem.py")])
def test_python_example(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"nets.md, example {number + 1}", "exec"), {"__name__": "example"})


def test_problem_file_runs_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path / "cache"))
    Path("problem.py").write_text(next(block for block in BLOCKS if block.startswith("# problem.py")), encoding="utf-8")
    request = re.search(r"```yaml\n(# request.yaml\n.*?)```", PAGE, re.DOTALL)
    assert request is not None
    assert yaml.safe_load(request[1])["problem"] == "problem.py"
    Path("request.yaml").write_text(request[1], encoding="utf-8")
    refused = CliRunner().invoke(app, ["run", "request.yaml"])
    assert refused.exit_code != 0
    ran = CliRunner().invoke(app, ["run", "request.yaml", "--allow-code"])
    assert ran.exit_code == 0, ran.output
    report = json.loads(Path("runs/wine/report.json").read_text(encoding="utf-8"))
    accuracy = {role: report["results"][role]["metrics"]["forget_accuracy"]["value"] for role in report["roles"]}
    assert accuracy["original"] > 0.9 > 0.5 > accuracy["retrained"]
    assert "Barolo" in Path("runs/wine/report.html").read_text(encoding="utf-8")


def test_page_names_every_figure_and_problem() -> None:
    for name in PROBLEMS:
        assert f"embedded:{name}" in PAGE
    for name in (*CLASSIFIER_ATTACKS, *REGRESSOR_ATTACKS):
        assert f"`{name}`" in PAGE or (name.startswith("mia_efficacy_") and "mia_efficacy_*" in PAGE), name
    for families in AGAINST_RETRAINED.values():
        for family in families:
            assert f"forget_{family}" in PAGE, family
