"""Which sequences need not be run because another one says all about them.

What a causal model says at a position depends on what stands before it alone. Continuations of a single token after the same
prompt are therefore all read off one forward pass, at the prompt's last position: the letters of a multiple-choice question cost
one sequence, however many there are. Of longer answers to the same prompt, the prompt needs to be run once
(:mod:`efface.models.continuations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from efface.data.encoding import Encoded

__all__ = ["PromptGroup", "SharedRun", "group_prompts", "share_prompts"]

_WORTH_KEEPING = 32  # tokens of a prompt from which a pass of its own costs less than running it with every answer


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


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """A prompt and the answers that go on from it.

    Attributes:
        prompt: Tokens of the prompt.
        answers: Tokens of each answer, none empty.
        positions: Place of each answer among the sequences that were asked for.
    """

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    positions: tuple[int, ...]


def group_prompts(sequences: Sequence[Encoded]) -> tuple[list[PromptGroup], list[int]]:
    """Return the long prompts that several answers share, and the places of all other sequences.

    Answers of one token each are left to :func:`share_prompts`, which needs no second pass for them.
    """
    members: dict[tuple[int, ...], list[int]] = {}
    for position, sequence in enumerate(sequences):
        if sequence.answer_start >= _WORTH_KEEPING and sequence.answer_end == len(sequence.input_ids) > sequence.answer_start:
            members.setdefault(sequence.input_ids[: sequence.answer_start], []).append(position)
    groups = []
    for prompt, positions in members.items():
        answers = tuple(sequences[position].input_ids[len(prompt) :] for position in positions)
        if len(answers) > 1 and any(len(answer) > 1 for answer in answers):
            groups.append(PromptGroup(prompt, answers, tuple(positions)))
    taken = {position for group in groups for position in group.positions}
    return groups, [position for position in range(len(sequences)) if position not in taken]


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
