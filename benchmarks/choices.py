"""Multiple-choice questions with the prompt of each run once, against every choice run as a sequence of its own.

Ours: ``LocalModel.score`` on all items at once. The letters of a question are read off one sequence; of full texts the prompt is
run once and its keys and values are continued by each choice.

Baseline: the same model and scorer, the same length-sorted batches under the same token budget, but one call per place of the
choices (all "A", all "B", ...), so that no two items of a call share a prompt: each choice costs its whole sequence.

The bound is the ratio of real tokens put through the model, which sharing can give by itself.

The questions are random words as long as those of WMDP and MMLU (question 20-60 words, choices 4-16), the model has random weights:
what is compared is work, and both sides must give the same log-likelihoods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.tables import Table
from benchmarks.timing import Clock, Ratio
from efface.data.draws import generator
from efface.data.items import TokenRow
from efface.data.schema import Row, RowSet
from efface.evals.suites.choices import ChoiceView
from efface.models.language_model import LocalModel, PassStats
from efface.world import ModelSizes, Recipe, load_world
from efface.world.models import build_model, train_tokenizer

__all__ = ["ChoiceComparison", "choice_questions", "choices_table", "compare_choices"]

_WORDS = (
    "copper",
    "river",
    "lantern",
    "answer",
    "winter",
    "garden",
    "was",
    "born",
    "the",
    "of",
    "in",
    "which",
    "city",
    "job",
    "book",
)
FORMS = ("letters", "texts")


@dataclass(frozen=True)
class ChoiceComparison:
    """What one form of asking took on both sides.

    Attributes:
        form: "letters" or "texts".
        items: Items scored.
        passes: Forward passes, (ours, baseline).
        tokens: Real tokens put through the model, (ours, baseline).
        seconds: Ratio of processor time, baseline / ours.
        largest_difference: Of summed log-likelihoods, between the sides.
    """

    form: str
    items: int
    passes: tuple[int, int]
    tokens: tuple[int, int]
    seconds: Ratio
    largest_difference: float

    @property
    def bound(self) -> float:
        """Tokens of the baseline over ours."""
        return self.tokens[1] / self.tokens[0]


def choice_questions(count: int) -> RowSet:
    """Return ``count`` questions of random words with four choices each."""
    draw = generator("benchmark choices", count)

    def words(least: int, most: int) -> str:
        return " ".join(draw.choice(_WORDS, int(draw.integers(least, most + 1))))

    rows: list[Row] = []
    for number in range(count):
        choices = [f"{words(4, 16)} {place}" for place in range(4)]  # the number keeps them apart
        row = {"id": str(number), "question": f"{words(20, 60)}?", "choices": choices, "answer": number % 4, "subject": "biology"}
        rows.append(Row.build(row))
    return RowSet.build(rows)


def compare_choices(form: str, *, count: int, rounds: int, sizes: ModelSizes | None = None) -> ChoiceComparison:
    """Score the questions of one form on both sides in turns.

    Args:
        form: "letters" or "texts".
        count: Questions.
        rounds: Timed rounds after one that warms up.
        sizes: Shape of the model; by default the embedded world's.
    """
    recipe = Recipe.default()
    tokenizer = train_tokenizer(load_world(recipe.world), recipe.model)
    model = LocalModel(build_model(sizes or recipe.model, tokenizer, seed=0).eval(), tokenizer)
    view = ChoiceView("wmdp_bio", choice_questions(count))
    questions = [orders[0] for orders in view.letters] if form == "letters" else view.texts
    together = [item for items in questions for item in items]
    apart = [[items[place] for items in questions] for place in range(4)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        model.stats = PassStats()
        clock = Clock.now()
        ours = model.score(together)
        took, our_stats = clock.spent().cpu, model.stats
        model.stats = PassStats()
        clock = Clock.now()
        theirs = [model.score(items) for items in apart]
        if number:  # the first round warms up
            seconds[0].append(took)
            seconds[1].append(clock.spent().cpu)
    again = [theirs[place][question] for question in range(len(questions)) for place in range(4)]
    return ChoiceComparison(
        form,
        len(together),
        (our_stats.forward_passes, model.stats.forward_passes),
        (our_stats.tokens, model.stats.tokens),
        Ratio.of(seconds[1], seconds[0]),
        _largest_difference(ours, again),
    )


def choices_table(found: Sequence[ChoiceComparison], words: str) -> Table:
    """Return the comparison as a table."""
    columns = ("form", "items", "passes", "passes alone", "tokens", "tokens alone", "bound", "processor time", "largest difference")
    rows = [
        (
            each.form,
            str(each.items),
            *map(str, each.passes),
            *map(str, each.tokens),
            f"{each.bound:.2f}",
            str(each.seconds),
            f"{each.largest_difference:.1e}",
        )
        for each in found
    ]
    values = [
        {
            "form": each.form,
            "items": each.items,
            "passes": list(each.passes),
            "tokens": list(each.tokens),
            "bound": each.bound,
            "seconds": each.seconds.as_dict(),
            "largest_difference": each.largest_difference,
        }
        for each in found
    ]
    about = [
        words,
        "Baseline: each choice is a sequence of its own, in the same length-sorted batches. The bound is the ratio of tokens.",
    ]
    return Table("Multiple choice: the prompt once for all choices", about, columns, rows, values)


def _largest_difference(ours: Sequence[TokenRow], theirs: Sequence[TokenRow]) -> float:
    return max(abs(float(one.logp.sum() - other.logp.sum())) for one, other in zip(ours, theirs, strict=True))
