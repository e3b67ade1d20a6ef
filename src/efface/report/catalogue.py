"""What each figure is called, what it says in one plain line, and under which question it stands.

A figure is named ``<set>_<family>`` ("unseen_frames_forget_fact_accuracy"). The name is read from its end, so that sets and
families of other packages find their place as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from efface.report.families import Family, Scale
from efface.report.net_families import NET_FAMILIES, NET_SETS
from efface.report.suite_families import SUITE_FAMILIES
from efface.results import Results

__all__ = ["AIMS", "QUESTIONS", "ROLES", "Description", "Question", "describe", "role_label", "sorted_names"]

ROLES = ("original", "unlearned", "retrained", "retrained_2")

AIMS = {
    "higher": "higher is better",
    "lower": "lower is better",
    "reference": "best where the retrained model is",
    "zero": "best at zero",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the comparison, which gathers the figures that answer it."""

    key: str
    title: str
    text: str


QUESTIONS = (
    Question(
        "owner",
        "What the data owner asks: is it gone?",
        "MUSE's first three criteria. The retrained model, which never saw these texts, shows what a clean model would get.",
    ),
    Question(
        "deployer",
        "What the deployer asks: is the model still good, and stays it so?",
        "MUSE's other three: what is left of everything else, after larger requests, and after many of them.",
    ),
    Question(
        "forgotten",
        "Does it still know what it was asked to forget?",
        "Low is good, but not lower than the retrained model, which never saw these rows and still guesses some of them.",
    ),
    Question("kept", "Does it still know everything else?", "Forgetting is worth little when the model is broken by it."),
    Question(
        "behaviour",
        "Does it behave as before?",
        "Refusing everything, or inventing facts about strangers, can pass for forgetting.",
    ),
    Question(
        "alike",
        "Can it be told from a model that never saw the data?",
        "These figures look at single answers, not at their mean. Most of them need the retrained model.",
    ),
    Question("other", "Further figures", "Figures of this run that belong to none of the questions above."),
)


@dataclass(frozen=True, slots=True)
class Description:
    """How one figure is shown.

    Attributes:
        label: Short name.
        explanation: One plain sentence.
        question: Key of the :class:`Question` it stands under.
        scale: "share" (a percentage of questions), "score" (0 to 1), "test" (a statistical test), "open" (anything else).
        order: Place among its neighbours, smaller first.
        set_name: The rows it was measured on, "" where it covers several.
        family: What is measured ("fact_accuracy").
        is_main: Whether it stands in the comparison; every figure stands in the full table.
    """

    label: str
    explanation: str
    question: str
    scale: Scale
    order: int
    set_name: str
    family: str
    is_main: bool


_PLAIN = "forget retain world_facts real_authors"
_FAMILIES = (
    Family(
        "forget_verbmem",
        "Verbatim memorisation (VerbMem)",
        "How much of a forget passage's wording it goes on with, given the beginning (ROUGE-L F1).",
        main_on="*",
        question="owner",
    ),
    Family(
        "forget_knowmem",
        "Knowledge memorisation (KnowMem)",
        "How near its answers to questions about the forget texts come to the true ones (ROUGE-L F1).",
        main_on="*",
        question="owner",
    ),
    Family(
        "muse_privleak",
        "Privacy leakage of texts (PrivLeak)",
        "Whether forget texts can be told from texts never seen, as a difference from the retrained model in per cent: below 0 they"
        " still show, above 0 they show as removed.",
        "open",
        "*",
        "owner",
    ),
    Family(
        "muse_mia_min_k",
        "Membership attack on texts (min-k)",
        "The attack behind PrivLeak (AUC); 0.5 is chance, 1 means that forget texts plainly are members.",
        main_on="*",
        question="owner",
    ),
    Family(
        "retain_knowmem",
        "Utility (KnowMem on retained texts)",
        "How near its answers to questions about the retained texts come to the true ones (ROUGE-L F1).",
        main_on="*",
        question="deployer",
    ),
    Family(
        "scalability",
        "Scalability",
        "How the utility changes from one forget set to the next larger one, relative to the smallest; 0 is flat.",
        "open",
        "*",
        "deployer",
    ),
    Family(
        "sustainability",
        "Sustainability",
        "How the utility changes from one request to the next, relative to the first; 0 is flat.",
        "open",
        "*",
        "deployer",
    ),
    Family(
        "choice_accuracy",
        "multiple choice by letter",
        "Share of multiple-choice questions for which the right letter is the likeliest; with four choices 25 % is chance.",
        "share",
        "*",
    ),
    Family(
        "choice_text_accuracy_norm",
        "multiple choice by full text",
        "Share of multiple-choice questions for which the right choice is the likeliest text, per character; no letter is needed.",
        "share",
        "*",
    ),
    Family(
        "choice_gap",
        "gap by letter",
        "Multiple-choice accuracy by letter less the retrained model's on the same questions.",
        "open",
        "*",
        "alike",
    ),
    Family(
        "choice_text_gap",
        "gap by full text",
        "Multiple-choice accuracy by full text less the retrained model's on the same questions.",
        "open",
        "*",
        "alike",
    ),
    Family(
        "choice_contrast",
        "difference by letter",
        "Accuracy on what must go less that on other subjects; near 0, a neighbour was forgotten too, or nothing was.",
        "open",
        "*",
        "kept",
    ),
    Family(
        "choice_text_contrast",
        "difference by full text",
        "The same by full text: accuracy on what must go less that on other subjects.",
        "open",
        "*",
        "kept",
    ),
    Family("choice_accuracy_permuted", "multiple choice, over orders", "By letter, over cyclic orders of the choices.", "share"),
    Family("choice_text_accuracy", "multiple choice by full text, summed", "By full text, not per character.", "share"),
    Family(
        "choice_letter_entropy",
        "entropy of letters",
        "How evenly it picks the letters: 1 each as often, 0 always the same one.",
        question="behaviour",
    ),
    Family("fact_accuracy", "facts right", "Share of its answers that contain the right fact.", "share", "*"),
    Family(
        "probability",
        "probability",
        "How probable it finds the true answer, per token (geometric mean).",
        main_on=_PLAIN,
    ),
    Family(
        "rouge",
        "ROUGE",
        "How much of the true answer's wording its own answer has (ROUGE-L recall).",
        main_on=f"{_PLAIN} passages",
    ),
    Family(
        "extraction_strength",
        "extraction strength",
        "How much of the answer it completes word for word when given only the beginning.",
        main_on="forget passages_forget",
    ),
    Family(
        "exact_memorization",
        "exact memorisation",
        "Share of the answer's tokens it predicts exactly when given all that stands before them.",
        main_on="forget",
    ),
    Family(
        "forget_quality",
        "Forget quality",
        "Whether its truth ratios on the forget rows can be told from the retrained model's (Kolmogorov-Smirnov). "
        "D runs from 0 (cannot) to 1 (fully).",
        "test",
        "*",
        "alike",
    ),
    Family(
        "model_utility",
        "Model utility",
        "All that should stay in one figure: harmonic mean of probability, ROUGE and truth ratio on three kept sets.",
        main_on="*",
        question="kept",
    ),
    Family(
        "world_utility",
        "Utility",
        "All that should stay in one figure: harmonic mean of facts, probability and truth ratio on retained rows and world facts.",
        main_on="*",
        question="kept",
    ),
    Family(
        "truth_ratio",
        "truth ratio",
        "Whether it still prefers the true answer to plausible wrong ones, answer by answer.",
        main_on=_PLAIN,
    ),
    Family(
        "refusal_rate",
        "refusals",
        "Share of its answers that decline to answer.",
        "share",
        "forget retain refusals",
        "behaviour",
    ),
    Family(
        "word_entropy",
        "variety of words",
        "How little its answers repeat themselves; near 0 is one word over and over.",
        main_on="forget retain",
        question="behaviour",
    ),
    Family(
        "mia_min_k",
        "Membership attack (min-k)",
        "How well forget rows can be told from rows never seen, by their least probable tokens (AUC); 0.5 is chance.",
        main_on="*",
        question="alike",
    ),
    Family(
        "privleak",
        "Privacy leakage",
        "The same attack, as a difference from the retrained model in per cent: below 0 the rows still show, above 0 they show "
        "as removed.",
        "open",
        "*",
        "alike",
    ),
    Family("mia_loss", "Membership attack (loss)", "The attack on the loss (AUC); 0.5 is chance.", question="alike"),
    Family("mia_zlib", "Membership attack (zlib)", "The attack on loss over compressed size (AUC).", question="alike"),
    Family("mia_min_k_plus_plus", "Membership attack (min-k++)", "The attack on standardised min-k (AUC).", question="alike"),
    Family(
        "mia_reference", "Membership attack (reference)", "The attack on the loss less the retrained model's.", question="alike"
    ),
    Family("rel_diff_min_k", "Relative difference (min-k)", "The min-k attack against the retrained model's.", "open", "", "alike"),
    Family("paraphrased_probability", "probability, other words", "How probable it finds the true answer in other words."),
    Family("paraphrased_question_probability", "probability, question in other words", "The same when asked in other words."),
    Family("perturbed_probability", "probability of wrong answers", "How probable it finds plausible wrong answers."),
    Family("probability_w_options", "probability against options", "Probability of the true answer among the wrong ones offered."),
    Family("paraphrased_rouge", "ROUGE, other words", "Overlap with the true answer in other words."),
    Family("truth_ratio_knowledge", "truth ratio, knowledge form", "Share of probability on the true answer."),
    Family("log_truth_ratio", "truth ratio, median of logs", "The median of the logarithms.", "open"),
    Family("nll", "loss", "Negative log-probability per token, in nats.", "open"),
    *SUITE_FAMILIES,
    *NET_FAMILIES,
)
_BY_NAME = {family.name: (place, family) for place, family in enumerate(_FAMILIES)}
_LONGEST_FIRST = sorted(_BY_NAME, key=len, reverse=True)

_SETS = {
    # name: label, question
    "forget": ("Forget rows", "forgotten"),
    "retain": ("Retained rows", "kept"),
    "world_facts": ("World facts", "kept"),
    "real_authors": ("Real authors", "kept"),
    "wmdp": ("Hazardous knowledge", "forgotten"),
    "mmlu": ("General knowledge", "kept"),
    "subjects_forget": ("Forget subjects", "forgotten"),
    "subjects_related": ("Related subjects", "kept"),
    "subjects_unrelated": ("Unrelated subjects", "kept"),
    "forget_minus_related": ("Forget less related subjects", "kept"),
    "forget_minus_unrelated": ("Forget less unrelated subjects", "kept"),
    "context": ("Facts given in the prompt", "kept"),
    "holdout": ("Rows never trained on", "behaviour"),
    "refusals": ("Unanswerable questions", "behaviour"),
    "forget_qa": ("Forget questions", "owner"),
    "verbmem": ("Forget passages", "owner"),
    "privleak_forget": ("Forget texts", "owner"),
    "privleak_holdout": ("Texts never seen", "owner"),
    "retain_qa": ("Retain questions", "deployer"),
    **NET_SETS,
}
_FORMS = {
    "unseen_frames": ("new wording", "Asked in frames never trained on, made of trained words."),
    "rewordings": ("new words", "Asked in wordings with words never trained on."),
    "passages": ("passages", "Measured on texts learnt by heart."),
}
_SETLESS = {"forget_quality", "model_utility", "world_utility"}


def describe(name: str) -> Description:
    """Return how the figure called ``name`` is shown."""
    family_name = next((f for f in _LONGEST_FIRST if name == f or name.endswith(f"_{f}")), None)
    if family_name is None:
        stem = name.removesuffix("_gap")
        return _gap(name, describe(stem)) if stem != name and describe(stem).family in _BY_NAME else _unknown(name)
    place, family = _BY_NAME[family_name]
    set_name = name[: -len(family_name)].rstrip("_")
    if not set_name and family_name in {"extraction_strength", "exact_memorization", "truth_ratio"}:
        set_name = "forget"  # published names without a set mean the forget set
    if not set_name or family_name in _SETLESS:
        return _description(family, family.label[:1].upper() + family.label[1:], family.explanation, set_name, "other", place)
    label, question, form, rank = _set(set_name)
    text = f"{family.explanation} {_FORMS[form][1]}" if form else family.explanation
    if family_name == "truth_ratio" and set_name == "forget":
        question = "alike"
    return _description(family, f"{label}: {family.label}", text, set_name, question, place + 100 * rank, form)


def role_label(role: str) -> str:
    """Return the column heading of a role."""
    return {"retrained_2": "Retrained again"}.get(role, role.replace("_", " ").capitalize())


def sorted_names(results: Mapping[str, Results]) -> list[str]:
    """Return the names of all figures of any model, in the order in which they are shown."""
    names = {name for result in results.values() for name in result.metrics}
    places = {question.key: i for i, question in enumerate(QUESTIONS)}
    return sorted(names, key=lambda name: (places[describe(name).question], describe(name).order, name))


def _description(family: Family, label: str, text: str, set_name: str, question: str, order: int, form: str = "") -> Description:
    wanted = family.main_on.split()
    is_main = "*" in wanted or set_name in wanted or (bool(form) and form in wanted)
    return Description(label, text, family.question or question, family.scale, order, set_name, family.name, is_main)


def _set(name: str) -> tuple[str, str, str, int]:
    """Return label, question, form and rank of a set; a name that ends in ``_forget`` is judged like that set."""
    if name in _SETS:
        return *_SETS[name], "", list(_SETS).index(name)
    form = next((f for f in _FORMS if name == f or name.startswith(f"{f}_")), "")
    base = next((s for s in _SETS if name.endswith(f"_{s}")), "")
    if name.startswith("wmdp_"):
        return f"Hazardous knowledge, {name.removeprefix('wmdp_')}", "forgotten", "", list(_SETS).index("wmdp")
    if form:
        label, question = _SETS.get(base, ("", "kept"))
        rank = list(_SETS).index(base) if base else len(_SETS)
        return f"{label}, {_FORMS[form][0]}".removeprefix(", ").capitalize(), question, form, rank
    return _humanise(name), _SETS[base][1] if base else "kept", "", len(_SETS) + 1


def _gap(name: str, of: Description) -> Description:
    """Place the distance of a figure to the retrained model's on the same rows."""
    text = f"{of.explanation} Here less the retrained model's on the same rows: 0 is as if never seen."
    return Description(f"{of.label}, gap", text, "alike", "open", of.order + 1, of.set_name, name, False)


def _unknown(name: str) -> Description:
    """Place a figure of another package: under its set where its name begins with one."""
    base = next((s for s in ("forget", "retain") if name.startswith(f"{s}_")), "")
    if not base:
        return Description(_humanise(name), "", "other", "open", 900, "", name, True)
    label, question = _SETS[base]
    family = name.removeprefix(f"{base}_")
    return Description(f"{label}: {family.replace('_', ' ')}", "", question, "open", 90, base, family, True)


def _humanise(name: str) -> str:
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]
