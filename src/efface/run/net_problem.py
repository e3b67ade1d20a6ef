"""The problem a request names, and the code that decides it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from efface.data.net_sets import as_rows
from efface.data.problem import Problem
from efface.errors import InputError
from efface.registry import PROBLEMS, closest, unknown_name
from efface.run.net_fit import fresh_net
from efface.world.problems import PROBLEMS as EMBEDDED
from efface.world.problems import embedded_problem

__all__ = ["find_problem", "prepare_problem"]

EMBEDDED_PREFIX = "embedded:"
_loaded: dict[Path, dict[str, tuple[Path, str]]] = {}
"""Problem file -> the modules it took, with file and hash; what has changed is imported anew: what is hashed is what runs."""
_added: set[Path] = set()
"""Folders that problem files put on Python's path."""


def find_problem(spec: str, *, allow_code: bool) -> tuple[Problem, str]:
    """Return a problem and what decides it beside its data.

    Args:
        spec: A file that ends in ``.py``, ``embedded:NAME``, or a name of the entry-point group ``efface.problems``.
        allow_code: Whether a file may be run.

    Raises:
        InputError: When there is none, its code may not run or fails, or it returns something else.
    """
    if spec.startswith(EMBEDDED_PREFIX):
        return prepare_problem(embedded_problem(spec.removeprefix(EMBEDDED_PREFIX)), spec), spec
    if spec.endswith(".py"):
        return _from_file(Path(spec), allow_code=allow_code)
    if spec not in PROBLEMS:
        known = [*(EMBEDDED_PREFIX + name for name in EMBEDDED), *PROBLEMS.names()]
        raise unknown_name("problem", spec, known, "One of your own is a Python file with a function problem(): problem: FILE.py.")
    made = PROBLEMS.get(spec)
    return prepare_problem(made(), spec), f"{spec} of {made.__module__}{_version(spec, made)}"


def _version(name: str, made: Any) -> str:
    """Version of the package that declares a problem, and the hash of the problem's module, which an editable one may change."""
    found = [point.dist.version for point in entry_points(group=PROBLEMS.group) if point.name == name and point.dist is not None]
    file = getattr(sys.modules.get(made.__module__), "__file__", None)
    digest = _digest(Path(file))[:16] if file and Path(file).is_file() else ""
    return "".join(f" {part}" for part in (*found, digest) if part)


def _from_file(path: Path, *, allow_code: bool) -> tuple[Problem, str]:
    if not path.is_file():
        near = closest(path.name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [])
        guess = f" The nearest name there is {near[0]!r}." if near else ""
        raise InputError(f"There is no problem file {path}.{guess} It is a Python file with a function problem(). Check the path.")
    if not allow_code:
        raise InputError(
            f"The request names the problem file {path.name}, which is Python code. Code runs only where that is allowed. Read the "
            "file, and add --allow-code (allow_code=True in Python)."
        )
    digest = _digest(path)
    name = f"_efface_problem_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path.name} cannot be read as Python. A problem file is a module with a function problem(). Mend it.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _imports_of(path) as helpers:
            spec.loader.exec_module(module)
            function = getattr(module, "problem", None)
            if not callable(function):
                raise InputError(f"{path.name} has no function problem(). It takes nothing and returns a Problem. Add it.")
            problem = prepare_problem(function(), path.name)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The problem file {path.name} failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}. Its "
            "function problem() takes nothing and returns a Problem. Run it in Python to see where."
        ) from error
    if not helpers:
        return problem, digest
    listed = "\n".join(f"{helper} {found}" for helper, found in sorted(helpers.items()))
    return problem, hashlib.sha256(f"{digest}\n{listed}".encode()).hexdigest()


@contextmanager
def _imports_of(path: Path) -> Iterator[dict[str, str]]:
    """Let a file import from its own folder, and fill the mapping with the hash of every module of the user's that it takes.

    These lie in the folder, or where the file itself lets Python look for them (``sys.path``).
    """
    path = path.resolve()
    _forget_stale(path.parent)
    before, known = set(sys.modules), set(sys.path)
    found: dict[str, str] = {}
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a cached file of the same second and size would be taken
    importlib.invalidate_caches()
    sys.path.insert(0, str(path.parent))
    try:
        yield found
        _added.update(Path(place) for place in sys.path if place not in known)
        own = _own_modules({path.parent, *_added})
        files = {name: file for name, file in own.items() if name not in before} | _named_in(path, own)
        _loaded[path] = {name: (file, _digest(file)) for name, file in files.items()}
        found.update({name: digest for name, (_, digest) in _loaded[path].items()})
    except BaseException:
        for name in _own_modules({path.parent}).keys() - before:
            del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
        sys.dont_write_bytecode = writes


def _forget_stale(folder: Path) -> None:
    """Unload what problem files brought in that has changed since, or lies in another folder and may bear a name of this one's."""
    for path, modules in list(_loaded.items()):
        if path.parent != folder or any(not file.is_file() or _digest(file) != digest for file, digest in modules.values()):
            for name in modules:
                sys.modules.pop(name, None)
            del _loaded[path]


def _own_modules(roots: set[Path]) -> dict[str, Path]:
    """Return the loaded modules that lie where ``import`` finds them in one of the folders."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
        if not file or name.partition(".")[0] == "efface":
            continue
        places = [root.joinpath(*name.split(".")) for root in roots]
        if any(Path(file) in (place.with_name(f"{place.name}.py"), place / "__init__.py") for place in places):
            found[name] = Path(file)
    return found


def _named_in(source: Path, own: Mapping[str, Path]) -> dict[str, Path]:
    """Return those of the modules that a file imports by itself or by way of one another, loaded before or not."""
    found: dict[str, Path] = {}
    sources = {"": source}
    while sources:
        names = {name for module, file in sources.items() for name in _imported(module, file)}
        sources = {name: own[name] for name in names if name in own and name not in found}
        found |= sources
    return found


def _imported(module: str, file: Path) -> set[str]:
    """Return every name that a file's import statements may load, packages included."""
    names: set[str] = set()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 2)}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def prepare_problem(made: Any, where: str) -> Problem:
    """Return a problem with its sets as rows and its choices as row numbers.

    Args:
        made: The problem.
        where: Where it comes from, for an error.

    Raises:
        InputError: When it is none, a set holds no rows, a choice is out of range, or ``make_model`` makes no net.
    """
    if not isinstance(made, Problem):
        raise InputError(
            f"{where} gives a {type(made).__name__}. A problem is an efface.Problem. Return one from the function problem()."
        )
    for name in ("train", "test"):
        if getattr(made, name) is None:
            raise InputError(
                f"The problem {made.name} has no {name} rows. A net is measured on rows it learned from and on others. Give "
                f"{name}=, a data set of (x, y), tensors, arrays or a data frame."
            )
    fresh_net(made.make_model, 0)
    sets = {name: getattr(made, name) for name in ("train", "test", "validation", "train_as_tested")}
    rows = {name: as_rows(value, name=name) for name, value in sets.items() if value is not None}
    problem = replace(made, **rows)
    # Chosen once: numbers out of range are found here, and a function is not asked about every row again and again.
    return replace(problem, forget=problem.forget_rows(), test_forget=problem.test_forget_rows())
