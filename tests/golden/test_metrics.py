"""A tiny model and its retrained twin -> every metric of OpenUnlearning, parts of MUSE's evaluator, corrected variants.

Each entry of ``expected.json`` is one test, found by its key; a key nobody knows is a failure.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from _fixtures import fixture_files, fixture_params, pending_cases, read_fixture, read_lines

from efface.data.encoding import Template
from efface.data.items import GenerateItem, ScoreItem
from efface.data.schema import RowSet
from efface.evals import SuiteData, measure
from efface.evals.evaluate import evaluate
from efface.evals.metrics.answers import rouge_scores, token_entropy
from efface.evals.metrics.membership import min_k, privleak
from efface.evals.metrics.muse import STOP_WORDS, muse_auc, muse_membership, muse_rouge, rouge_summary, verbatim_reference
from efface.evals.metrics.tokens import answer_nll, exact_memorization, extraction_strength, probability
from efface.evals.names import from_openunlearning
from efface.evals.suites.privacy import Privacy
from efface.evals.suites.tofu import Tofu
from efface.models.language_model import load_language_model
from efface.stats import auc
from efface.text import rouge

PATTERN = "metrics_*"
VARIANT = "openunlearning"
CLOSE = {"abs": 1e-4}  # scores and losses
EXACT = {"abs": 1e-9}
AUC_STEP = {"abs": 1 / 400}
TAGS = {
    "user_start": "user_start_tag",
    "user_end": "user_end_tag",
    "assistant_start": "asst_start_tag",
    "assistant_end": "asst_end_tag",
}


class Fixture:
    """One folder: its data, its two models, and what they say, measured on first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected = read_fixture(folder / "expected.json")
        self.settings = self.expected["settings"]
        self.rows = TemporaryDirectory(prefix="efface-golden-")  # what one test measured serves the next

    def lines(self, name: str):
        return read_lines(self.folder / f"{name}.jsonl")

    def template(self, key: str) -> Template:
        tags = self.settings[key]
        return Template(name=key, answer_prefix="", **{field: tags[tag] for field, tag in TAGS.items()})

    @lru_cache  # noqa: B019  (fixtures live as long as the test run)
    def model(self, role: str, template: str = "template_args", max_length: str = "max_length"):
        return load_language_model(
            self.folder / {"unlearned": "model", "retrained": "retain_model"}[role],
            template=self.template(template),
            dtype=self.settings["dtype"],
            attention=self.settings["attention"],
            max_length=self.settings[max_length],
            variant=VARIANT,
        )

    @cached_property
    def data(self) -> SuiteData:
        def rows(name: str) -> RowSet:
            return RowSet.build(self.lines(name), source=name)

        extra = {"real_authors": rows("ra"), "world_facts": rows("wf")}
        return SuiteData(rows("forget"), rows("retain"), rows("holdout"), extra)

    @lru_cache  # noqa: B019
    def results(self, role: str, variant: str = VARIANT, *, alone: bool = False):
        against = self.results("retrained", variant) if role == "unlearned" and not alone else None
        return evaluate(
            self.model(role),
            suite=Tofu(min_k=self.settings["min_k"]),
            data=self.data,
            against=against,
            variant=variant,
            max_new_tokens=self.settings["rouge_max_new_tokens"],
            cache=self.rows.name,
        )

    @lru_cache  # noqa: B019
    def privacy(self, role: str):
        """The suite of attacks, gradients included."""
        suite = Privacy(min_k=self.settings["min_k"], gradient_p=self.settings["gradnorm_p"])
        against = self.privacy("retrained") if role == "unlearned" else None
        return evaluate(self.model(role), suite=suite, data=self.data, against=against, variant=VARIANT, cache=self.rows.name)

    @lru_cache  # noqa: B019
    def generations(self, role: str):
        plan = Tofu().plan(self.data, max_new_tokens=self.settings["rouge_max_new_tokens"])
        return plan.views, measure(self.model(role), (), plan.generate_items(), cache=self.rows.name)

    def scored(self, model, items):
        measured = measure(model, items, ())
        return [measured.row(item) for item in items]

    def generated(self, model, items):
        measured = measure(model, (), items)
        return [measured.text(item) for item in items]

    @lru_cache  # noqa: B019
    def verbatim(self, role: str):
        longest = self.settings["muse_max_new_tokens"]
        items = [GenerateItem(str(i), row["prompt"], "completion", longest) for i, row in enumerate(self.lines("verbmem"))]
        return self.generated(self.model(role), items)

    @lru_cache  # noqa: B019
    def knowledge(self, role: str):
        shots = tuple((row["question"], row["answer"]) for row in self.lines("icl"))
        longest = self.settings["muse_max_new_tokens"]
        items = [
            GenerateItem(str(i), row["question"], max_new_tokens=longest, stop=STOP_WORDS, shots=shots)
            for i, row in enumerate(self.lines("knowmem"))
        ]
        return self.generated(self.model(role, "muse_knowmem_and_border_template_args"), items)

    @lru_cache  # noqa: B019
    def texts(self, role: str, name: str, *, lower: bool = False):
        texts = [row["text"].lower() if lower else row["text"] for row in self.lines(name)]
        return self.scored(self.model(role), [ScoreItem(str(i), text, form="text") for i, text in enumerate(texts)])

    @lru_cache  # noqa: B019
    def edges(self, role: str):
        items = [ScoreItem(str(i), row["answer"], row["question"]) for i, row in enumerate(self.lines("edge"))]
        return self.scored(self.model(role, max_length="edge_max_length"), items)

    @lru_cache  # noqa: B019
    def continuations(self, role: str):
        items = [ScoreItem(str(i), f" {row['gt']}", row["prompt"], "completion") for i, row in enumerate(self.lines("verbmem"))]
        return self.scored(self.model(role), items)

    @lru_cache  # noqa: B019
    def border(self, role: str):
        items = [ScoreItem(str(i), row["answer"], row["question"]) for i, row in enumerate(self.lines("knowmem"))]
        return self.scored(self.model(role, "muse_knowmem_and_border_template_args"), items)


@lru_cache(maxsize=4)
def opened(folder: Path) -> Fixture:
    return Fixture(folder)


def mean(values) -> float | None:
    valid = [value for value in values if value is not None]
    return float(np.mean(valid)) if valid else None


def is_missing(value) -> bool:
    return value is None or math.isnan(value)


def by_index(entry) -> list:
    values = entry["value_by_index"]
    return [values[key] for key in sorted(values, key=int)]


def check_items(entry, key: str, values, tolerance) -> None:
    expected = [None if item is None else item[key] if isinstance(item, dict) else item for item in by_index(entry)]
    assert len(values) == len(expected)
    for value, wanted in zip(values, expected, strict=True):
        assert (value is None) == (wanted is None)
        if wanted is not None:
            assert value == pytest.approx(wanted, **tolerance, nan_ok=True)


# --- the figures of the TOFU suite ---------------------------------------------------------------------------------------------


def check_suite_figure(fixture: Fixture, role: str, key: str, entry) -> None:
    name = from_openunlearning(key)
    results = fixture.privacy(role) if name == "mia_gradnorm" else fixture.results(role)
    metric = results[name]
    if is_missing(entry["agg_value"]):
        assert metric.value is None
        return
    assert metric.value is not None, metric.reason
    if name.startswith("mia_"):
        assert metric.value == pytest.approx(entry["agg_value"], **AUC_STEP)
        for side in ("forget", "holdout"):
            if side in entry:
                assert metric.details[f"mean_{side}"] == pytest.approx(entry[side]["agg_value"], **CLOSE)
        if "forget" in entry:
            check_items(entry["forget"], "score", metric.per_item, CLOSE)
        return
    relative = {"rel": 1e-4} if name in {"privleak", "rel_diff_min_k", "forget_quality"} else {}
    tolerance = EXACT if name.endswith("extraction_strength") else CLOSE
    assert metric.value == pytest.approx(entry["agg_value"], **(relative or tolerance))
    if "value_by_index" in entry:
        check_suite_items(fixture, role, name, entry)


def check_suite_items(fixture: Fixture, role: str, name: str, entry) -> None:
    results = fixture.results(role)
    metric = results[name]
    fields = next((item for item in by_index(entry) if isinstance(item, dict)), {})
    if name.endswith("rouge"):
        check_generations(fixture, role, next(key for key in fixture.data.sets if name.startswith(f"{key}_")), entry)
        check_items(entry, "rougeL_recall", metric.per_item, EXACT)
    elif name.endswith("truth_ratio"):
        group = name.removesuffix("truth_ratio")
        logs = results.metrics.get(f"{group}log_truth_ratio")
        if logs is not None:
            ratios = [None if value is None else math.exp(value) for value in logs.per_item]
            check_items(entry, "score", ratios, {"rel": 1e-4, "abs": 1e-4})
    elif "perturbed" in name:
        assert list(metric.per_item) == pytest.approx([mean(item["prob"]) for item in by_index(entry)], **CLOSE)
    else:
        check_items(entry, "prob" if "prob" in fields else "score", metric.per_item, CLOSE)
        losses = f"{name.removesuffix('_probability')}_nll"
        if "avg_loss" in fields and losses in results.metrics:
            check_items(entry, "avg_loss", results[losses].per_item, CLOSE)


def check_generations(fixture: Fixture, role: str, group: str, entry) -> None:
    views, measured = fixture.generations(role)
    for item, expected in zip(views[group].generations, by_index(entry), strict=True):
        assert measured.text(item) == expected["generation"].strip()


# --- the figures outside of it -------------------------------------------------------------------------------------------------


def check_muse_rouge(generations, references, entry) -> None:
    scores = [rouge_scores(text, reference, variant=VARIANT) for text, reference in zip(generations, references, strict=True)]
    assert mean(score.rougeL_f1 for score in scores) == pytest.approx(entry["agg_value"], **EXACT)
    if "value_by_index" in entry:
        assert generations == [item["generation"].strip() for item in by_index(entry)]
        for figure in ("rouge1_recall", "rougeL_recall", "rougeL_f1"):
            check_items(entry, figure, [getattr(score, figure) for score in scores], EXACT)


def check_verbmem(fixture: Fixture, role: str, entry) -> None:
    check_muse_rouge(fixture.verbatim(role), [row["gt"] for row in fixture.lines("verbmem")], entry)


def check_knowmem(fixture: Fixture, role: str, entry) -> None:
    check_muse_rouge(fixture.knowledge(role), [row["answer"] for row in fixture.lines("knowmem")], entry)


def check_rows(rows, function, entry, key: str, tolerance) -> None:
    values = [function(row, variant=VARIANT) for row in rows]
    if is_missing(entry["agg_value"]):
        assert is_missing(mean(values))
    else:
        assert mean(values) == pytest.approx(entry["agg_value"], **tolerance)
    if "value_by_index" in entry:
        check_items(entry, key, values, tolerance)


def row_probability(row, *, variant):
    return probability(answer_nll(row, variant=variant))


def check_muse_extraction(fixture: Fixture, role: str, entry) -> None:
    check_rows(fixture.continuations(role), extraction_strength, entry, "score", EXACT)


def check_border(fixture: Fixture, role: str, entry) -> None:
    check_rows(fixture.border(role), row_probability, entry, "prob", CLOSE)


def check_edge_probability(fixture: Fixture, role: str, entry) -> None:
    check_rows(fixture.edges(role), row_probability, entry, "prob", CLOSE)


def check_edge_extraction(fixture: Fixture, role: str, entry) -> None:
    check_rows(fixture.edges(role), extraction_strength, entry, "score", EXACT)


def check_edge_memorization(fixture: Fixture, role: str, entry) -> None:
    check_rows(fixture.edges(role), exact_memorization, entry, "score", CLOSE)


def muse_min_k(fixture: Fixture, role: str):
    return [
        [min_k(row, share=fixture.settings["min_k"], variant=VARIANT) for row in fixture.texts(role, name)]
        for name in ("muse_forget", "muse_holdout")
    ]


def check_muse_min_k(fixture: Fixture, role: str, entry) -> None:
    forget, holdout = muse_min_k(fixture, role)
    assert auc(forget, holdout) == pytest.approx(entry["agg_value"], **AUC_STEP)
    if "forget" in entry:
        check_items(entry["forget"], "score", forget, CLOSE)
        check_items(entry["holdout"], "score", holdout, CLOSE)


def check_muse_privleak(fixture: Fixture, role: str, entry) -> None:
    value = privleak(auc(*muse_min_k(fixture, role)), auc(*muse_min_k(fixture, "retrained")), variant=VARIANT)
    assert value == pytest.approx(entry["agg_value"], rel=1e-4)


def check_default_reference(fixture: Fixture, role: str, entry) -> None:
    metric = fixture.results(role, alone=True)["privleak"]
    assert metric.value == pytest.approx(entry["agg_value"], rel=1e-4)
    assert "0.5" in metric.reason


OUTSIDE = {
    "muse_forget_verbmem_ROUGE": check_verbmem,
    "muse_forget_knowmem_ROUGE": check_knowmem,
    "muse_extraction_strength": check_muse_extraction,
    "muse_mia_min_k": check_muse_min_k,
    "muse_privleak": check_muse_privleak,
    "border_base_template_probability": check_border,
    "edge_probability": check_edge_probability,
    "edge_extraction_strength": check_edge_extraction,
    "edge_exact_memorization": check_edge_memorization,
    "privleak_default_ref": check_default_reference,
}
ROLES = {"openunlearning": "unlearned", "openunlearning_retain_model": "retrained"}
BLOCKS = {*ROLES, "corrected", "muse_bench", "closer_look_token_entropy", "rouge_pairs", "settings"}


def published_cases():
    cases = [
        pytest.param(path, block, key, id=f"{path.name}-{block}-{key}")
        for path in fixture_files(PATTERN)
        for block in ROLES
        for key in read_fixture(path / "expected.json").get(block, {})
    ]
    return cases or [pytest.param(*param.values, "", "", marks=param.marks, id="absent") for param in fixture_params(PATTERN)]


@pytest.mark.parametrize(("path", "block", "key"), published_cases())
def test_openunlearning(path, block, key):
    pending = pending_cases(path.name).get(key)
    if pending:
        pytest.skip(f"pending: {pending}")
    fixture = opened(path)
    entry = fixture.expected[block][key]
    if key in OUTSIDE:
        OUTSIDE[key](fixture, ROLES[block], entry)
    else:
        assert from_openunlearning(key) is not None, f"nobody knows {key}"
        check_suite_figure(fixture, ROLES[block], key, entry)


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_every_block_is_known(path):
    assert set(opened(path).expected) <= BLOCKS
    assert set(opened(path).expected["corrected"]) <= {"extraction_strength", "edge_extraction_strength"}
    assert set(opened(path).expected["muse_bench"]) <= {"verbmem", "knowmem", "privleak"}


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_corrected_extraction_strength(path):
    fixture = opened(path)
    entry = fixture.expected["corrected"]["extraction_strength"]
    metric = fixture.results("unlearned", "strict", alone=True)["forget_extraction_strength"]
    assert metric.value == pytest.approx(entry["agg_value"], **EXACT)
    check_items(entry, "score", metric.per_item, EXACT)


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_corrected_extraction_strength_at_the_edges(path):
    fixture = opened(path)
    entry = fixture.expected["corrected"]["edge_extraction_strength"]
    values = [extraction_strength(row, variant="strict") for row in fixture.edges("unlearned")]
    check_items(entry, "score", values, EXACT)
    assert mean(values) == pytest.approx(entry["agg_value"], **EXACT)


def check_muse_summary(scores, expected) -> None:
    summary = rouge_summary(scores)
    for key, value in expected["agg"].items():
        assert summary[key] == pytest.approx(value, **EXACT), key
    for score, row in zip(scores, expected["history"], strict=True):
        assert score.rougeL_f1 == pytest.approx(row["rougeL"], **EXACT)


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_muse_verbmem(path):
    fixture = opened(path)
    expected = fixture.expected["muse_bench"]["verbmem"]
    tokenizer, longest = fixture.model("unlearned").tokenizer, fixture.settings["muse_max_new_tokens"]
    references = [verbatim_reference(tokenizer, row["gt"], longest) for row in fixture.lines("verbmem")]
    generations = fixture.verbatim("unlearned")
    assert references == [row["gt"] for row in expected["history"]]
    assert generations == [row["response"].strip() for row in expected["history"]]
    check_muse_summary([muse_rouge(*pair) for pair in zip(generations, references, strict=True)], expected)


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_muse_knowmem(path):
    fixture = opened(path)
    expected = fixture.expected["muse_bench"]["knowmem"]
    generations = fixture.knowledge("unlearned")
    assert generations == [row["response"].strip() for row in expected["history"]]
    pairs = zip(generations, (row["answer"] for row in fixture.lines("knowmem")), strict=True)
    check_muse_summary([muse_rouge(*pair) for pair in pairs], expected)


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_muse_privleak(path):
    fixture = opened(path)
    expected = fixture.expected["muse_bench"]["privleak"]
    scores = {}
    for side in ("forget", "holdout"):
        name = f"muse_{side}"
        whole, lower = fixture.texts("unlearned", name), fixture.texts("unlearned", name, lower=True)
        texts = [row["text"] for row in fixture.lines(name)]
        shares = [int(key[4:-1]) for key in expected[side][0] if key.startswith("Min-")]
        scores[side] = [muse_membership(*triple, shares=shares) for triple in zip(whole, lower, texts, strict=True)]
        for row, wanted in zip(scores[side], expected[side], strict=True):
            figures = {key: value for key, value in wanted.items() if key != "text"}
            assert row == pytest.approx(figures, **CLOSE, nan_ok=True)
    for key, value in expected["auc"].items():
        figure = key.removeprefix("forget_holdout_")
        found = muse_auc([row[figure] for row in scores["forget"]], [row[figure] for row in scores["holdout"]])
        assert found == pytest.approx(value, **AUC_STEP), key


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_closer_look_token_entropy(path):
    fixture = opened(path)
    tokenizer = fixture.model("unlearned").tokenizer
    for case in fixture.expected["closer_look_token_entropy"]:
        entropy = token_entropy(tokenizer.tokenize(case["text"]))
        assert [entropy.bits, entropy.normalised] == pytest.approx([case["bits"], case["normalized"]], **EXACT)


@pytest.mark.filterwarnings("ignore:A reference holds no ASCII")
@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_rouge_pairs(path):
    for case in opened(path).expected["rouge_pairs"]:
        for stemmer, suffix in ((True, "stem"), (False, "nostem")):
            scores = rouge(case["generation"], case["ground_truth"], stemmer=stemmer).as_dict()
            assert scores == pytest.approx({name: case[f"{name}_{suffix}"] for name in scores}, **EXACT)


@pytest.mark.parametrize("path", fixture_params(PATTERN))
def test_a_model_leaks_nothing_against_itself(path):
    fixture = opened(path)
    against = fixture.results("retrained")
    again = evaluate(
        fixture.model("retrained"),
        suite=Tofu(min_k=fixture.settings["min_k"]),
        data=fixture.data,
        against=against,
        variant=VARIANT,
        max_new_tokens=fixture.settings["rouge_max_new_tokens"],
        cache=fixture.rows.name,
    )
    assert again.value("privleak") == pytest.approx(0, abs=1e-6)
    assert again.value("forget_quality") == 1.0
