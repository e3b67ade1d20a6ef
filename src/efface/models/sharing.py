"""Which sequences need not be run because another one says all about them.

What a causal model says at a position depends on what stands before it alone. Continuations of a single token after the same
prompt are therefore all read off one forward pass, at the prompt's last position: the letters of a multiple-choice question cost
one sequence, however many there are. Of longer answers to the same prompt, the prompt needs to be run once
(:mod:`efface.models.shared_prompts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from efface.data.encoding import Encoded

__all__ = ["SharedRun", "share_prompts"]


@dataclass(frozen=True, slots=True)
class SharedRun:
    """A sequence that is run, and every answer that is read off it.

    Attributes:
        sequence: What the model is given.
        answers: The tokens of each answer; several only where they have one token each.
        positions: Place of each answer among the sequences that were asked for.
    """

    sequence: Encoded
    answers: tuple[tuple[int, ...], ...]
    positions: tuple[int, ...]


def share_prompts(sequences: Sequence[Encoded]) -> list[SharedRun]:
    """Return what has to be run so that every one of ``sequences`` is answered; answers keep their order within a prompt.

    Args:
        sequences: Distinct sequences with their answer spans.
    """
    members: dict[tuple[int, ...], list[int]] = {}
    for position, sequence in enumerate(sequences):
        # Whatever follows the answer cannot change it either, but a labelled span always ends its sequence.
        is_single = sequence.answer_length == 1 and sequence.answer_end == len(sequence.input_ids)
        key = sequence.input_ids[: sequence.answer_start] if is_single else (-1, position)
        members.setdefault(key, []).append(position)
    return [
        SharedRun(
            sequences[positions[0]],
            tuple(sequences[p].input_ids[sequences[p].answer_start : sequences[p].answer_end] for p in positions),
            tuple(positions),
        )
        for positions in members.values()
    ]
