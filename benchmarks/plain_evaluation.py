"""The baseline of the evaluation: every metric as a function of its own that runs the model by itself.

Texts are tokenised, batched in the order of the file and right-padded for each metric; logits are computed at all positions;
texts are written by ``transformers``' own ``generate``. Nothing here imports efface: every definition is written a second time.

With a ``parents`` dictionary the values a metric is made of are computed once under their own name, as OpenUnlearning does with its
pre-computed metrics: the truth ratio, forget quality and utility then run nothing of their own, but the probability, extraction
strength, exact memorisation and each membership attack still pass over the forget answers one by one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import hmean, ks_2samp
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.plain import IGNORE, PlainBatch, all_logits, pad

__all__ = ["GENERATED", "METRICS", "PlainEvaluation", "PlainRow", "Reference"]

Values = list[Any]
MIN_K = 0.4


@dataclass(frozen=True)
class PlainRow:
    """One row of the data in TOFU's schema."""

    question: str
    answer: str
    paraphrased_question: str
    paraphrased_answer: str
    perturbed_answer: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    """What is known of the retrained model.

    Attributes:
        log_truth_ratios: log R of each forget row.
        losses: Set -> mean loss per row, for "forget" and "holdout".
        min_k_auc: Its AUC under min-40%.
    """

    log_truth_ratios: Sequence[float]
    losses: Mapping[str, Sequence[float]]
    min_k_auc: float


@dataclass
class PlainEvaluation:
    """A model, the sets, and how many rows go into a batch.

    Attributes:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        sets: Rows by set.
        reference: What is known of the retrained model.
        rows_scoring: Rows per scoring batch.
        rows_generating: Rows per batch of texts.
        max_new_tokens: Longest answer written.
        sequences: Sequences scored so far.
        generated: Texts written so far.
        parents: Values kept by name; None keeps none, so that every metric stands alone.
    """

    model: Any
    tokenizer: Any
    sets: Mapping[str, Sequence[PlainRow]]
    reference: Reference
    rows_scoring: int = 32
    rows_generating: int = 32
    max_new_tokens: int = 200
    sequences: int = 0
    generated: int = 0
    parents: dict[str, Values] | None = field(default=None)

    def value(self, metric: str) -> float:
        """Return one metric, with forward passes of its own for everything it reads."""
        needed = METRICS[metric]
        return needed.combine(self, [self._leaf(leaf) for leaf in needed.leaves])

    def evaluate(self, metrics: Sequence[str]) -> dict[str, float]:
        """Return metrics one after the other."""
        with torch.no_grad():
            return {metric: self.value(metric) for metric in metrics}

    def _leaf(self, name: str) -> Values:
        if self.parents is not None and name in self.parents:
            return self.parents[name]
        values = LEAVES[name](self)
        if self.parents is not None:
            self.parents[name] = values
        return values

    def losses(self, key: str, part: str) -> Values:
        """Return the mean loss of each continuation of a set."""
        found: Values = []
        for logits, labels in self._passes(key, part):
            nll = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="none")
            counts = (labels[:, 1:] != IGNORE).sum(1)
            found += (nll.view(len(labels), -1).sum(1) / counts).tolist()
        return found

    def hits(self, key: str) -> list[np.ndarray]:
        """Return, per answer, which tokens but EOS are the model's first choice."""
        return [
            (row == label)[label >= 0][:-1].numpy()
            for logits, labels in self._passes(key, "answers")
            for row, label in zip(logits[:, :-1].argmax(-1), labels[:, 1:], strict=True)
        ]

    def logps(self, key: str, *, standardised: bool = False) -> list[np.ndarray]:
        """Return, per answer, the log-probability of each token but EOS; standardised over the vocabulary if asked for."""
        found = []
        for logits, labels in self._passes(key, "answers"):
            logp = F.log_softmax(logits[:, :-1], -1)
            chosen = logp.gather(-1, labels[:, 1:].clamp(min=0).unsqueeze(-1)).squeeze(-1)
            if standardised:
                mean = (logp.exp() * logp).sum(-1)
                variance = (logp.exp() * logp.square()).sum(-1) - mean.square()
                chosen = (chosen - mean) / variance.clamp(min=1e-6).sqrt()
            found += [row[label >= 0][:-1].numpy() for row, label in zip(chosen, labels[:, 1:], strict=True)]
        return found

    def texts(self, key: str) -> list[str]:
        """Return the greedy answer to each question of a set."""
        found: list[str] = []
        rows = self.sets[key]
        pad_id = self.tokenizer.pad_token_id
        for start in range(0, len(rows), self.rows_generating):
            prompts = [torch.tensor(self._prompt(row.question)) for row in rows[start : start + self.rows_generating]]
            width = max(map(len, prompts))
            ids = torch.stack([F.pad(prompt, (width - len(prompt), 0), value=pad_id) for prompt in prompts])
            mask = torch.stack([F.pad(torch.ones_like(prompt), (width - len(prompt), 0)) for prompt in prompts])
            written = self.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=self.max_new_tokens, do_sample=False, pad_token_id=pad_id
            )
            found += [text.strip() for text in self.tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)]
            self.generated += len(prompts)
        return found

    def _prompt(self, question: str) -> list[int]:
        return list(self.tokenizer(f"Question: {question}\nAnswer:").input_ids)

    def _pairs(self, key: str, part: str) -> list[tuple[str, str]]:
        rows = self.sets[key]
        if part == "paraphrased":
            return [(row.question, row.paraphrased_answer) for row in rows]
        if part == "paraphrased_questions":
            return [(row.paraphrased_question, row.answer) for row in rows]
        if part == "perturbed":
            return [(row.question, wrong) for row in rows for wrong in row.perturbed_answer]
        return [(row.question, row.answer) for row in rows]

    def _passes(self, key: str, part: str) -> Iterator[tuple[Tensor, Tensor]]:
        pairs = self._pairs(key, part)
        self.sequences += len(pairs)
        for start in range(0, len(pairs), self.rows_scoring):
            encoded = []
            for question, answer in pairs[start : start + self.rows_scoring]:
                ids = self.tokenizer(f"Question: {question}\nAnswer: {answer}").input_ids
                encoded.append(([*ids, self.tokenizer.eos_token_id], len(self._prompt(question))))
            batch: PlainBatch = pad(encoded, pad_id=self.tokenizer.pad_token_id)
            yield all_logits(self.model, batch), batch.labels


Leaf = Callable[[PlainEvaluation], Values]
LEAVES: dict[str, Leaf] = {
    "forget_paraphrased_question_probability": lambda e: e.losses("forget", "paraphrased_questions"),
    "forget_extraction_strength": lambda e: [_extraction(hits) for hits in e.hits("forget")],
    "forget_exact_memorization": lambda e: [float(np.mean(hits)) for hits in e.hits("forget")],
    "mia_loss": lambda e: [e.losses("forget", "answers"), e.losses("holdout", "answers")],
    "mia_zlib": lambda e: [_zlib(e, "forget"), _zlib(e, "holdout")],
    "mia_min_k": lambda e: [_smallest(e.logps("forget")), _smallest(e.logps("holdout"))],
    "mia_min_k_plus_plus": lambda e: [
        _smallest(e.logps("forget", standardised=True)),
        _smallest(e.logps("holdout", standardised=True)),
    ],
    "mia_reference": lambda e: [_difference(e, "forget"), _difference(e, "holdout")],
}


def _leaves_of(key: str) -> dict[str, Leaf]:
    return {
        f"{key}_probability": lambda e: e.losses(key, "answers"),
        f"{key}_paraphrased_probability": lambda e: e.losses(key, "paraphrased"),
        f"{key}_perturbed_probability": lambda e: _grouped(e, key),
        f"{key}_rouge": lambda e: _rouge(e, key, [row.answer for row in e.sets[key]]),
    }


for _key in ("forget", "retain", "real_authors", "world_facts"):
    LEAVES |= _leaves_of(_key)
LEAVES["forget_paraphrased_rouge"] = lambda e: _rouge(e, "forget", [row.paraphrased_answer for row in e.sets["forget"]])


def _grouped(evaluation: PlainEvaluation, key: str) -> Values:
    losses = iter(evaluation.losses(key, "perturbed"))
    return [[next(losses) for _ in row.perturbed_answer] for row in evaluation.sets[key]]


def _extraction(hits: np.ndarray) -> float:
    wrong = np.flatnonzero(~hits)
    return 1 - (int(wrong[-1]) + 1 if len(wrong) else 0) / len(hits)


def _smallest(rows: Sequence[np.ndarray]) -> Values:
    return [float(-np.sort(row)[: max(1, int(MIN_K * len(row)))].mean(dtype=np.float64)) for row in rows]


def _zlib(evaluation: PlainEvaluation, key: str) -> Values:
    texts = [row.answer for row in evaluation.sets[key]]
    losses = evaluation.losses(key, "answers")
    return [loss / len(zlib.compress((" " + text).encode())) for loss, text in zip(losses, texts, strict=True)]


def _difference(evaluation: PlainEvaluation, key: str) -> Values:
    return list(np.subtract(evaluation.losses(key, "answers"), evaluation.reference.losses[key]))


def _rouge(evaluation: PlainEvaluation, key: str, references: Sequence[str]) -> Values:
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    texts = evaluation.texts(key)
    return [scorer.score(reference, text)["rougeL"].recall for reference, text in zip(references, texts, strict=True)]


@dataclass(frozen=True)
class PlainMetric:
    """A metric: the values per row it is made of, and how they become one figure."""

    leaves: tuple[str, ...]
    combine: Callable[[PlainEvaluation, list[Values]], float]


def _mean(_: PlainEvaluation, leaves: list[Values]) -> float:
    return float(np.mean(leaves[0]))


def _probability(_: PlainEvaluation, leaves: list[Values]) -> float:
    return float(np.mean(np.exp(np.negative(leaves[0]))))


def _log_ratio(leaves: Sequence[Values]) -> np.ndarray:
    return np.subtract(leaves[0], np.mean(leaves[1], axis=1))


def _closeness(_: PlainEvaluation, leaves: list[Values]) -> float:
    return float(np.mean(np.exp(-np.abs(_log_ratio(leaves)))))


def _preference(_: PlainEvaluation, leaves: list[Values]) -> float:
    return float(np.mean(np.maximum(0, 1 - np.exp(_log_ratio(leaves)))))


def _knowledge(_: PlainEvaluation, leaves: list[Values]) -> float:
    right, wrong = np.exp(np.negative(leaves[0])), np.exp(-np.mean(leaves[1], axis=1))
    return float(np.mean(right / (right + wrong)))


def _options(_: PlainEvaluation, leaves: list[Values]) -> float:
    right = np.exp(np.negative(leaves[0]))
    return float(np.mean(right / (right + np.exp(np.negative(leaves[1])).sum(1))))


def _quality(evaluation: PlainEvaluation, leaves: list[Values]) -> float:
    return float(ks_2samp(_log_ratio(leaves), evaluation.reference.log_truth_ratios).pvalue)


def _auc(_: PlainEvaluation, leaves: list[Values]) -> float:
    forget, holdout = leaves[0]
    return float(roc_auc_score([0] * len(forget) + [1] * len(holdout), [*forget, *holdout]))


def _privleak(evaluation: PlainEvaluation, leaves: list[Values]) -> float:
    reference = evaluation.reference.min_k_auc
    if reference == 1:
        return math.nan
    return 100 * ((1 - _auc(evaluation, leaves)) - (1 - reference)) / (1 - reference)


def _rel_diff(evaluation: PlainEvaluation, leaves: list[Values]) -> float:
    reference = evaluation.reference.min_k_auc
    if reference == 0:
        return math.nan
    return 100 * (_auc(evaluation, leaves) - reference) / reference


def _ratio_leaves(key: str) -> tuple[str, str]:
    right = "paraphrased_probability" if key in ("forget", "retain") else "probability"
    return f"{key}_{right}", f"{key}_perturbed_probability"


METRICS: dict[str, PlainMetric] = {
    "forget_paraphrased_question_probability": PlainMetric(("forget_paraphrased_question_probability",), _probability),
    "forget_paraphrased_rouge": PlainMetric(("forget_paraphrased_rouge",), _mean),
    "forget_truth_ratio": PlainMetric(_ratio_leaves("forget"), _closeness),
    "forget_truth_ratio_knowledge": PlainMetric(_ratio_leaves("forget"), _knowledge),
    "forget_extraction_strength": PlainMetric(("forget_extraction_strength",), _mean),
    "forget_exact_memorization": PlainMetric(("forget_exact_memorization",), _mean),
    "forget_quality": PlainMetric(_ratio_leaves("forget"), _quality),
    "mia_loss": PlainMetric(("mia_loss",), _auc),
    "mia_zlib": PlainMetric(("mia_zlib",), _auc),
    "mia_min_k": PlainMetric(("mia_min_k",), _auc),
    "mia_min_k_plus_plus": PlainMetric(("mia_min_k_plus_plus",), _auc),
    "mia_reference": PlainMetric(("mia_reference",), _auc),
    "privleak": PlainMetric(("mia_min_k",), _privleak),
    "rel_diff_min_k": PlainMetric(("mia_min_k",), _rel_diff),
}
for _key in ("forget", "retain", "real_authors", "world_facts"):
    METRICS[f"{_key}_probability"] = PlainMetric((f"{_key}_probability",), _probability)
    METRICS[f"{_key}_perturbed_probability"] = PlainMetric((f"{_key}_perturbed_probability",), _probability)
    METRICS[f"{_key}_rouge"] = PlainMetric((f"{_key}_rouge",), _mean)
    if _key in ("forget", "retain"):
        METRICS[f"{_key}_paraphrased_probability"] = PlainMetric((f"{_key}_paraphrased_probability",), _probability)
    else:
        METRICS[f"{_key}_probability_w_options"] = PlainMetric((f"{_key}_probability", f"{_key}_perturbed_probability"), _options)
    if _key != "forget":
        METRICS[f"{_key}_truth_ratio"] = PlainMetric(_ratio_leaves(_key), _preference)

_UTILITY = tuple(
    f"{key}_{part}"
    for key, chance in (
        ("retain", "probability"),
        ("real_authors", "probability_w_options"),
        ("world_facts", "probability_w_options"),
    )
    for part in (chance, "rouge", "truth_ratio")
)
_UTILITY_LEAVES = tuple(dict.fromkeys(leaf for part in _UTILITY for leaf in METRICS[part].leaves))


def _utility(evaluation: PlainEvaluation, leaves: list[Values]) -> float:
    known = dict(zip(_UTILITY_LEAVES, leaves, strict=True))
    parts = [METRICS[name].combine(evaluation, [known[leaf] for leaf in METRICS[name].leaves]) for name in _UTILITY]
    return float(hmean(parts))


METRICS["model_utility"] = PlainMetric(_UTILITY_LEAVES, _utility)

GENERATED = frozenset(name for name, metric in METRICS.items() if any(leaf.endswith("rouge") for leaf in metric.leaves))
"""Metrics that need texts written."""
