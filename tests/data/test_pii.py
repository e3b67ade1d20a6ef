"""Kinds of identifiers, drawn ones of the same form, spelling out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.data.pii import KINDS, draw_candidates, half_point, kind_of_row, secret_of, significant, spell_out, unspell
from efface.data.schema import Row

EMAIL, PHONE, ACCOUNT = "ada.bell4821@post.example", "+99 555 0142", "GB12 3456-7890"


@pytest.mark.parametrize(
    ("value", "attribute", "kind"),
    [
        (EMAIL, "email", "email"),
        (EMAIL, None, "email"),
        ("0123 456", "Phone number", "phone"),
        (PHONE, None, "phone"),
        ("12-34", "account_number", "account_number"),
        ("GB82 WEST 1234 5698 7654 32", None, "account_number"),
        ("1984", None, None),
        ("Ada @ home", None, None),
        (None, "email", None),
    ],
)
def test_kinds(value, attribute, kind):
    assert kind_of_row(Row(id="r", question="?", answer="!", value=value, attribute=attribute)) == kind


def test_drawn_values_keep_what_can_be_guessed():
    for value, kind, fixed in ((EMAIL, "email", "ada.bell"), (PHONE, "phone", "+99 "), (ACCOUNT, "account_number", "GB")):
        drawn = draw_candidates(value, kind, 50)
        assert len(set(drawn)) == 50
        assert value not in drawn
        assert all(len(each) == len(value) and each.startswith(fixed) for each in drawn)
        assert drawn == draw_candidates(value, kind, 50)
        assert drawn != draw_candidates(value, kind, 50, seed=1)
    assert all(each.endswith("@post.example") for each in draw_candidates(EMAIL, "email", 9))


def test_an_address_without_digits_gives_its_letters():
    drawn = draw_candidates("ada@post.example", "email", 20)
    assert all(each.endswith("@post.example") and each != "ada@post.example" for each in drawn)
    assert len({each[0] for each in drawn}) > 1


def test_a_form_with_few_values_gives_fewer():
    assert sorted(draw_candidates("+99 12345", "phone", 500, keep=8)) == [
        f"+99 1234{digit}" for digit in (*range(5), *range(6, 10))
    ]


@given(st.sampled_from(KINDS), st.integers(0, 9999), st.integers(0, 9999))
def test_half_of_what_could_be_drawn_is_given_away(kind, first, second):
    value = {"email": f"ada{first:04}@x.org", "phone": f"+99 {first:04} {second:04}", "account_number": f"{first:04}-{second:04}"}[
        kind
    ]
    point = half_point(value, kind)
    drawn = draw_candidates(value, kind, 20, keep=point)
    assert drawn
    assert all(each[:point] == value[:point] for each in drawn)
    hidden = sum(character.isdigit() for character in secret_of(value, kind)[point:])
    assert hidden == (2 if kind == "email" else 4)


@given(st.text(alphabet="abcxyz0123456789.-_@+", min_size=1, max_size=20))
def test_what_is_spelled_out_can_be_read_back(value):
    assert unspell(spell_out(value)) == value


def test_separators_of_numbers_do_not_count():
    assert significant("+99 (555) 01-42", "phone") == "995550142"
    assert significant("Ada@X.org ", "email") == "ada@x.org"
