"""Whether a net, the function that makes one, and rows fit together; asked before anything is trained or measured."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from efface.data.net_batches import labelled_rows
from efface.data.problem import Problem
from efface.errors import InputError
from efface.models.net_files import PREFIXES
from efface.models.net_losses import NetLoss
from efface.models.predictor import NetPredictor, Predictor
from efface.models.seeding import seeded
from efface.train.net_checks import answered, require_finite, require_fitting_labels

__all__ = ["check_measured", "check_test_rows", "fresh_net", "require_same_architecture"]

_ACCEPTED = "It is a function of a seed that returns a fresh net, such as make_model=lambda seed: Net()."


def fresh_net(make_model: Any, seed: int) -> nn.Module:
    """Return a freshly initialised net, a function of ``seed``; the caller's random states are left as they were.

    Raises:
        InputError: When ``make_model`` is no function of a seed, fails, or returns no net.
    """
    if isinstance(make_model, nn.Module):
        raise InputError(f"make_model is a net itself ({type(make_model).__name__}). {_ACCEPTED} Put lambda seed: before it.")
    if not callable(make_model):
        raise InputError(f"make_model is a {type(make_model).__name__}. {_ACCEPTED} Pass one.")
    try:
        inspect.signature(make_model).bind(seed)
    except TypeError:
        raise InputError(f"make_model does not take one argument, the seed. {_ACCEPTED} Add the argument.") from None
    except ValueError:  # some built-in callables tell no signature
        pass
    with seeded(seed):
        try:
            made = make_model(seed)
        except InputError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else ""
            raise InputError(f"make_model({seed}) failed: {type(error).__name__}: {reason}. {_ACCEPTED} Mend it.") from error
    if not isinstance(made, nn.Module):
        raise InputError(f"make_model({seed}) returns a {type(made).__name__}. {_ACCEPTED} Return a torch.nn.Module.")
    return made


def require_same_architecture(net: nn.Module, made: nn.Module) -> None:
    """Refuse a fresh net whose weights have other names or shapes than the net's.

    Raises:
        InputError: When they differ; names the first.
    """
    own, other = _shapes(net), _shapes(made)
    if own is None or other is None or own == other:
        return
    name = next(name for name in {**own, **other} if own.get(name) != other.get(name))
    raise InputError(
        f"make_model makes a net of another architecture: {name} is {other.get(name, 'absent')} there and "
        f"{own.get(name, 'absent')} in the net. Methods that train a fresh net need the same one. Mend make_model, or leave it out."
    )


def _shapes(net: nn.Module) -> dict[str, tuple[int, ...]] | None:
    state = net.state_dict()
    if any(is_lazy(value) for value in state.values()):
        return None  # lazy layers have no shape before their first batch
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return {name: tuple(value.shape) for name, value in state.items() if hasattr(value, "shape")}


def check_test_rows(problem: Problem, net: nn.Module, loss: NetLoss) -> None:
    """Refuse rows to measure on that are not finite or do not fit the net.

    Raises:
        InputError: When the inputs' shape, the labels or a value is wrong.
    """
    model = NetPredictor(net)
    sets = {"test": problem.test, "train_as_tested": problem.train_as_tested}
    for title, rows in ((title, rows) for title, rows in sets.items() if rows is not None):
        require_finite(rows, title)
        missing = len(rows) - len(labelled_rows(rows))
        if 0 < missing < len(rows):
            raise InputError(f"{missing} of {len(rows)} {title} rows have no label. All have one, or none has. Label or drop them.")
        _outputs_on(model, "net that make_model makes", rows, title, task=problem.task, loss=loss)


def check_measured(models: Mapping[str, Predictor], problem: Problem, loss: NetLoss) -> None:
    """Refuse models that cannot take the problem's rows, or whose outputs do not fit its labels or each other's.

    Raises:
        InputError: When one does not fit.
    """
    widths: dict[str, tuple[int, ...]] = {}
    for role, model in models.items():
        for title, rows in (("training", problem.measured_train), ("test", problem.test)):
            widths[role] = _outputs_on(model, f"{role.replace('_', ' ')} net", rows, title, task=problem.task, loss=loss)
    first, *others = widths
    for role in others:
        if problem.task == "classification" and widths[role] != widths[first]:
            raise InputError(
                f"The {role.replace('_', ' ')} net answers {widths[role]} values per row and the {first.replace('_', ' ')} net "
                f"{widths[first]}. Nets that are compared tell the same classes apart. Name the right net, or mend make_model."
            )


def _outputs_on(model: Predictor, whose: str, rows: Any, title: str, *, task: str, loss: NetLoss) -> tuple[int, ...]:
    """Put the first rows through a model, hold the labels against what it answers, and return the shape of an answer."""
    outputs, y = answered(model.predict, rows, title, task=task, loss=loss, whose=whose)
    if y is not None:
        require_fitting_labels(rows, outputs, y, title, task=task, loss=loss, whose=whose)
    return tuple(outputs.shape[1:])
