"""Build the models of a recipe side by side, each in a process of its own, and keep them in a cache."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from efface.data.cache import cache_root
from efface.errors import EffaceError, InputError
from efface.world.config import ROLES, Role
from efface.world.recipe import Recipe

__all__ = ["BuildState", "WorldModels", "build_models", "models_cache"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class BuildState:
    """How far building has come.

    Attributes:
        steps: Role -> (optimiser steps done, steps in all); a role appears once it trains.
        waiting: Roles whose turn has not come.
        seconds: Seconds since building began.
        seconds_left: Estimate, or None while there is nothing to go by.
        is_waiting_for_lock: Whether another process builds the same recipe and this one waits for it.
    """

    steps: Mapping[Role, tuple[int, int]]
    waiting: tuple[Role, ...]
    seconds: float
    seconds_left: float | None
    is_waiting_for_lock: bool = False

    @property
    def share(self) -> float:
        """Share of the work that is done, in [0, 1]."""
        done = sum(done / max(total, 1) for done, total in self.steps.values())
        return done / max(len(self.steps) + len(self.waiting), 1)


@dataclass(frozen=True, slots=True)
class WorldModels:
    """Where the models of a recipe are.

    Attributes:
        recipe: What they were built from.
        directories: Role -> model directory.
        built: Roles that were trained by this call; the others came from the cache.
        seconds: Seconds this call took.
    """

    recipe: Recipe
    directories: Mapping[Role, Path]
    built: tuple[Role, ...] = ()
    seconds: float = 0.0

    @property
    def original(self) -> Path:
        """Directory of the model trained on everything."""
        return self._directory("original")

    @property
    def retrained(self) -> Path:
        """Directory of the model trained without the forget set."""
        return self._directory("retrained")

    @property
    def retrained_2(self) -> Path:
        """Directory of the second model trained without the forget set."""
        return self._directory("retrained_2")

    def _directory(self, role: Role) -> Path:
        if role not in self.directories:
            raise InputError(
                f"The {role} model was not asked for. Built were: {', '.join(self.directories)}. Add it to build_models(roles=...)."
            )
        return self.directories[role]


Progress = Callable[[BuildState], None]


def models_cache(cache_dir: str | Path | None = None) -> Path:
    """Return the folder of cached models: ``cache_dir``, else ``EFFACE_CACHE_DIR``, else the user's cache, then ``models``."""
    root = cache_root() if cache_dir is None else Path(cache_dir).expanduser()
    return root / "models"


def build_models(
    recipe: Recipe | None = None,
    roles: Sequence[Role] = ("original", "retrained"),
    *,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> WorldModels:
    """Return the models of a recipe; those that are not in the cache are trained, side by side with one thread each.

    Args:
        recipe: What to build; default ``Recipe.default()``, the world of ``efface demo``.
        roles: Which models.
        cache_dir: In place of ``EFFACE_CACHE_DIR`` and the user's cache folder.
        workers: How many are trained at a time; default: as many as there are usable cores.
        progress: Called a few times a second while something is built.

    Raises:
        InputError: When a role is not known.
        EffaceError: When training fails; the end of its log is part of the message.
    """
    recipe = recipe or Recipe.default()
    wanted = _checked(roles)
    started = time.perf_counter()
    home = models_cache(cache_dir) / recipe.hash
    directories = {role: home / role for role in wanted}
    missing = _missing(recipe, directories)
    built: tuple[Role, ...] = ()
    if missing:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / ".lock", progress, missing):
            missing = _missing(recipe, directories)  # another process may have built them while this one waited
            if missing:
                _sweep(home)
                _Build(recipe, missing, home, workers or _usable_cores(), progress).run()
                built = missing
    return WorldModels(recipe, directories, built, time.perf_counter() - started)


def _checked(roles: Sequence[Role]) -> tuple[Role, ...]:
    for role in roles:
        if role not in ROLES:
            raise InputError(f"{role!r} is not a role. Roles are {', '.join(ROLES)}. Name one of them.")
    return tuple(dict.fromkeys(roles))


def _missing(recipe: Recipe, directories: Mapping[Role, Path]) -> tuple[Role, ...]:
    return tuple(role for role, folder in directories.items() if not _is_whole(folder, recipe.hash, role))


def _is_whole(folder: Path, recipe_hash: str, role: Role) -> bool:
    try:
        facts = json.loads((folder / "efface.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return bool(facts.get("recipe") == recipe_hash and facts.get("role") == role)


class _locked:
    """Hold the lock of a recipe's folder; the operating system frees it should the holder die."""

    def __init__(self, path: Path, progress: Progress | None, roles: tuple[Role, ...]) -> None:
        self._lock = FileLock(path)
        self._progress = progress
        self._roles = roles

    def __enter__(self) -> None:
        started = time.perf_counter()
        while True:
            try:
                self._lock.acquire(timeout=1.0)
            except Timeout:
                if self._progress is not None:
                    self._progress(BuildState({}, self._roles, time.perf_counter() - started, None, is_waiting_for_lock=True))
            else:
                return

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _sweep(home: Path) -> None:
    """Remove what builders that were killed have left; the caller holds the lock, so nobody is using it."""
    for leftover in home.glob(".build-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Build:
    """One call's processes: at most ``workers`` at a time, all ended when one fails or the caller is interrupted."""

    recipe: Recipe
    roles: tuple[Role, ...]
    home: Path
    workers: int
    progress: Progress | None
    running: dict[Role, subprocess.Popen[str]] = field(default_factory=dict)
    steps: dict[Role, tuple[int, int]] = field(default_factory=dict)
    messages: queue.SimpleQueue[tuple[Role, int, int]] = field(default_factory=queue.SimpleQueue)

    def run(self) -> None:
        """Train every role and move each finished model to its place."""
        started = time.perf_counter()
        work = Path(tempfile.mkdtemp(prefix=".build-", dir=self.home))
        waiting = list(self.roles)
        try:
            (work / "recipe.json").write_text(self.recipe.model_dump_json(), encoding="utf-8")
            while waiting or self.running:
                while waiting and len(self.running) < self.workers:
                    self._start(waiting.pop(0), work)
                self._take_messages()
                self._finish(work)
                self._tell(waiting, time.perf_counter() - started)
        finally:
            for process in self.running.values():
                process.kill()
                process.wait()
            shutil.rmtree(work, ignore_errors=True)

    def _start(self, role: Role, work: Path) -> None:
        environment = dict(os.environ) | {name: "1" for name in _THREADS}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        with (work / f"{role}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "efface.world.worker", str(work / "recipe.json"), role, str(work / role)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self.running[role] = process
        self.steps[role] = (0, 0)
        if process.stdout is not None:
            threading.Thread(target=self._listen, args=(role, process.stdout), daemon=True).start()

    def _listen(self, role: Role, lines: IO[str]) -> None:
        for line in lines:
            if line.startswith('{"done"'):
                state = json.loads(line)
                self.messages.put((role, state["done"], state["total"]))

    def _take_messages(self) -> None:
        wait = _POLL_SECONDS
        while True:
            try:
                role, done, total = self.messages.get(timeout=wait)
            except queue.Empty:
                return
            self.steps[role] = (done, total)
            wait = 0.0

    def _finish(self, work: Path) -> None:
        for role, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[role]
            if code != 0:
                log = (work / f"{role}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise EffaceError(
                    f"Training the {role} model ended with code {code}: {' | '.join(log[-3:]) or 'no message'}. "
                    "It should end with 0. Mend what the message names and start again; finished models are kept."
                )
            target = self.home / role
            shutil.rmtree(target, ignore_errors=True)  # a folder without our mark; whole ones are never rebuilt
            os.replace(work / role, target)

    def _tell(self, waiting: Iterable[Role], seconds: float) -> None:
        if self.progress is None:
            return
        state = BuildState(dict(self.steps), tuple(waiting), seconds, None)
        left = seconds * (1.0 - state.share) / state.share if state.share > 0 else None
        self.progress(BuildState(state.steps, state.waiting, seconds, left))
