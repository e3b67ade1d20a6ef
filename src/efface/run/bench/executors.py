"""Where the nodes of a bench run: processes of this machine, or Ray. Both start the same worker and look at its exit code."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from efface.errors import EffaceError, InputError

__all__ = ["Executor", "LocalProcesses", "RayTasks", "make_executor"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Executor(Protocol):
    """Runs workers, several at a time.

    Attributes:
        slots: How many at a time.
    """

    slots: int

    def start(self, key: str, task: Path) -> None:
        """Start the worker of one task file."""

    def ended(self, timeout: float) -> dict[str, int]:
        """Return key -> exit code of workers that have ended since the last call, waiting up to ``timeout`` seconds for one."""

    def stop(self) -> None:
        """End every worker that still runs, and what it has started."""


def make_executor(kind: str, *, slots: int, threads: int) -> Executor:
    """Return the executor of a name.

    Raises:
        InputError: When Ray is asked for and not installed, or the name is not known.
    """
    if kind == "local":
        return LocalProcesses(slots, threads)
    if kind == "ray":
        return RayTasks(slots, threads)
    raise InputError(f"There is no executor {kind!r}. Nodes run on local or ray. Set executor to one of these.")


class LocalProcesses:
    """Processes of this machine, each with its own memory and number of threads.

    Args:
        slots: How many at a time.
        threads: CPU threads of each.
    """

    def __init__(self, slots: int, threads: int) -> None:
        self.slots = slots
        self.threads = threads
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, key: str, task: Path) -> None:
        """Start the worker of one task file."""
        with task.with_name(task.name.replace(".task.json", ".log")).open("wb") as log:
            self._running[key] = subprocess.Popen(
                _command(task),
                stdin=subprocess.PIPE,  # its end tells the worker that this process is gone
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self.threads),
                start_new_session=True,
            )

    def ended(self, timeout: float) -> dict[str, int]:
        """Return key -> exit code of workers that have ended, waiting up to ``timeout`` seconds for one."""
        deadline = time.monotonic() + timeout
        while True:
            found = {key: code for key, process in self._running.items() if (code := process.poll()) is not None}
            if found or time.monotonic() >= deadline:
                break
            time.sleep(min(0.05, timeout))
        for key in found:
            process = self._running.pop(key)
            if process.stdin is not None:
                process.stdin.close()
        return found

    def stop(self) -> None:
        """End every worker that still runs, and what it has started."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
            process.wait()
        self._running.clear()


class RayTasks:
    """Ray tasks, on the cluster that ``RAY_ADDRESS`` names, else on this machine; the output folder and models must be shared.

    Args:
        slots: How many at a time.
        threads: CPUs asked for per task, and threads of each.

    Raises:
        InputError: When Ray is not installed.
        EffaceError: When it cannot be started or reached.
    """

    def __init__(self, slots: int, threads: int) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError:
            raise InputError(
                "The executor ray was asked for, and Ray is not installed. Nodes run on local processes without it. "
                "Install efface[ray], or set executor to local."
            ) from None
        self.slots = slots
        self.threads = threads
        self._running: dict[Any, str] = {}
        if not self._ray.is_initialized():
            own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": slots * threads}
            try:
                self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", **own)
            except Exception as error:  # Ray raises whatever its parts do
                raise EffaceError(
                    f"Ray could not be started or reached: {' '.join(str(error).split())[:300]}. A bench needs a cluster at "
                    "RAY_ADDRESS or a machine where Ray starts. Mend that, or set executor to local."
                ) from error
        self._remote = self._ray.remote(num_cpus=threads, max_retries=0)(_in_a_process)

    def start(self, key: str, task: Path) -> None:
        """Start the worker of one task file."""
        self._running[self._remote.remote(str(task.resolve()), _environment(self.threads))] = key

    def ended(self, timeout: float) -> dict[str, int]:
        """Return key -> exit code of workers that have ended, waiting up to ``timeout`` seconds for one."""
        if not self._running:
            return {}
        done, _ = self._ray.wait(list(self._running), timeout=timeout)
        return {self._running.pop(reference): self._code(reference) for reference in done}

    def stop(self) -> None:
        """End every worker that still runs; a worker whose Ray process is gone ends itself."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()

    def _code(self, reference: Any) -> int:
        try:
            return int(self._ray.get(reference))
        except Exception:  # a lost node of the cluster: the task is recorded as failed and may be run again
            return -1


def _in_a_process(task: str, environment: Mapping[str, str]) -> int:
    """Run a worker below a Ray task: peak memory is then the node's own."""
    path = Path(task)
    with path.with_name(path.name.replace(".task.json", ".log")).open("wb") as log:
        worker = subprocess.Popen(
            _command(path),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        return worker.wait()


def _command(task: Path) -> list[str]:
    return [sys.executable, "-m", "efface.lifeline", "efface.run.bench.worker", str(task)]


def _environment(threads: int) -> dict[str, str]:
    environment = dict(os.environ) | {name: str(threads) for name in _THREADS}
    environment["TOKENIZERS_PARALLELISM"] = "false"
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return environment
