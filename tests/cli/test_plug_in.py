"""The package of docs/add-a-method.md: built, installed, found by name, and run."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from efface.errors import InputError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-method.md"
FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page's files, build a wheel, and install it into a folder of its own."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name, content in FILE.findall(PAGE.read_text(encoding="utf-8")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    subprocess.run([*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", target, source], check=True)
    return target


def python(site: Path, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, cwd=cwd, check=False)


COMMAND = "from efface.cli.main import main; import sys; main(sys.argv[1:])"


def test_the_page_holds_a_whole_package(site: Path) -> None:
    assert (site / "efface_bounded_ascent" / "__init__.py").is_file()


def test_it_appears_in_efface_methods(site: Path) -> None:
    listed = python(site, "-c", COMMAND, "methods", "--json")
    assert listed.returncode == 0, listed.stderr
    found = {method["name"]: method for method in json.loads(listed.stdout)}["bounded_ascent"]
    assert found["intention"] == "removal"
    assert found["expansion"]["objective"] == {"name": "bounded_ascent", "cap": 5.0}


def test_it_unlearns(site: Path, folder: Path, model: Path) -> None:
    data = ("--model", model, "--forget", "forget.jsonl", "--retain", "retain.jsonl", "--set", "unlearning.max_steps=1")
    made = python(site, "-c", COMMAND, "unlearn", *data, "--method", "bounded_ascent", "--retention", "nll", "--json", cwd=folder)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["method"]["objective"]["name"] == "bounded_ascent"


def test_the_contract_tests_find_it(site: Path) -> None:
    contract = PAGE.parents[1] / "tests" / "methods" / "test_contract.py"
    ran = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "bounded_ascent", contract, cwd=PAGE.parents[1])
    assert ran.returncode == 0, ran.stdout
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) >= 3


def test_its_own_test_passes(site: Path, tmp_path: Path) -> None:
    files = dict(FILE.findall(PAGE.read_text(encoding="utf-8")))
    (tmp_path / "test_bounded_ascent.py").write_text(files["test_bounded_ascent.py"], encoding="utf-8")
    ran = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


def test_a_wrong_setting_names_the_right_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    method = importlib.import_module("efface_bounded_ascent").BoundedAscent
    assert method(cap=2).resolved() == {"name": "bounded_ascent", "cap": 2.0}
    with pytest.raises(InputError, match=r"unknown key 'capp' \(did you mean 'cap'\?\)"):
        method(capp=3)
