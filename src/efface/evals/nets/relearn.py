"""Relearn time and the anamnesis index: how fast a model learns the forgotten rows again.

Chundawat et al., Zero-Shot Machine Unlearning, arXiv 2201.05629; steps as in Tarun et al., arXiv 2210.08196:
relearn(m) = optimiser steps on all training rows until the error on the forget rows is at most ``(1 + alpha)`` times the original
model's, looked at after every step. AIN = relearn(unlearned) / relearn(retrained): near 0 the knowledge was only hidden, near 1 the
model learns it no faster than one that never saw it.

Deviations: the published code trains the retrained model in place, so that a second call starts from a model that has relearnt
already; everything here works on copies. It gives up after ten epochs; here the cap is one of steps, the unit of what it bounds.

Training is the caller's: ``train`` trains the net it is given and calls back after every optimiser step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from efface.errors import InputError

__all__ = ["ALPHA", "Anamnesis", "RelearnTime", "anamnesis_index", "anamnesis_of", "known_again", "relearn_time"]

ALPHA = 0.05
"""By how much the error may exceed the original model's."""

Train = Callable[[Any, Callable[[int], bool]], None]
"""(net, after_step): train the net in place; after each optimiser step call ``after_step(steps)`` and end when it is True."""


@dataclass(frozen=True)
class RelearnTime:
    """How long relearning took.

    Attributes:
        steps: Optimiser steps until the target was reached, 0 when it was reached without any; None when it was not reached.
        cap: Steps that were tried at most.
        made: Steps that were made; below the cap where the target was reached, or where the training ended by itself.
        target: Error at which the forget rows count as known.
        start: Error before the first step.
        end: Error at the last look.
    """

    steps: int | None
    cap: int
    made: int
    target: float
    start: float
    end: float

    def __str__(self) -> str:
        """Return the steps, or that the target was not reached."""
        return f"not reached in {self.made} steps" if self.steps is None else f"{self.steps} steps"


@dataclass(frozen=True)
class Anamnesis:
    """The anamnesis index and the two relearn times it is made of.

    Attributes:
        value: relearn(unlearned) / relearn(retrained); None where one was not reached or the retrained model needs no step.
        unlearned: Relearn time of the unlearned model.
        retrained: Relearn time of the retrained model.
        reason: Why there is no value, or what must be known of it.
    """

    value: float | None
    unlearned: RelearnTime
    retrained: RelearnTime
    reason: str = ""


def relearn_time(net: Any, train: Train, error: Callable[[Any], float], *, target: float, cap: int = 1000) -> RelearnTime:
    """Train a copy of ``net`` until its error on the forget rows is at most ``target``; the net itself stays as it is.

    Args:
        net: The model; copied before the first step.
        train: Trains a net in place, see :data:`Train`. Called with the copy. Where it ends before the cap, the steps
            it made are what was tried.
        error: net -> error on the forget rows, lower is better.
        target: Error at which the rows count as known again; see :func:`known_again`.
        cap: Steps after which the answer is "not reached".

    Raises:
        InputError: When the cap is below 1.
    """
    if cap < 1:
        raise InputError(f"A relearn time was asked with a cap of {cap} steps. At least one step is tried. Raise the cap.")
    pupil = copy.deepcopy(net)
    looks = [error(pupil)]
    made, is_known = 0, looks[0] <= target

    def after_step(steps: int) -> bool:
        nonlocal made, is_known
        looks.append(error(pupil))
        made, is_known = steps, looks[-1] <= target
        return is_known or steps >= cap

    if not is_known:
        train(pupil, after_step)
    return RelearnTime(made if is_known else None, cap, made, target, looks[0], looks[-1])


def known_again(original_error: float, *, is_rate: bool, alpha: float = ALPHA) -> float:
    """Return the error at which forgotten rows count as known again.

    Args:
        original_error: The original model's error on them.
        is_rate: True for an error rate: accuracy within a share ``alpha`` of the original's, 1 - (1 - alpha) (1 - error). False
            for an error in units of the target: (1 + alpha) error.
        alpha: Share by which it may be worse.
    """
    return 1 - (1 - alpha) * (1 - original_error) if is_rate else (1 + alpha) * original_error


def anamnesis_index(
    unlearned: Any, retrained: Any, train: Train, error: Callable[[Any], float], *, target: float, cap: int = 1000
) -> Anamnesis:
    """Return relearn(unlearned) / relearn(retrained), both on copies; arguments as in :func:`relearn_time`."""
    mine, gold = (relearn_time(net, train, error, target=target, cap=cap) for net in (unlearned, retrained))
    return anamnesis_of(mine, gold)


def anamnesis_of(unlearned: RelearnTime, retrained: RelearnTime) -> Anamnesis:
    """Return the index of two relearn times.

    Where only the unlearned model does not reach the target, the index is above the steps it made / relearn(retrained), and
    ``reason`` says so.
    """
    if retrained.steps is None:
        return Anamnesis(None, unlearned, retrained, f"the retrained model does not reach the target in {retrained.made} steps")
    if retrained.steps == 0:
        return Anamnesis(None, unlearned, retrained, "the retrained model is at the target without any step")
    if unlearned.steps is None:
        least = unlearned.made / retrained.steps
        reason = f"the unlearned model does not reach the target in {unlearned.made} steps: above {least:.3g}"
        return Anamnesis(None, unlearned, retrained, reason)
    return Anamnesis(unlearned.steps / retrained.steps, unlearned, retrained)
