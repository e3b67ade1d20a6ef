"""One table from internal metric names to OpenUnlearning's keys, for import, export and comparison."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["OPENUNLEARNING_KEYS", "from_openunlearning", "to_openunlearning"]

OPENUNLEARNING_KEYS: Mapping[str, str] = {
    "forget_probability": "forget_Q_A_Prob",
    "forget_paraphrased_probability": "forget_Q_A_PARA_Prob",
    "forget_perturbed_probability": "forget_Q_A_PERT_Prob",
    "forget_paraphrased_question_probability": "forget_paraphrased_question_Prob",
    "forget_rouge": "forget_Q_A_ROUGE",
    "forget_paraphrased_rouge": "forget_Q_A_PARA_ROUGE",
    "forget_truth_ratio": "forget_truth_ratio",
    "forget_truth_ratio_knowledge": "forget_truth_ratio_prob_mean",
    "forget_extraction_strength": "extraction_strength",
    "forget_exact_memorization": "exact_memorization",
    "forget_quality": "forget_quality",
    "retain_probability": "retain_Q_A_Prob",
    "retain_paraphrased_probability": "retain_Q_A_PARA_Prob",
    "retain_perturbed_probability": "retain_Q_A_PERT_Prob",
    "retain_rouge": "retain_Q_A_ROUGE",
    "retain_truth_ratio": "retain_Truth_Ratio",
    "real_authors_probability": "ra_Q_A_Prob",
    "real_authors_perturbed_probability": "ra_Q_A_PERT_Prob",
    "real_authors_probability_w_options": "ra_Q_A_Prob_normalised",
    "real_authors_rouge": "ra_Q_A_ROUGE",
    "real_authors_truth_ratio": "ra_Truth_Ratio",
    "world_facts_probability": "wf_Q_A_Prob",
    "world_facts_perturbed_probability": "wf_Q_A_PERT_Prob",
    "world_facts_probability_w_options": "wf_Q_A_Prob_normalised",
    "world_facts_rouge": "wf_Q_A_ROUGE",
    "world_facts_truth_ratio": "wf_Truth_Ratio",
    "model_utility": "model_utility",
    "mia_loss": "mia_loss",
    "mia_zlib": "mia_zlib",
    "mia_min_k": "mia_min_k",
    "mia_min_k_plus_plus": "mia_min_k_plus_plus",
    "mia_gradnorm": "mia_gradnorm",
    "mia_reference": "mia_reference",
    "privleak": "privleak",
    "rel_diff_min_k": "rel_diff_min_k",
}
_INTERNAL = {key: name for name, key in OPENUNLEARNING_KEYS.items()}


def to_openunlearning(name: str) -> str | None:
    """Return OpenUnlearning's key of an internal name, or None where it has none."""
    return OPENUNLEARNING_KEYS.get(name)


def from_openunlearning(key: str) -> str | None:
    """Return the internal name of an OpenUnlearning key, or None where there is none."""
    return _INTERNAL.get(key)
