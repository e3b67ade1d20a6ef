"""Other models that judge what a model writes: a reference language model, a fluency classifier, an entailment model, an embedder.

All of them come by path or hub id from the user; none is downloaded by default, and a figure whose judge is missing is *not
available*. Classifiers and language models load with transformers, the embedder with sentence-transformers
(``efface[classifiers]``).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.data.items import ScoreItem, TokenRow
from efface.errors import InputError, MissingNeed

__all__ = ["JUDGE_TOKENS", "Judges"]

JUDGE_TOKENS = 512
"""Longest text a classifier is shown, in its own tokens."""
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Judges:
    """Where the judging models are; None where there is none.

    Attributes:
        reference: A language model under which the perplexity of what was written is taken.
        fluency: A text classifier whose class 0 means clean text.
        entailment: A classifier of (premise, hypothesis) with a label named "entailment".
        embedder: A sentence-transformers model.
        tokenizer: A tokenizer for token entropy; without it words are counted.
    """

    reference: str | Path | None = None
    fluency: str | Path | None = None
    entailment: str | Path | None = None
    embedder: str | Path | None = None
    tokenizer: str | Path | None = None

    def missing(self, name: str) -> str:
        """Return why the judge of that name cannot be asked; empty where it can."""
        if getattr(self, name) is None:
            return f"no judge was named: judges: {{{name}: PATH}}"
        if name == "embedder" and importlib.util.find_spec("sentence_transformers") is None:
            return "an embedder needs sentence-transformers: pip install 'efface[classifiers]'"
        return ""

    def losses(self, texts: Sequence[str]) -> list[TokenRow]:
        """Return the tokens of each text as the reference model scores them."""
        model = _language_model(self._place("reference"))
        rows: list[TokenRow] = model.score([ScoreItem(str(i), text, form="text") for i, text in enumerate(texts)])
        return rows

    def clean(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability of class 0 for each text."""
        return _class_probabilities(self._place("fluency"), [(text, None) for text in texts])[:, 0]

    def entails(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
        """Return for each (premise, hypothesis) whether "entailment" is the likeliest label.

        Raises:
            InputError: When the classifier has no label of that name.
        """
        place = self._place("entailment")
        labels = {str(name).lower(): int(index) for name, index in _classifier(place)[0].config.label2id.items()}
        if "entailment" not in labels:
            raise InputError(
                f"{place} has the labels {', '.join(sorted(labels))}. An entailment judge has one named 'entailment'. Name another."
            )
        return np.asarray(_class_probabilities(place, pairs).argmax(axis=1) == labels["entailment"])

    def similarity(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """Return max(0, cosine of the two embeddings) for each pair."""
        embed = _embedder(self._place("embedder"))
        left, right = (np.asarray(embed([pair[side] for pair in pairs]), dtype=np.float64) for side in (0, 1))
        norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        return np.asarray(np.maximum(0.0, (left * right).sum(axis=1) / np.maximum(norms, 1e-12)))

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        found: list[str] = _tokenizer(self._place("tokenizer")).tokenize(text)
        return found

    def _place(self, name: str) -> str:
        reason = self.missing(name)
        if reason:
            raise MissingNeed(f"The {name} judge cannot be asked: {reason}. A judge is a path or a hub id. Name it.")
        return str(getattr(self, name))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return what judges there can be."""
        return tuple(field.name for field in fields(cls))


@lru_cache(maxsize=2)
def _language_model(place: str) -> Any:
    from efface.models.language_model import load_language_model

    return load_language_model(place)


@lru_cache(maxsize=4)
def _classifier(place: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        return AutoModelForSequenceClassification.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise _unreadable(place, "a text classifier", error) from None


@lru_cache(maxsize=2)
def _tokenizer(place: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise _unreadable(place, "a tokenizer", error) from None


@lru_cache(maxsize=2)
def _embedder(place: str) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(place, device="cpu")
    except (OSError, ValueError) as error:
        raise _unreadable(place, "an embedder", error) from None
    return lambda texts: model.encode(list(texts), show_progress_bar=False, batch_size=_BATCH)


def _unreadable(place: str, what: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0]
    return InputError(f"{place} does not load as {what}: {reason}. A judge is a model directory or a hub id. Check the path.")


def _class_probabilities(place: str, pairs: Sequence[tuple[str, str | None]]) -> NDArray[np.float64]:
    """Return the class probabilities of each text or pair of texts, (n, classes)."""
    import torch

    model, tokenizer = _classifier(place)
    limit = min(JUDGE_TOKENS, int(getattr(model.config, "max_position_embeddings", JUDGE_TOKENS)))
    found = []
    for start in range(0, len(pairs), _BATCH):
        first, second = zip(*pairs[start : start + _BATCH], strict=True)
        texts = (list(first),) if second[0] is None else (list(first), list(second))
        inputs = tokenizer(*texts, truncation=True, max_length=limit, padding=True, return_tensors="pt")
        with torch.no_grad():
            found.append(torch.softmax(model(**inputs).logits.float(), dim=-1).numpy())
    return np.concatenate(found).astype(np.float64) if found else np.zeros((0, 2))
