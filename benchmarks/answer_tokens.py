"""Where in an answer a method forgets: the loss of its first token beside that of the token where the fact begins.

    python -m benchmarks.methods --methods npo grun_npo --bits 8 4 --work runs/methods
    python -m benchmarks.answer_tokens --methods npo grun_npo --work runs/methods

An answer of the embedded world names the person first and the fact later. Losses are teacher-forced negative log-likelihoods in
nats on the forget rows, with what comes before in the answer given; *fact first* is the share of rows whose fact the model still
ranks first there. Models are those that ``benchmarks.methods`` has made under --work.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks.methods import BARE, Task, build_worlds, made_before

__all__ = ["AnswerTokens", "answer_tokens", "fact_start"]


class AnswerTokens(NamedTuple):
    """Means over the forget rows of one model.

    Attributes:
        first: Loss of the answer's first token, nats.
        fact: Loss of the token where the fact begins, nats.
        fact_first: Share of rows, in [0, 1], whose fact is ranked first at its place.
    """

    first: float
    fact: float
    fact_first: float


def fact_start(texts: Sequence[str], value: str) -> int:
    """Return the index of the first token that holds a part of ``value``.

    Args:
        texts: The answer's text after each of its tokens, all tokens up to it decoded together.
        value: The fact, a part of the whole answer.

    Raises:
        ValueError: When the answer does not hold the fact.
    """
    place = texts[-1].find(value)
    if place < 0:
        raise ValueError(f"The answer holds no {value!r}. Give an answer that states its fact.")
    return next(index for index, text in enumerate(texts) if len(text) > place)


def answer_tokens(model: Any, rows: Iterable[Any]) -> AnswerTokens:
    """Return what the model's losses say on the rows; each row runs alone, as no row depends on its batch."""
    import torch

    from efface.data.collate import collate
    from efface.data.encoding import encode_row
    from efface.models.scoring import answer_scores

    found = []
    for row in rows:
        encoded = encode_row(model.tokenizer, model.template, row)
        ids = encoded.input_ids[encoded.answer_start : encoded.answer_end]
        texts = [model.tokenizer.decode(ids[: end + 1], skip_special_tokens=True) for end in range(len(ids))]
        with torch.no_grad():
            scores = answer_scores(model.model, collate([encoded], pad_id=model.tokenizer.pad_token_id or 0))
        start = fact_start(texts, row.value)
        is_first = scores.logits[start].argmax() == scores.targets[start]
        found.append((-float(scores.logp[0]), -float(scores.logp[start]), float(is_first)))
    return AnswerTokens(*(mean(column) for column in zip(*found, strict=True)))


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["npo", "grun_npo", "grun_grad_diff", "grun_idk", "grun_rmu"])
    parser.add_argument("--work", type=Path, default=Path("runs/methods"))
    options = parser.parse_args()
    build_worlds(options.seeds)
    print("| model | first token | where the fact begins | fact first |\n|---|---|---|---|")
    for method in (*BARE, *options.methods):
        found = []
        for seed in options.seeds:
            model, data = made_before(Task(seed, method), options.work)
            found.append(answer_tokens(model, data.sets["forget"]))
        cells = (f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" for values in zip(*found, strict=True))
        print(f"| {method} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
