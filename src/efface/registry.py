"""Name -> "module:Class" tables, entry points, and "did you mean".

Built-ins stand in explicit tables, so that importing efface imports none of them. Third parties add theirs through the
entry-point group of the registry (``efface.objectives`` ...) or :meth:`Registry.register`.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from efface.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = [
    "ADAPTERS",
    "METRICS",
    "NETS",
    "OBJECTIVES",
    "PROBLEMS",
    "RETENTION",
    "RULES",
    "SUITES",
    "WEIGHTS",
    "Registry",
    "closest",
    "config_error",
    "unknown_name",
]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def closest(name: str, known: Iterator[str] | list[str]) -> list[str]:
    """Return up to three known names nearest to ``name``, best first."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)


def unknown_name(kind: str, name: str, known: list[str], hint: str = "") -> InputError:
    """Build the error for a name that is not known, with the closest ones that are."""
    near = closest(name, known)
    guess = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    listing = ", ".join(sorted(known)) or "none"
    return InputError(f"There is no {kind} named {name!r}.{guess} Known: {listing}.{' ' + hint if hint else ''}")


def config_error(name: str, config: type[BaseModel], error: ValidationError) -> InputError:
    """Turn pydantic's errors into one message that names the nearest valid key."""
    known = list(config.model_fields)
    parts = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            near = closest(key, known)
            parts.append(f"unknown key {key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        elif item["type"] == "value_error":
            parts.append(str(item["ctx"]["error"]).rstrip("."))
        else:
            parts.append(f"{key}: {item['msg']} (got {item['input']!r})")
    accepted = ", ".join(known) or "no keys"
    return InputError(f"The settings of {name} are not valid: {'; '.join(parts)}. It accepts {accepted}. Mend or drop them.")


class Registry:
    """Look up classes by name without importing what is not asked for.

    Args:
        kind: What is registered, as it reads in an error ("objective").
        table: The built-ins, ``name -> "module:Class"``.
        group: Entry-point group in which other packages declare theirs.
        aliases: Other spellings, ``alias -> name``.
    """

    def __init__(
        self,
        kind: str,
        table: Mapping[str, str],
        *,
        group: str,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self._targets: dict[str, str | type] = dict(table)
        self._aliases = dict(aliases or {})
        self._entry_points_read = False

    def register(self, name: str, target: str | type) -> None:
        """Add ``name``; raise ``InputError`` when it is malformed or taken by something else."""
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is not a valid {self.kind} name. Names are lower snake case and start with a letter. Rename it."
            )
        taken = self._targets.get(name)
        if taken is not None and taken != target:
            raise InputError(f"The {self.kind} name {name!r} is already taken by {taken!r}. Names are unique. Choose another.")
        self._targets[name] = target

    def names(self) -> list[str]:
        """Return every registered name, sorted; aliases are not repeated."""
        self._read_entry_points()
        return sorted(self._targets)

    def canonical(self, name: str) -> str:
        """Return the registered name behind ``name`` or one of its aliases."""
        self._read_entry_points()
        name = self._aliases.get(name, name)
        if name not in self._targets:
            raise unknown_name(self.kind, name, [*self._targets, *self._aliases])
        return name

    def get(self, name: str) -> Any:
        """Import and return what is registered under ``name``."""
        target = self._targets[self.canonical(name)]
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        self._read_entry_points()
        return name in self._targets or name in self._aliases

    def _read_entry_points(self) -> None:
        if self._entry_points_read:
            return
        self._entry_points_read = True
        for point in entry_points(group=self.group):
            self.register(point.name, point.value)


OBJECTIVES = Registry(
    "objective",
    {
        "nll": "efface.methods.objectives.nll:NLL",
        "ga": "efface.methods.objectives.ga:GradientAscent",
        "npo": "efface.methods.objectives.npo:NPO",
        "simnpo": "efface.methods.objectives.simnpo:SimNPO",
        "dpo": "efface.methods.objectives.dpo:DPO",
        "idk": "efface.methods.objectives.idk:IDK",
        "wga": "efface.methods.objectives.wga:WGA",
        "rmu": "efface.methods.objectives.rmu:RMU",
        "flat": "efface.methods.objectives.flat:FLAT",
        "satimp": "efface.methods.objectives.satimp:SatImp",
        "ceu": "efface.methods.objectives.ceu:CEU",
        "undial": "efface.methods.objectives.undial:UNDIAL",
        "me": "efface.methods.objectives.me:ME",
        "ihl": "efface.methods.objectives.ihl:IHL",
        "jensun": "efface.methods.objectives.jensun:JensUn",
        "altpo": "efface.methods.objectives.altpo:AltPO",
        "pdu": "efface.methods.objectives.pdu:PDU",
    },
    group="efface.objectives",
)
RETENTION = Registry(
    "retention",
    {
        "none": "efface.methods.retention.none:NoRetention",
        "nll": "efface.methods.retention.nll:RetainNLL",
        "kl": "efface.methods.retention.kl:RetainKL",
        "js": "efface.methods.retention.js:RetainJS",
        "ap": "efface.methods.retention.ap:AnswerPreservation",
        "embedding": "efface.methods.retention.embedding:RetainEmbedding",
    },
    group="efface.retention",
)
RULES = Registry(
    "update rule",
    {
        "sum": "efface.methods.rules.sum:Sum",
        "gru": "efface.methods.rules.gru:GRU",
        "blur": "efface.methods.rules.blur:BLUR",
        "sam": "efface.methods.rules.sam:SAM",
        "primal_dual": "efface.methods.rules.primal_dual:PrimalDual",
    },
    group="efface.rules",
)
WEIGHTS = Registry(
    "weight-space method",
    {
        "task_vector": "efface.methods.weights.task_vector:TaskVector",
        "whos_harry_potter": "efface.methods.weights.whos_harry_potter:WhosHarryPotter",
        "whos_harry_potter_distilled": "efface.methods.weights.whos_harry_potter:WhosHarryPotterDistilled",
    },
    group="efface.weights",
)
NETS = Registry(
    "method for ordinary nets",
    {
        "retrain": "efface.methods.nets.retrain:Retrain",
        "fine_tune": "efface.methods.nets.fine_tune:FineTune",
        "neg_grad": "efface.methods.nets.neg_grad:NegGrad",
        "neg_grad_plus": "efface.methods.nets.neg_grad_plus:NegGradPlus",
        "blindspot": "efface.methods.nets.blindspot:Blindspot",
        "gaussian_amnesiac": "efface.methods.nets.gaussian_amnesiac:GaussianAmnesiac",
        "laf": "efface.methods.nets.laf:LAF",
        "laf_r": "efface.methods.nets.laf:LAFRepaired",
        "iau": "efface.methods.nets.iau:IAU",
        "random_label": "efface.methods.nets.random_label:RandomLabel",
        "bad_teacher": "efface.methods.nets.bad_teacher:BadTeacher",
        "scrub": "efface.methods.nets.scrub:SCRUB",
        "salun": "efface.methods.nets.salun:SalUn",
        "fisher": "efface.methods.nets.fisher:Fisher",
        "influence": "efface.methods.nets.influence:Influence",
        "l1_sparse": "efface.methods.nets.l1_sparse:L1Sparse",
        "boundary_shrink": "efface.methods.nets.boundary_shrink:BoundaryShrink",
        "boundary_expand": "efface.methods.nets.boundary_expand:BoundaryExpand",
        "unsir": "efface.methods.nets.unsir:UNSIR",
        "ssd": "efface.methods.nets.ssd:SSD",
        "certified_removal": "efface.methods.nets.certified_removal:CertifiedRemoval",
    },
    group="efface.nets",
)
PROBLEMS = Registry("problem", {}, group="efface.problems")
ADAPTERS = Registry(
    "adapter",
    {
        "full": "efface.adapters.full:FullWeights",
        "lora": "efface.adapters.lora:LoRA",
        "grun": "efface.adapters.grun:GRUN",
        "reft": "efface.adapters.reft:ReFT",
    },
    group="efface.adapters",
)
METRICS = Registry(
    "metric",
    {
        "nll": "efface.evals.metrics.tokens:NLL",
        "probability": "efface.evals.metrics.tokens:Probability",
        "probability_w_options": "efface.evals.metrics.tokens:ProbabilityWithOptions",
        "extraction_strength": "efface.evals.metrics.tokens:ExtractionStrength",
        "exact_memorization": "efface.evals.metrics.tokens:ExactMemorization",
        "truth_ratio": "efface.evals.metrics.truth_ratio:TruthRatio",
        "truth_preference": "efface.evals.metrics.truth_ratio:TruthPreference",
        "truth_ratio_knowledge": "efface.evals.metrics.truth_ratio:TruthRatioKnowledge",
        "log_truth_ratio": "efface.evals.metrics.truth_ratio:LogTruthRatio",
        "forget_quality": "efface.evals.metrics.truth_ratio:ForgetQuality",
        "model_utility": "efface.evals.metrics.truth_ratio:ModelUtility",
        "world_utility": "efface.evals.metrics.truth_ratio:WorldUtility",
        "rouge": "efface.evals.metrics.answers:Rouge",
        "fact_accuracy": "efface.evals.metrics.answers:FactAccuracy",
        "refusal_rate": "efface.evals.metrics.answers:RefusalRate",
        "word_entropy": "efface.evals.metrics.answers:WordEntropy",
        "repetition_rate": "efface.evals.metrics.fluency:RepetitionRate",
        "distinct_2": "efface.evals.metrics.fluency:Distinct",
        "reference_perplexity": "efface.evals.metrics.fluency:ReferencePerplexity",
        "classifier_fluency": "efface.evals.metrics.fluency:ClassifierFluency",
        "longest_verbatim": "efface.evals.metrics.memorization:LongestVerbatim",
        "longest_near_verbatim": "efface.evals.metrics.memorization:LongestNearVerbatim",
        "bleu": "efface.evals.metrics.memorization:Bleu",
        "extraction_probability": "efface.evals.metrics.memorization:ExtractionProbability",
        "pii_exposure": "efface.evals.metrics.pii:PiiExposure",
        "pii_exposure_partial": "efface.evals.metrics.pii:PiiExposurePartial",
        "pii_exposure_spelled": "efface.evals.metrics.pii:PiiExposureSpelled",
        "pii_hit": "efface.evals.metrics.pii:PiiHit",
        "pii_hit_part": "efface.evals.metrics.pii:PiiHitPart",
        "pii_hit_completed": "efface.evals.metrics.pii:PiiHitCompleted",
        "pii_hit_spelled": "efface.evals.metrics.pii:PiiHitSpelled",
        "cosine_similarity": "efface.evals.metrics.closer_look:CosineSimilarity",
        "entailment": "efface.evals.metrics.closer_look:Entailment",
        "forget_efficacy": "efface.evals.metrics.closer_look:ForgetEfficacy",
        "closer_look_utility": "efface.evals.metrics.closer_look:UtilityOfEighteen",
        "gap": "efface.evals.suites.figures:GapToRetrained",
        "mia_loss": "efface.evals.metrics.membership:MembershipLoss",
        "mia_zlib": "efface.evals.metrics.membership:MembershipZlib",
        "mia_min_k": "efface.evals.metrics.membership:MembershipMinK",
        "mia_min_k_plus_plus": "efface.evals.metrics.membership:MembershipMinKPlusPlus",
        "mia_gradnorm": "efface.evals.metrics.membership:MembershipGradNorm",
        "mia_reference": "efface.evals.metrics.membership:MembershipReference",
        "privleak": "efface.evals.metrics.membership:PrivLeak",
        "rel_diff_min_k": "efface.evals.metrics.membership:RelDiff",
        "choice_accuracy": "efface.evals.metrics.choices:ChoiceAccuracy",
        "choice_accuracy_permuted": "efface.evals.metrics.choices:ChoiceAccuracyPermuted",
        "choice_letter_entropy": "efface.evals.metrics.choices:ChoiceLetterEntropy",
        "choice_text_accuracy": "efface.evals.metrics.choices:ChoiceTextAccuracy",
        "choice_text_accuracy_norm": "efface.evals.metrics.choices:ChoiceTextAccuracyNorm",
        "choice_gap": "efface.evals.metrics.choices:ChoiceGap",
        "choice_text_gap": "efface.evals.metrics.choices:ChoiceTextGap",
        "choice_contrast": "efface.evals.metrics.choices:ChoiceContrast",
        "choice_text_contrast": "efface.evals.metrics.choices:ChoiceTextContrast",
        "verbmem": "efface.evals.metrics.muse:VerbMem",
        "knowmem": "efface.evals.metrics.muse:KnowMem",
        "muse_privleak": "efface.evals.metrics.muse:MusePrivLeak",
        "scalability": "efface.evals.metrics.muse:Scalability",
        "sustainability": "efface.evals.metrics.muse:Sustainability",
        "accuracy": "efface.evals.nets.definitions:Accuracy",
        "confidence": "efface.evals.nets.definitions:Confidence",
        "loss": "efface.evals.nets.definitions:Loss",
        "mae": "efface.evals.nets.definitions:MeanAbsoluteError",
        "mse": "efface.evals.nets.definitions:MeanSquaredError",
        "prediction": "efface.evals.nets.definitions:Prediction",
        "pinball": "efface.evals.nets.definitions:Pinball",
        "calibration_error": "efface.evals.nets.definitions:CalibrationError",
        "mia_matched": "efface.evals.nets.definitions:MatchedAttack",
        "mia_matched_auc": "efface.evals.nets.definitions:MatchedAuc",
        "mia_efficacy": "efface.evals.nets.definitions:Efficacy",
        "mia_member_entropy": "efface.evals.nets.definitions:MemberEntropy",
        "mia_member_entropy_logistic": "efface.evals.nets.definitions:MemberEntropyLogistic",
        "mia_success_rate": "efface.evals.nets.definitions:SuccessRate",
        "mia_member_error": "efface.evals.nets.definitions:MemberError",
        "activation_distance": "efface.evals.nets.definitions:ActivationDistance",
        "agreement": "efface.evals.nets.definitions:Agreement",
        "wasserstein": "efface.evals.nets.definitions:Wasserstein",
        "ks": "efface.evals.nets.definitions:Distribution",
        "paired_difference": "efface.evals.nets.definitions:PairedDifference",
        "zrf": "efface.evals.nets.definitions:ZeroRetrainForgetting",
        "average_gap": "efface.evals.nets.definitions:AverageGap",
        "relearn_steps": "efface.evals.nets.definitions:RelearnSteps",
        "anamnesis_index": "efface.evals.nets.definitions:AnamnesisIndex",
        "memorization_score": "efface.evals.metrics.aggregate:MemorizationScore",
        "utility_score": "efface.evals.metrics.aggregate:UtilityScore",
        "aggregate": "efface.evals.metrics.aggregate:AggregateScore",
        "aggregate_without_privacy": "efface.evals.metrics.aggregate:AggregateScoreWithoutPrivacy",
        "smia": "efface.evals.metrics.privacy_score:ScaledMembership",
        "smia_full": "efface.evals.metrics.privacy_score:ScaledMembershipFull",
        "privacy_score": "efface.evals.metrics.privacy_score:PrivacyScore",
        "privacy_score_full": "efface.evals.metrics.privacy_score:PrivacyScoreFull",
    },
    group="efface.metrics",
)
SUITES = Registry(
    "suite",
    {
        "auto": "efface.evals.suites.auto:Auto",
        "tofu": "efface.evals.suites.tofu:Tofu",
        "wmdp": "efface.evals.suites.wmdp:Wmdp",
        "subjects": "efface.evals.suites.subjects:Subjects",
        "muse": "efface.evals.suites.muse:Muse",
        "privacy": "efface.evals.suites.privacy:Privacy",
        "copyright": "efface.evals.suites.copyright:Copyright",
        "pii": "efface.evals.suites.pii:Pii",
        "closer_look": "efface.evals.suites.closer_look:CloserLook",
    },
    group="efface.suites",
)
