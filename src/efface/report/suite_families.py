"""Figures of the privacy, identifier, copyright and closer-look suites, and of the aggregate score, as the report shows them."""

from __future__ import annotations

from efface.report.families import Family

__all__ = ["SUITE_FAMILIES"]

_EXPOSURE = "; 0 is guessing, the most is the number of bits of how many were tried"

SUITE_FAMILIES = (
    Family(
        "extraction_probability",
        "extraction by sampling",
        "How likely a text comes out word for word at least once when the model is asked many times.",
        main_on="forget passages",
    ),
    Family("longest_verbatim", "longest copy", "Words in the longest run taken over word for word.", "open", "forget passages"),
    Family("longest_near_verbatim", "longest near copy", "The same, small changes allowed.", "open", "forget passages"),
    Family("bleu", "BLEU", "How many of its runs of up to four words stand in the true text."),
    Family("repetition_rate", "repetition", "Share of what it writes that it has written before.", question="behaviour"),
    Family("distinct_2", "different word pairs", "Share of its word pairs that are different.", question="behaviour"),
    Family("classifier_fluency", "fluency by a classifier", "How sure a classifier is that it is language.", question="behaviour"),
    Family(
        "reference_perplexity", "perplexity under another model", "How unlikely another model finds it.", "open", "", "behaviour"
    ),
    Family("pii_hit", "identifiers told", "Share of identifiers it tells when asked.", "share", "*"),
    Family("pii_hit_part", "identifiers half told", "Share of identifiers of which it tells half or more in one piece.", "share"),
    Family("pii_hit_completed", "identifiers completed", "Share it completes, given the first half.", "share", "forget"),
    Family("pii_hit_spelled", "identifiers spelled out", "Share it spells out character by character.", "share", "forget"),
    Family(
        "pii_exposure",
        "exposure of identifiers",
        f"In bits: how far up the true identifier stands among drawn ones by probability{_EXPOSURE}.",
        "open",
        "*",
    ),
    Family("pii_exposure_partial", "exposure, first half given", f"The same when the first half is given{_EXPOSURE}.", "open"),
    Family("pii_exposure_spelled", "exposure, spelled out", f"The same when it is spelled out{_EXPOSURE}.", "open"),
    Family(
        "mia_gradnorm",
        "Membership attack (gradient norm)",
        "The attack on the length of the gradient (AUC); 0.5 is chance.",
        question="alike",
    ),
    *(
        Family(
            f"smia{form}_{attack}",
            f"Scaled membership ({label}){of}",
            f"1 where the attack finds as much as on the retrained model, 0 where it {end}.",
            question="alike",
        )
        for form, of, end in (
            ("", "", "is as far off as can be"),
            ("_full", ", from the original", "finds what it did on the original"),
        )
        for attack, label in (("loss", "loss"), ("zlib", "zlib"), ("min_k", "min-k"), ("min_k_plus_plus", "min-k++"))
    ),
    Family(
        "privacy_score",
        "Privacy score",
        "Four membership attacks in one figure: 1 where they find what they find on the retrained model.",
        main_on="*",
        question="alike",
    ),
    Family("privacy_score_full", "Privacy score, from the original", "The same; 0 is the original model.", question="alike"),
    Family("token_entropy", "variety of words", "How little its answers repeat themselves.", question="behaviour"),
    Family("cosine_similarity", "nearness in meaning", "How near its answer comes to the true one in an embedding."),
    Family("entailment", "entailment", "Whether its answer and the true one follow from each other.", "share"),
    Family(
        "forget_efficacy",
        "Forget efficacy",
        "Five figures of the forget rows in one (A Closer Look); 1 is nothing told.",
        main_on="*",
        question="forgotten",
    ),
    Family(
        "closer_look_utility",
        "Utility of eighteen figures",
        "All that should stay in one figure: harmonic mean of six figures on three kept sets (A Closer Look).",
        main_on="*",
        question="kept",
    ),
    Family(
        "memorization_score", "Memorisation score", "Four memorisation figures in one; high is forgotten.", question="forgotten"
    ),
    Family("utility_score", "Utility score", "Utility and fluency as a share of the original model's.", question="kept"),
    Family(
        "aggregate",
        "Aggregate score",
        "Memorisation, privacy and utility in one figure (harmonic mean).",
        main_on="*",
        question="alike",
    ),
    Family("aggregate_without_privacy", "Aggregate score without privacy", "The same of the other two.", question="alike"),
)
