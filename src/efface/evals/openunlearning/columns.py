"""How each figure stands in an OpenUnlearning log: its key, its set, and what an entry of ``value_by_index`` holds.

    {"forget_Q_A_Prob": {"agg_value": 0.99, "value_by_index": {"0": {"prob": 0.99, "avg_loss": 0.01}, ...}}, ...}

Membership attacks nest two such columns (``forget``, ``holdout``) beside ``auc``; figures over several sets are ``agg_value`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from efface.evals.names import OPENUNLEARNING_KEYS
from efface.registry import METRICS
from efface.results import Aim

__all__ = ["ATTACKED_SETS", "LOG_SCORE", "MUSE_KEYS", "TAG", "Column", "Kind", "columns_of", "stem_of"]

Kind = Literal["probability", "wrong", "options", "rouge_recall", "rouge_f1", "closeness", "preference", "score", "attack", "total"]
"""What an entry holds.

``probability`` prob and avg_loss; ``wrong`` the same as lists, one per wrong answer; ``options`` prob; ``rouge_*`` ROUGE and
the texts; ``closeness`` and ``preference`` the ratio R of which min(R, 1/R) or max(0, 1 - R) is averaged; ``score`` the figure.
"""

ATTACKED_SETS: tuple[str, str] = ("forget", "holdout")
TAG = "efface"
"""Key under which a log of ours says by which definitions it was made; OpenUnlearning reads only the keys it asks for."""

LOG_SCORE = "log_score"
"""Field of ours beside a ratio: log R to the last bit, so that a model compared with its own exported log is at distance 0."""

MUSE_KEYS: Mapping[str, str] = {
    "forget_verbmem": "forget_verbmem_ROUGE",
    "verbmem_extraction_strength": "extraction_strength",
    "verbmem_exact_memorization": "exact_memorization",
    "forget_knowmem": "forget_knowmem_ROUGE",
    "retain_knowmem": "retain_knowmem_ROUGE",
    "muse_mia_min_k": "mia_min_k",
    "muse_privleak": "privleak",
}
"""Internal name -> key in ``MUSE_EVAL.json``; ``extraction_strength`` is that of the passages there."""

_SETS = ("real_authors", "world_facts", "forget", "retain", "verbmem")
_MUSE_SETS = {"forget_verbmem": "verbmem", "forget_knowmem": "forget_qa", "retain_knowmem": "retain_qa"}
_PARENTS = {  # figures that skip a row without a loss, and whose entries may then stand under wrong indices
    "forget_truth_ratio": ("forget_Q_A_PARA_Prob", "forget_Q_A_PERT_Prob"),
    "forget_truth_ratio_prob_mean": ("forget_Q_A_PARA_Prob", "forget_Q_A_PERT_Prob"),
    "retain_Truth_Ratio": ("retain_Q_A_PARA_Prob", "retain_Q_A_PERT_Prob"),
    "ra_Truth_Ratio": ("ra_Q_A_Prob", "ra_Q_A_PERT_Prob"),
    "wf_Truth_Ratio": ("wf_Q_A_Prob", "wf_Q_A_PERT_Prob"),
    "ra_Q_A_Prob_normalised": ("ra_Q_A_Prob", "ra_Q_A_PERT_Prob"),
    "wf_Q_A_Prob_normalised": ("wf_Q_A_Prob", "wf_Q_A_PERT_Prob"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One figure on both sides.

    Attributes:
        name: Internal name.
        key: Key in the log.
        kind: What an entry holds.
        set_name: Rows it is about; "" where it covers several sets.
        aim: Which way is better.
        parents: Keys whose empty entries this figure leaves out.
        sides: Rows an attack tells apart, as ATTACKED_SETS names them in the log.
    """

    name: str
    key: str
    kind: Kind
    set_name: str
    aim: Aim
    parents: tuple[str, ...] = ()
    sides: tuple[str, str] = ATTACKED_SETS


def columns_of(stem: str) -> list[Column]:
    """Return every known figure of a log called ``<stem>_EVAL.json``: "TOFU" or "MUSE"."""
    keys = MUSE_KEYS if stem == "MUSE" else OPENUNLEARNING_KEYS
    return [_column(name, key, is_muse=stem == "MUSE") for name, key in keys.items()]


def stem_of(suite: str) -> str:
    """Return what the log of a suite is called there."""
    return "MUSE" if suite.startswith("muse") else "TOFU"


def _column(name: str, key: str, *, is_muse: bool) -> Column:
    if is_muse and name in _MUSE_SETS:
        return Column(name, key, "rouge_f1", _MUSE_SETS[name], "reference" if name.startswith("forget") else "higher")
    set_name = next((each for each in _SETS if name.startswith(f"{each}_") and name != "forget_quality"), "")
    figure = name.removeprefix(f"{set_name}_") if set_name else name
    sides = ("privleak_forget", "privleak_holdout") if is_muse else ATTACKED_SETS
    return Column(name, key, _kind(figure, set_name), set_name, _aim(figure, set_name), _PARENTS.get(key, ()), sides)


def _kind(figure: str, set_name: str) -> Kind:
    if figure.endswith("rouge"):
        return "rouge_recall"
    if figure == "truth_ratio":
        return "closeness" if set_name == "forget" else "preference"
    if figure.endswith("probability"):
        return "wrong" if figure == "perturbed_probability" else "probability"
    if figure == "probability_w_options":
        return "options"
    if not set_name:
        return "attack" if "mia_" in figure else "total"
    return "score"


def _aim(figure: str, set_name: str) -> Aim:
    if figure == "perturbed_probability":
        return "reference"
    kind = METRICS.get(_KINDS.get(figure, figure))
    aim: Aim = kind.aim if set_name in ("", "forget", "verbmem") else kind.aim_elsewhere
    return aim


_KINDS = {
    "paraphrased_probability": "probability",
    "paraphrased_question_probability": "probability",
    "paraphrased_rouge": "rouge",
    "muse_mia_min_k": "mia_min_k",
    "muse_privleak": "privleak",
}
