"""Relearn time on copies, with a cap, and the index made of two."""

from __future__ import annotations

import pytest

from efface.errors import InputError
from efface.evals.nets.relearn import anamnesis_index, known_again, relearn_time


class Counter:
    """A model that forgets by ``missing`` and learns one unit per step."""

    def __init__(self, missing: int) -> None:
        self.missing = missing


def train(model, after_step):
    steps = 0
    while True:
        model.missing = max(0, model.missing - 1)
        steps += 1
        if after_step(steps):
            return


def error(model):
    return float(model.missing)


def test_steps_are_counted_on_a_copy():
    model = Counter(7)
    found = relearn_time(model, train, error, target=2.0, cap=50)
    assert (found.steps, found.start, found.end) == (5, 7.0, 2.0)
    assert model.missing == 7
    assert str(found) == "5 steps"


def test_cap_says_not_reached():
    found = relearn_time(Counter(70), train, error, target=0.0, cap=10)
    assert found.steps is None
    assert str(found) == "not reached in 10 steps"


def test_training_that_ends_before_the_cap_counts_by_the_steps_it_made():
    def short(model, after_step):
        for steps in range(1, 31):
            model.missing = max(0, model.missing - 1)
            if after_step(steps):
                return

    found = anamnesis_index(Counter(500), Counter(21), short, error, target=0.0, cap=200)
    assert (found.unlearned.made, found.unlearned.cap, found.retrained.made) == (30, 200, 21)
    assert str(found.unlearned) == "not reached in 30 steps"
    assert found.reason == "the unlearned model does not reach the target in 30 steps: above 1.43"  # 30 / 21
    swapped = anamnesis_index(Counter(21), Counter(500), short, error, target=0.0, cap=200)
    assert swapped.reason == "the retrained model does not reach the target in 30 steps"


def test_what_is_known_needs_no_step():
    def never(model, after_step):
        raise AssertionError("trained a model that was there already")

    found = relearn_time(Counter(0), never, error, target=0.0)
    assert (found.steps, found.made) == (0, 0)


def test_index_is_the_ratio_and_repeats_itself():
    unlearned, retrained = Counter(5), Counter(20)
    first = anamnesis_index(unlearned, retrained, train, error, target=0.0, cap=100)
    again = anamnesis_index(unlearned, retrained, train, error, target=0.0, cap=100)
    assert first.value == again.value == 0.25  # the retrained model has not been trained in place


@pytest.mark.parametrize(
    ("unlearned", "retrained", "reason"),
    [(5, 500, "retrained model does not reach"), (5, 0, "without any step"), (500, 10, "above 10")],
)
def test_index_says_why_it_has_no_value(unlearned, retrained, reason):
    found = anamnesis_index(Counter(unlearned), Counter(retrained), train, error, target=0.0, cap=100)
    assert found.value is None
    assert reason in found.reason


def test_target_of_a_rate_and_of_an_error():
    assert known_again(0.1, is_rate=True) == pytest.approx(1 - 0.95 * 0.9)
    assert known_again(2.0, is_rate=False) == pytest.approx(2.1)
    with pytest.raises(InputError, match="At least one step"):
        relearn_time(Counter(1), train, error, target=0.0, cap=0)
