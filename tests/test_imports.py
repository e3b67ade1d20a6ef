"""What importing efface costs, and that no part reaches where it may not."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "transformers", "datasets", "pyarrow", "matplotlib", "scipy", "sklearn", "pandas"}


def modules_after(code: str) -> set[str]:
    """Return the top-level packages that are loaded once ``code`` has run in a fresh interpreter."""
    probe = f"import sys, json\n{code}\nsys.stderr.write('\\n' + json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stderr.splitlines()[-1]))


HELP = "from efface.cli.main import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize(
    "code",
    [
        "import efface",
        "from efface import ForgetRequest, Results",
        "from efface.data.readers import read_rows",
        HELP.format(arguments=["--help"]),
        HELP.format(arguments=["run", "--help"]),
        HELP.format(arguments=["world", "--help"]),
        HELP.format(arguments=["bench", "--help"]),
        HELP.format(arguments=["compare", "--help"]),
        HELP.format(arguments=["cache", "ls"]),
        HELP.format(arguments=["run", "there-is-no-such-request.yaml"]),
    ],
    ids=["package", "names", "readers", "help", "run help", "world help", "bench help", "compare help", "cache ls", "bad request"],
)
def test_needs_nothing_heavy(code: str) -> None:
    assert modules_after(code) & HEAVY == set()


def test_registries_import_none_of_their_entries() -> None:
    loaded = modules_after("from efface.registry import OBJECTIVES, METRICS\nOBJECTIVES.names(), METRICS.names()")
    assert "torch" not in loaded


def test_every_part_stands_under_a_contract() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    sources = {source for contract in configuration["contracts"] for source in contract["source_modules"]}
    parts = {
        f"efface.{path.stem}"
        for path in (ROOT / "src" / "efface").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert parts - sources <= {"efface.__init__", "efface.__main__", "efface.cli"}
    assert all(contract["allow_indirect_imports"] for contract in configuration["contracts"])
