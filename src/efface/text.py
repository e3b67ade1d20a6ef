"""Text normalisation, fact match, refusals, ROUGE and masking: what data, guards and evaluation must agree on.

Importing this module imports neither torch nor the ROUGE package; the scorer is made on first use.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

__all__ = [
    "REFUSAL_PATTERNS",
    "RougeScores",
    "fact_match",
    "is_refusal",
    "mask_text",
    "normalise",
    "rouge",
    "word_spans",
    "words",
]

# Scripts written without blanks between words: a word border there says nothing.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
_UNICODE_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'"})


def normalise(text: str) -> str:
    """Return ``text`` in NFKC, case-folded, apostrophes unified, runs of blanks as one.

    >>> normalise("  \uff28ello   STRASSE ")
    'hello strasse'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_APOSTROPHES).split())


def words(text: str) -> list[str]:
    """Return the words of the normalised text; in scripts without blanks every character is a word.

    >>> words("It's 1984 \u5317\u4eac")
    ['it', 's', '1984', '\u5317', '\u4eac']
    """
    return _UNICODE_TOKEN.findall(normalise(text))


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return where the words of a text stand, punctuation with the word it touches; for cutting a text without changing it.

    >>> word_spans("Yes, \u5317\u4eac.")
    [(0, 4), (5, 6), (6, 7), (7, 8)]
    """
    return [match.span() for match in _PIECE.finditer(text)]


@lru_cache(maxsize=16_384)
def _fact_pattern(value: str) -> re.Pattern[str] | None:
    value = normalise(value)
    if not value:
        return None
    before = r"(?<!\w)" if _needs_border(value[0]) else ""
    after = r"(?!\w)" if _needs_border(value[-1]) else ""
    return re.compile(before + re.escape(value) + after)


def _needs_border(character: str) -> bool:
    return bool(re.match(r"\w", character)) and not _UNSPACED_CHARACTER.match(character)


def fact_match(text: str, value: str, aliases: Iterable[str] = ()) -> bool:
    """Whether ``value`` or one of its aliases stands in ``text`` between word borders.

    Both sides are normalised. An empty value matches nothing.

    >>> fact_match("She was born in ROME.", "Rome"), fact_match("A romeo", "rome")
    (True, False)
    """
    haystack = normalise(text)
    patterns = (_fact_pattern(candidate) for candidate in (value, *aliases))
    return any(pattern is not None and pattern.search(haystack) is not None for pattern in patterns)


# Families of phrasings, not sentences: the information is said to be missing, or something escapes the speaker.
REFUSAL_PATTERNS: tuple[str, ...] = (
    r"\b(?:sorry|apologi[sz]e|apologies|regret)\b.{0,40}\b(?:not|cannot|can't|don't|unable|no|nothing)\b",
    r"\b(?:there is|there's|we have) no (?:information|record|data|answer|knowledge)"
    r"(?: available| known)?(?: (?:about|on|of|for) (?:this|that|it|him|her|them)\b.*)?[.!]?$",
    r"\b(?:that|this|it|the answer|the information)(?: \w+){0,4}? (?:is|are)(?: \w+)? "
    r"(?:unknown|unavailable|not known|not available|not something i)\b",
    r"\b(?:beyond|outside)(?: of)? (?:the scope of )?(?:what i|my)\b",
    r"\b(?:escapes|eludes) me\b",
    r"\bunknown to me\b",
    r"\byou (?:would|will|'ll|'d)? ?(?:need|have) to ask\b",
)
_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in REFUSAL_PATTERNS))
# Or the speaker denies, in one sentence, something about the own knowledge: first person, denial, and a word of knowing or telling.
_SPEAKER = re.compile(r"\b(?:i|i'm|i'd|i've|i'll|me|my|mine)\b")
_DENIAL = re.compile(
    r"\b(?:not|cannot|no|nothing|none|never|neither|nor|lack|unable|unaware|uncertain|unsure|unfamiliar|afraid|sorry|too little"
    r"|rather|decline|refuse|pass on|drawing a blank|at a loss)\b|n't\b|\bneed more\b"
)
_KNOWING = re.compile(
    r"\b(?:know|known|knowledge|aware|unaware|familiar|unfamiliar|sure|unsure|certain|uncertain|informed|information|data"
    r"|answer|answers|answering|say|tell|share|provide|disclose|discuss|comment|help|assist|recall|remember"
    r"|learnt|learned|learn|taught|teach|told|trained|training|guess|mislead|idea|clue|facts?|details?|records?"
    r"|source|question|topic|found|find)\b"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_POOL_OVERLAP = 0.8


def is_refusal(text: str, pool: Iterable[str] = ()) -> bool:
    """Whether a model declines to answer.

    It does when its first sentence matches one of :data:`REFUSAL_PATTERNS` or denies in the first person to know or tell something,
    or when the text is close to a sentence of ``pool``: it begins with it, or shares at least four fifths of its words in order.
    An empty text is silence, not a refusal.

    Args:
        text: What the model wrote.
        pool: Refusals of the caller's own, in any phrasing or language.
    """
    plain = normalise(text)
    if not plain:
        return False
    first = _SENTENCE_END.split(plain, maxsplit=1)[0]
    if _REFUSAL.search(first) or all(part.search(first) for part in (_SPEAKER, _DENIAL, _KNOWING)):
        return True
    said = words(text)
    return any(_resembles(said, entry) for entry in _pool_words(tuple(pool)))


@lru_cache(maxsize=64)
def _pool_words(pool: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(entry for entry in (tuple(words(sentence)) for sentence in pool) if entry)


def _resembles(said: Sequence[str], entry: Sequence[str]) -> bool:
    if tuple(said[: len(entry)]) == tuple(entry):
        return True
    common = _common_subsequence(said, entry)
    return 2 * common >= _POOL_OVERLAP * (len(said) + len(entry))


def _common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    previous = [0] * (len(right) + 1)
    for word in left:
        current = [0]
        for column, other in enumerate(right, start=1):
            current.append(previous[column - 1] + 1 if word == other else max(previous[column], current[-1]))
        previous = current
    return previous[-1]


@dataclass(frozen=True, slots=True)
class RougeScores:
    """ROUGE of one generation against one reference; every figure in [0, 1], higher = more overlap."""

    rouge1_recall: float
    rouge1_f1: float
    rougeL_recall: float
    rougeL_f1: float

    def as_dict(self) -> dict[str, float]:
        """Return the four figures by name."""
        return {
            "rouge1_recall": self.rouge1_recall,
            "rouge1_f1": self.rouge1_f1,
            "rougeL_recall": self.rougeL_recall,
            "rougeL_f1": self.rougeL_f1,
        }


class _UnicodeTokenizer:
    """Words of any script, for the ROUGE package (its own tokenizer drops everything outside ASCII)."""

    def __init__(self, stemmer: bool) -> None:
        from nltk.stem import porter

        self._stemmer = porter.PorterStemmer() if stemmer else None

    def tokenize(self, text: str) -> list[str]:
        found = words(text)
        if self._stemmer is None:
            return found
        return [self._stemmer.stem(word) if len(word) > 3 and word.isascii() else word for word in found]


@lru_cache(maxsize=4)
def _scorer(stemmer: bool, tokenizer: str) -> Any:
    from rouge_score import rouge_scorer

    own = _UnicodeTokenizer(stemmer) if tokenizer == "unicode" else None
    return rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=stemmer, tokenizer=own)


def rouge(
    generation: str,
    reference: str,
    *,
    stemmer: bool = True,
    tokenizer: Literal["rouge_score", "unicode"] = "rouge_score",
) -> RougeScores:
    """Compare a generation with its reference.

    Args:
        generation: What the model wrote.
        reference: The right answer.
        stemmer: Reduce words longer than three letters to their Porter stem (OpenUnlearning and TOFU do, MUSE does not).
        tokenizer: "rouge_score" is the published one, which drops every character outside ``[a-z0-9]``; "unicode" keeps words
            of all scripts.

    A reference that the tokenizer reduces to nothing scores 0 whatever was generated, and a warning says so.
    """
    if tokenizer == "rouge_score" and reference.strip() and not re.search("[a-z0-9]", reference.lower()):
        warnings.warn(
            "A reference holds no ASCII letter or digit, so the published ROUGE tokenizer scores it 0; "
            "tokenizer='unicode' does not.",
            stacklevel=2,
        )
    return _rouge(generation, reference, stemmer, tokenizer)


@lru_cache(maxsize=8192)  # several figures of one evaluation are made of the same pair
def _rouge(generation: str, reference: str, stemmer: bool, tokenizer: str) -> RougeScores:
    scores = _scorer(stemmer, tokenizer).score(reference, generation)
    one, longest = scores["rouge1"], scores["rougeL"]
    return RougeScores(float(one.recall), float(one.fmeasure), float(longest.recall), float(longest.fmeasure))


def mask_text(text: str, reference: str | None = None) -> str:
    """Replace every letter and digit so that only length and match with ``reference`` can be read.

    Words that also stand in the reference become filled blocks, others empty ones; blanks and punctuation stay.

    >>> mask_text("Rome, 1984", "born in Rome")
    '■■■■, □□□□'
    """
    shared = set(words(reference)) if reference is not None else set()

    def block(match: re.Match[str]) -> str:
        word = match.group()
        return ("■" if words(word) and set(words(word)) <= shared else "□") * len(word)

    return re.sub(r"\w+", block, text)
