"""A process that ends with the one that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

MODULE = """import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
"""


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def start(folder: Path, module: str) -> subprocess.Popen[str]:
    (folder / "worked.py").write_text(module, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *(path for path in sys.path if path)])}
    command = [sys.executable, "-m", "efface.lifeline", "worked", "argument"]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_ends_with_all_it_started_when_its_input_closes(tmp_path: Path) -> None:
    process = start(tmp_path, MODULE)
    assert process.stdout is not None
    assert process.stdin is not None
    child = int(process.stdout.readline())
    assert alive(child)
    process.stdin.close()
    assert process.wait(timeout=60) != 0
    for _ in range(600):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def test_passes_arguments_and_exit_code_on(tmp_path: Path) -> None:
    process = start(tmp_path, "import sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    assert process.stdout is not None
    assert process.stdout.read() == "['argument']\n"  # to its end, with the input still open
    assert process.wait(timeout=60) == 7
