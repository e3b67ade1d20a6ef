"""A Closer Look: its aggregates by hand, and the suite with judges that are given and judges that are not."""

from __future__ import annotations

import numpy as np
import pytest

from efface.evals import evaluate
from efface.evals.judges import Judges
from efface.evals.metrics.closer_look import FIGURES, entailment_score, forget_efficacy, utility_of_eighteen
from efface.evals.suites.closer_look import CloserLook


class WordJudges(Judges):
    """Judges by words in common; stands for models that nobody ships."""

    __slots__ = ()

    def missing(self, name):
        return "" if name in {"embedder", "entailment", "tokenizer"} else "none"

    def similarity(self, pairs):
        return np.array([len({*a.split()} & {*b.split()}) / max(len({*b.split()}), 1) for a, b in pairs])

    def entails(self, pairs):
        return np.array([premise == hypothesis for premise, hypothesis in pairs])

    def tokens(self, text):
        return list(text)


def test_aggregates_by_hand():
    figures = dict(zip(FIGURES, (0.5, 0.4, 0.3, 0.99, 0.2, 0.1), strict=True))
    assert forget_efficacy(figures) == pytest.approx(1 - 1.5 / 5)
    sets = {key: dict.fromkeys(FIGURES, value) for key, value in (("a", 0.5), ("b", 1.0), ("c", 0.25))}
    assert utility_of_eighteen(sets) == pytest.approx(18 / (6 * 2 + 6 + 6 * 4))
    assert utility_of_eighteen({"a": {**sets["a"], "rouge": 0.0}}) == 0
    assert [entailment_score(True, 0.1), entailment_score(True, 0.09), entailment_score(False, 1.0)] == [1, 0, 0]


def test_without_judges_the_aggregates_name_what_is_missing(original, data):
    results = evaluate(original, data=data, suite="closer_look")
    assert results.value("forget_efficacy") is results.value("closer_look_utility") is None
    assert "forget_cosine_similarity" in results["forget_efficacy"].reason
    assert "embedder" in results["retain_cosine_similarity"].reason
    assert results["retain_token_entropy"].details["counted"].startswith("words")
    assert results.value("forget_rouge") == 1.0


def test_with_judges_a_model_that_forgot_is_told_from_one_that_did_not(original, retrained, data):
    suite = CloserLook(judges=WordJudges())
    knows, forgot = (evaluate(model, data=data, suite=suite) for model in (original, retrained))
    assert knows.value("forget_entailment") == 1.0
    assert forgot.value("forget_entailment") == 0.0
    assert forgot.value("forget_efficacy") > knows.value("forget_efficacy") + 0.4
    assert knows.value("closer_look_utility") == pytest.approx(forgot.value("closer_look_utility"))
    assert len(knows["closer_look_utility"].details) == 18
    assert knows["retain_token_entropy"].details["counted"] == "tokens"
