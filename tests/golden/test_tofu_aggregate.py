"""Logs of real models -> TOFU's aggregates, in the definitions of TOFU's two scripts and of OpenUnlearning."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from _fixtures import fixture_params, read_fixture

from efface.evals.metrics.tokens import option_probability, probability
from efface.evals.metrics.truth_ratio import closeness, forget_quality, knowledge_ratio, log_truth_ratio, model_utility, preference
from efface.evals.names import from_openunlearning

PATTERN = "tofu_aggregate_*.json"
SETS = {"Forget": "forget", "Retain": "retain", "Real Authors": "real_authors", "Real World": "world_facts"}
FIGURES = {"Prob.": "probability", "Probability": "probability", "ROUGE": "rouge", "Truth Ratio": "truth_ratio"}
MEAN = {"tofu_aggregate_eval_stat": "geometric", "tofu_utils_arithmetic_variant": "arithmetic", "openunlearning": "geometric"}


class Aggregates:
    """The figures of one file in one block's definitions."""

    def __init__(self, path, block: str) -> None:
        self.logs = read_fixture(path)["inputs"]
        self.variant = "openunlearning" if block == "openunlearning" else "original"
        self.mean = MEAN[block]

    def _log_ratio(self, log):
        return log_truth_ratio(log["avg_paraphrased_loss"], log["average_perturb_loss"], variant=self.variant, mean=self.mean)

    def probability(self, key: str) -> float:
        log = self.logs["unlearned"][key]
        if key in {"real_authors", "world_facts"}:
            pairs = zip(log["avg_gt_loss"], log["average_perturb_loss"], strict=True)
            return float(np.mean([option_probability(right, wrong, variant=self.variant) for right, wrong in pairs]))
        return float(np.mean([probability(loss) for loss in log["avg_gt_loss"]]))

    def rouge(self, key: str) -> float:
        return float(np.mean(self.logs["unlearned"][key]["rougeL_recall"]))

    def truth_ratio(self, key: str) -> float:
        ratio = self._log_ratio(self.logs["unlearned"][key])
        return float(np.mean(closeness(ratio, variant=self.variant) if key == "forget" else preference(ratio)))

    def truth_ratio_knowledge(self, key: str) -> float:
        log = self.logs["unlearned"][key]
        return float(np.mean(knowledge_ratio(log["avg_paraphrased_loss"], log["average_perturb_loss"], variant=self.variant)))

    def quality(self):
        return forget_quality(self._log_ratio(self.logs["unlearned"]["forget"]), self._log_ratio(self.logs["retain_model_forget"]))

    def utility(self) -> float:
        kept = ("retain", "real_authors", "world_facts")
        parts = [getattr(self, figure)(key) for key in kept for figure in ("probability", "rouge", "truth_ratio")]
        return model_utility(parts, variant=self.variant)


@lru_cache(maxsize=32)
def _aggregates(path, block):
    return Aggregates(path, block)


def _figure(key: str, values: Aggregates) -> Callable[[], float]:
    """Return the function that makes the figure called ``key``; a KeyError means nobody knows it."""
    whole = {
        "Model Utility": values.utility,
        "model_utility": values.utility,
        "forget_quality": lambda: values.quality().p_value,
        "ks_statistic": lambda: values.quality().statistic,
    }
    if key in whole:
        return whole[key]
    internal = from_openunlearning(key)
    if internal is not None:
        group = next(name for name in SETS.values() if internal.startswith(f"{name}_"))
        figure = internal.removeprefix(f"{group}_").removesuffix("_w_options")
        return lambda: getattr(values, figure)(group)
    for title, group in SETS.items():
        if title in key:
            return lambda: getattr(values, FIGURES[key.replace(title, "").strip()])(group)
    raise KeyError(key)


@pytest.mark.parametrize("block", sorted(MEAN))
@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_aggregates(path, block):
    data = read_fixture(path)
    tolerance = data.get("tolerance", {"relative": 1e-6})
    values = _aggregates(path, block)
    for key, expected in data["expected"][block].items():
        relative = tolerance.get("forget_quality_relative", 1e-6) if key == "forget_quality" else tolerance["relative"]
        assert _figure(key, values)() == pytest.approx(expected, rel=relative), key


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_every_block_is_known(path):
    assert set(read_fixture(path)["expected"]) <= set(MEAN)


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_the_strict_statistic_gives_the_same_test(path):
    logs = read_fixture(path)["inputs"]
    losses = [
        (log["avg_paraphrased_loss"], log["average_perturb_loss"])
        for log in (logs["unlearned"]["forget"], logs["retain_model_forget"])
    ]
    strict = forget_quality(*(log_truth_ratio(*pair) for pair in losses))
    expected = read_fixture(path)["expected"]["tofu_aggregate_eval_stat"]
    assert strict.statistic == pytest.approx(expected["ks_statistic"], rel=1e-6)
    assert strict.log10_p == pytest.approx(np.log10(expected["forget_quality"]), abs=1e-6)
    assert strict.log10_floor <= strict.log10_p
