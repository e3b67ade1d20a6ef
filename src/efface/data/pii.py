"""Personal identifiers in rows: which kind a value is, other values of the same form, and how it is spelled out.

Three kinds: e-mail address, telephone number, account number. A row holds one where its ``attribute`` names the kind and its
``value`` the identifier; without an attribute the form decides, where it is plain (an "@", a leading "+", an IBAN).
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping
from random import Random
from typing import Literal, get_args

from efface.data.schema import Row

__all__ = ["KINDS", "Kind", "draw_candidates", "half_point", "kind_of_row", "secret_of", "significant", "spell_out", "unspell"]

Kind = Literal["email", "phone", "account_number"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_ATTRIBUTES: Mapping[str, Kind] = {
    **dict.fromkeys(("email", "e_mail", "mail", "email_address", "e_mail_address"), "email"),
    **dict.fromkeys(("phone", "phone_number", "telephone", "telephone_number", "mobile", "mobile_number"), "phone"),
    **dict.fromkeys(("account_number", "account", "bank_account", "iban", "card_number", "customer_number"), "account_number"),
}
_FORMS: Mapping[Kind, re.Pattern[str]] = {
    "email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    "phone": re.compile(r"\+\d[\d ().\-/]{5,}"),
    "account_number": re.compile(r"[A-Z]{2}\d{2}(?:[ \-]?[A-Z0-9]){8,}"),
}
_DIGITS_SUFFICE = 4
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"
_SIGNS = {"@": "at", ".": "dot", "-": "dash", "_": "underscore", "+": "plus", "/": "slash"}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SAID = {**{word: sign for sign, word in _SIGNS.items()}, **{word: str(digit) for digit, word in enumerate(_NUMBERS)}, "oh": "0"}


def kind_of_row(row: Row) -> Kind | None:
    """Return which kind of identifier a row's value is, or None where it is none."""
    if not row.value:
        return None
    named = _ATTRIBUTES.get(re.sub(r"[\s\-]+", "_", (row.attribute or "").strip().lower()))
    if named is not None:
        return named
    return next((kind for kind, form in _FORMS.items() if form.fullmatch(row.value.strip())), None)


def significant(text: str, kind: Kind) -> str:
    """Return what of a text counts when an identifier is looked for: lower case; of numbers, letters and digits only."""
    folded = text.casefold()
    return re.sub(r"\s", "", folded) if kind == "email" else re.sub(r"[^a-z0-9]", "", folded)


def secret_of(value: str, kind: Kind) -> str:
    """Return the part of an identifier that is somebody's own: of an e-mail address what stands before the "@"."""
    return value.partition("@")[0] if kind == "email" else value


def _is_free(value: str, kind: Kind) -> list[bool]:
    """Which characters of an identifier may be drawn afresh.

    Only digits are, where there are at least four: what stands beside them (a name, a bank) can be guessed and is no secret. An
    address with fewer digits gives its letters as well. The domain and the country code always stay.
    """
    border = value.find("@") if kind == "email" else len(value)
    first = len(value) - len(re.sub(r"^\+\d{1,3}", "", value)) if kind == "phone" else 0
    digits = [first <= index < border and character.isdigit() for index, character in enumerate(value)]
    if sum(digits) >= _DIGITS_SUFFICE:
        return digits
    return [first <= index < border and character.isalnum() for index, character in enumerate(value)]


def half_point(value: str, kind: Kind) -> int:
    """Return how many characters of an identifier to give away so that half of those that could be drawn are left to tell."""
    free = [index for index, may in enumerate(_is_free(value, kind)) if may]
    return free[len(free) // 2] if free else len(value) // 2


def _like(character: str, draw: Random) -> str:
    if character.isdigit():
        return draw.choice(string.digits)
    pool = _VOWELS if character.lower() in _VOWELS else _CONSONANTS
    drawn = draw.choice(pool)
    return drawn.upper() if character.isupper() else drawn


def draw_candidates(value: str, kind: Kind, count: int, *, seed: int = 0, keep: int = 0) -> list[str]:
    """Return up to ``count`` different identifiers of the form of ``value``, none equal to it; fewer where the form has no more.

    Args:
        value: The identifier.
        kind: What it is.
        count: How many to draw.
        seed: Seed; the draw also depends on the value, so that two people do not share a list.
        keep: So many characters at the beginning stay as they are.
    """
    free = [index >= keep and may for index, may in enumerate(_is_free(value, kind))]
    draw = Random(f"{seed}|{keep}|{hashlib.sha256(value.encode()).hexdigest()}")
    found: dict[str, None] = {}
    for _ in range(20 * count):
        candidate = "".join(_like(character, draw) if may else character for character, may in zip(value, free, strict=True))
        if candidate != value:
            found[candidate] = None
        if len(found) == count:
            break
    return list(found)


def spell_out(value: str) -> str:
    """Return an identifier as one says it, character by character.

    >>> spell_out("a.b7@x.org")
    'a dot b seven at x dot o r g'
    """
    said = (_SIGNS.get(c) or (_NUMBERS[int(c)] if c in string.digits else c.lower()) for c in value if not c.isspace())
    return " ".join(said)


def unspell(text: str) -> str:
    """Return a spelled-out text with names of digits and signs as characters and single characters joined.

    >>> unspell("It is a dot b seven at x.")
    'itisa.b7@x.'
    """
    return "".join(_SAID.get(word.strip(",;"), word) for word in text.casefold().split())
