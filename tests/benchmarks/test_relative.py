"""The baseline of a method's step reads as many sequences as the method does."""

import pytest

from benchmarks.relative import sides_of


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        ("ga", 1),  # the forget row
        ("npo", 2),  # and its retain partner
        ("idk", 2),  # a refusal instead of the forget row
        ("dpo", 3),  # forget row, its alternate, a retain partner
        ("idk_ap", 3),  # refusal, a retain row and that one's refusal
        ("grun_npo", 1),  # plain fine-tuning inside the gated edit reads a retain row of its own beside each of its rows
        ("reft_npo", 2),
    ],
)
def test_baseline_reads_as_many_sequences(method: str, rows: float) -> None:
    ours, baseline, _, _ = sides_of(method)

    assert ours.sequences == 1
    assert baseline.sequences == rows
    assert baseline.keeps == method.startswith("grun")
