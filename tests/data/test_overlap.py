from __future__ import annotations

import warnings

import pytest

from efface.data.overlap import drop_overlap, find_overlap, require_disjoint
from efface.data.schema import RowSet
from efface.errors import InputError


def rows(*pairs: tuple[str, str]) -> RowSet:
    return RowSet.build([{"question": q, "answer": a} for q, a in pairs])


FORGET = rows(("q1", "a1"), ("q2", "a2"))


def test_exact_duplicates_are_an_error_that_counts_them() -> None:
    with pytest.raises(InputError, match=r"2 of 3 retain rows also stand in the forget set.*--drop-overlap"):
        require_disjoint(FORGET, rows(("q1", "a1"), ("q2", "a2"), ("q3", "a3")))


def test_the_same_question_alone_is_a_warning() -> None:
    retain = rows(("q1", "another"), ("q3", "a3"))
    assert find_overlap(FORGET, retain).same_question == (0,)
    with pytest.warns(UserWarning, match="1 retain rows ask a question of the forget set"):
        require_disjoint(FORGET, retain)


def test_disjoint_sets_pass_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_disjoint(FORGET, rows(("q3", "a1")))
    assert find_overlap(FORGET, rows(("q3", "a1"))).duplicates == ()


def test_dropping_keeps_the_others_in_order() -> None:
    retain = rows(("q3", "a3"), ("q1", "a1"), ("q4", "a4"))
    assert [row.question for row in drop_overlap(FORGET, retain)] == ["q3", "q4"]
    assert drop_overlap(FORGET, rows(("q9", "a9"))) == rows(("q9", "a9"))
    with pytest.raises(InputError, match="none would be left"):
        drop_overlap(FORGET, rows(("q1", "a1")))


def test_conversations_are_compared_with_all_their_turns() -> None:
    def conversation(first: str) -> dict[str, object]:
        turns = [("user", first), ("assistant", "Yes."), ("user", "q"), ("assistant", "a")]
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    forget = RowSet.build([conversation("Hello")])
    assert find_overlap(forget, RowSet.build([conversation("Hello")])).duplicates == (0,)
    assert find_overlap(forget, RowSet.build([conversation("Good day")])).duplicates == ()


def test_texts_are_compared_whole() -> None:
    assert find_overlap(RowSet.build([{"text": "one"}]), RowSet.build([{"text": "one"}, {"text": "two"}])).duplicates == (0,)
