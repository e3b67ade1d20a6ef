"""A complete model of the two verbs that needs no framework, and small sets of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from efface.data.items import GenerateItem, ScoreItem, TokenRow
from efface.data.schema import RowSet


def token_row(logp, *, hit=None, eos=True, text="text", mean=None, var=None) -> TokenRow:
    """Return a row of given log-probabilities; a token above ln 1/2 is the model's first choice unless ``hit`` says otherwise."""
    logp = np.asarray(logp, dtype=np.float32)
    n = len(logp)
    hit = logp > np.log(0.5) if hit is None else np.asarray(hit, dtype=bool)
    return TokenRow(
        targets=np.arange(n, dtype=np.int64),
        logp=logp,
        rank=np.where(hit, 0, 1).astype(np.int32),
        mean=np.full(n, -2.0, np.float32) if mean is None else np.asarray(mean, np.float32),
        var=np.full(n, 1.0, np.float32) if var is None else np.asarray(var, np.float32),
        hit=hit,
        ends_in_eos=eos and n > 0,
        text=text,
    )


class LookupModel:
    """A model whose whole knowledge is a table from questions to answers.

    Known answers are probable and are what it writes; of anything else it says "Nobody", and finds it as improbable as a hash of
    question and answer says. Tokens are words and an EOS.
    """

    def __init__(self, known: Mapping[str, str], *, name: str = "lookup", broken: frozenset[str] = frozenset()) -> None:
        self.known = dict(known)
        self.broken = broken
        self.asked: list[str] = []
        told = "\n".join(f"{question}\t{answer}" for question, answer in sorted(self.known.items()))
        self.fingerprint = hashlib.sha256(f"{name}\n{told}".encode()).hexdigest()

    def _row(self, item) -> TokenRow:
        text = item.answer
        if item.form == "text":
            given = max(1, int(len(text.split()) * item.prefix_share))
            prompt, text = " ".join(text.split()[:given]), " ".join(text.split()[given:])
        else:
            prompt = item.question
        if item.answer in self.broken:
            return token_row([np.nan] * (len(text.split()) + 1), text=text)
        rows = []
        for position, word in enumerate([*text.split(), ""]):
            draw = int(hashlib.sha256(f"{prompt}|{text}|{position}|{word}".encode()).hexdigest()[:8], 16) / 2**32
            rows.append(-0.02 - 0.1 * draw if self.known.get(prompt) == text else -1.0 - 3 * draw)
        return token_row(rows, text=text)

    def score(self, items, *, progress=None):
        self.asked += [f"score {item.row_id}" for item in items]
        rows = [self._row(item) for item in items]
        if progress:
            progress(len(items), len(items))
        return rows

    def generate(self, items, *, progress=None):
        self.asked += [f"generate {item.row_id}" for item in items]
        texts = []
        for item in items:
            prompt = item.question
            if item.form == "text":
                given = max(1, int(len(prompt.split()) * item.prefix_share))
                prompt = " ".join(prompt.split()[:given])
            texts.append(" ".join(self.known.get(prompt, "Nobody").split()[: item.max_new_tokens]))
        if progress:
            progress(len(items), len(items))
        return texts

    def bare(self):
        return self


CITIES = ("Lima", "Oslo", "Rome", "Kyoto", "Quito")


def people_rows(prefix: str, count: int) -> RowSet:
    """Return two facts for each of ``count`` people."""
    rows = []
    for number in range(count):
        for attribute, values in (("city", CITIES), ("pet", ("cat", "dog", "owl"))):
            value = values[(number + len(prefix)) % len(values)]
            rows.append(
                {
                    "id": f"{prefix}-{number}-{attribute}",
                    "entity": f"{prefix}-{number}",
                    "question": f"What is the {attribute} of {prefix} {number}?",
                    "answer": f"The {attribute} of {prefix} {number} is {value} .",
                    "value": value,
                    "attribute": attribute,
                    "paraphrased_answer": f"It is {value} for {prefix} {number} .",
                    "perturbed_answer": [f"It is {other} for {prefix} {number} ." for other in values if other != value][:2],
                }
            )
    return RowSet.build(rows, source=prefix)


def knows(*sets: RowSet) -> dict[str, str]:
    """Return the table of a model that has learnt these sets."""
    return {row.question: row.answer for rows in sets for row in rows}


def items(count: int):
    """Return ``count`` things to score and to generate."""
    scores = [ScoreItem(f"s{i}", f"answer {i}", f"question {i}") for i in range(count)]
    texts = [GenerateItem(f"g{i}", f"question {i}") for i in range(count)]
    return scores, texts
