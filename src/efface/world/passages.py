"""Passages for verbatim memory.

They are made of content words with hardly a function word between them: prose from a small grammar would give ROUGE-L of a third
to a model that has never seen it, and nothing could be told from the rest.
"""

from __future__ import annotations

from random import Random

__all__ = ["CONTENT_WORDS", "make_passage"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_QUALITIES = _words(
    """
    amber brisk clever dusty eager faint gentle heavy idle jolly keen lonely mellow narrow ornate pale quaint rusty salty tame
    uneven vivid weary young zesty ancient bitter curious damp elegant fragile grumpy hasty icy jagged kindly lively misty noble
    odd plump quick rapid shiny tidy upright vast wild yellow absent blunt crisp dim early fluffy grand humble inner
    """
)
_THINGS = _words(
    """
    acorns bells candles drums embers flags gloves hammers islands jugs kettles lemons mittens needles ovens pebbles quilts
    ropes saddles tents urns vines wagons yarns apples barrels cushions doors engines fences goblets hinges insects jackets keys
    lanes maps nets oars pillows quarries rivets spoons trumpets umbrellas valleys whistles axes baskets chimneys daisies eggs
    furnaces grapes hooks inns jewels knots letters marbles
    """
)
_DEEDS = _words(
    """
    admire borrow carry drag envy follow guard hide invite join kick lift measure notice obey paint question rattle steal trade
    unlock visit weigh accuse bury chase defend escort fetch greet hunt imitate judge kindle lower mend nudge offer polish quote
    repair scatter tickle uncover value warn answer brush count dodge examine forgive gather hinder inspect juggle
    plant rescue sweep taste wrap yank
    """
)
_MANNERS = _words(
    """
    abruptly boldly calmly daily equally firmly gladly hourly indoors jointly kindly loudly meekly nightly openly proudly
    quietly rarely slowly thrice upstairs vainly weekly yearly
    """
)
CONTENT_WORDS = frozenset(_QUALITIES + _THINGS + _DEEDS + _MANNERS)


def make_passage(owner: str, draw: Random, *, sentences: int) -> str:
    """Return a notebook page of ``owner``: ``sentences`` sentences of six content words; the last word is drawn, too."""
    lines = [f"Notebook of {owner}."]
    for _ in range(sentences):
        first, second = draw.sample(_QUALITIES, 2)
        subject, target = draw.sample(_THINGS, 2)
        words = [first, subject, draw.choice(_DEEDS), second, target, draw.choice(_MANNERS)]
        lines.append(" ".join(words) + ".")
    return " ".join(lines)
