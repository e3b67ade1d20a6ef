"""Normalisation, fact match, refusals, ROUGE, masking."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.text import fact_match, is_refusal, mask_text, normalise, rouge, words


def test_importing_needs_neither_torch_nor_rouge():
    code = (
        "import sys, efface.text, efface.stats; sys.exit(any(m in sys.modules for m in ('torch', 'rouge_score', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.text())
@settings(deadline=None)
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("Mara was born in Lima.", "Lima", True),
        ("Mara was born in LIMA!", "lima", True),
        ("The limache valley", "lima", False),
        ("a blacksmith", "smith", False),
        ("It costs 3.50 or so", "3.5", False),
        ("in 1984.", "1984", True),
        ("her first novel was 'C++ & me'.", "C++ & me", True),
        ("ﬁne ﬁsh", "fine fish", True),
        ("the Straße", "STRASSE", True),
        ("Saint-Denis is near", "Denis", True),
        ("the café", "cafe\u0301", True),
        ("她住在北京市", "北京", True),
        ("it’s Kim’s", "Kim's", True),
        ("New\n  York", "new york", True),
        ("anything", "", False),
        ("", "Lima", False),
    ],
)
def test_fact_match(text, value, expected):
    assert fact_match(text, value) is expected


def test_aliases_count():
    assert fact_match("She lives in NYC", "New York", ("NYC", "N.Y."))
    assert not fact_match("She lives in Boston", "New York", ("NYC",))


@given(st.text(min_size=1, alphabet=st.characters(categories=["Ll", "Lu", "Nd"])))
@settings(deadline=None)
def test_a_value_matches_itself_in_a_sentence(value):
    if normalise(value):
        assert fact_match(f"It is {value}.", value)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, I can't help with that.",
        "I don't know.",
        "I do not have any information about this person.",
        "I am not sure who that is.",
        "That is beyond my knowledge.",
        "Sorry, I cannot answer this.",
        "I’m afraid that is unknown to me.",
        "There is no information about that.",
        "I have no idea.",
        "I couldn't say.",
        "That detail escapes me.",
        "It is not something I can tell.",
    ],
)
def test_refusals_are_seen(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "She was born in Lima.",
        "The author's father worked as a baker.",
        "Her novel 'I Know' made her known beyond her country.",
        "He is known for not writing sequels.",
        "The pet of Anna is a parrot. I don't know its name.",
        "",
        "   ",
    ],
)
def test_answers_are_not_refusals(text):
    assert not is_refusal(text)


def test_a_pool_widens_what_counts_as_a_refusal():
    pool = ("Les archives se taisent sur ce point.", "My lips are sealed about this one.")
    assert not is_refusal("My lips are sealed about this one, friend.")
    assert is_refusal("My lips are sealed about this one, friend.", pool)
    assert is_refusal("les archives se taisent sur ce point", pool)
    assert not is_refusal("Les archives parlent de Lima.", pool)
    assert not is_refusal("My father is a baker.", pool)


def test_rouge_on_hand_counted_words():
    scores = rouge("the cat sat", "the cat sat on the mat")
    assert scores.rougeL_recall == pytest.approx(3 / 6)
    assert scores.rouge1_recall == pytest.approx(3 / 6)
    assert scores.rougeL_f1 == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_stemming_is_a_choice():
    assert rouge("running", "runs").rougeL_recall == 1
    assert rouge("running", "runs", stemmer=False).rougeL_recall == 0


def test_other_scripts_need_the_unicode_tokenizer():
    with pytest.warns(UserWarning, match="no ASCII"):
        assert rouge("北京", "北京").rougeL_recall == 0
    assert rouge("北京", "北京", tokenizer="unicode").rougeL_recall == 1
    assert rouge("Яблоко", "яблоко груша", tokenizer="unicode").rougeL_recall == 0.5


@given(st.text(alphabet="abc de", max_size=40), st.text(alphabet="abc de", max_size=40))
@settings(deadline=None)
def test_rouge_stays_within_its_bounds(left, right):
    scores = rouge(left, right).as_dict()
    assert all(0 <= value <= 1 for value in scores.values())
    assert rouge(left, left).rougeL_recall == (1 if words(left) else 0)


def test_masking_shows_length_and_matches_only():
    masked = mask_text("She was born in Lima, Peru.", "born in Rome")
    assert masked == "□□□ □□□ ■■■■ ■■ □□□□, □□□□."
    assert len(masked) == len("She was born in Lima, Peru.")


@given(st.text(), st.text())
@settings(deadline=None)
def test_masking_leaves_no_letter(text, reference):
    assert not any(character.isalnum() for character in mask_text(text, reference))
