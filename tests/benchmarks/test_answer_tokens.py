"""Where a fact begins in an answer, and what a model's losses say there."""

from __future__ import annotations

import pytest
import torch

from benchmarks.answer_tokens import answer_tokens, fact_start
from benchmarks.generation import world_model
from efface.data.encoding import encode_row
from efface.world import Recipe


def test_fact_starts_at_the_token_that_holds_its_first_letter():
    texts = ["Ann", "Ann was", "Ann was born in", "Ann was born in Par", "Ann was born in Paris."]

    assert fact_start(texts, "Paris") == 3
    assert fact_start(texts, "in Paris") == 2
    assert fact_start(texts, "Ann") == 0


def test_answer_without_its_fact_is_refused():
    with pytest.raises(ValueError, match="holds no 'Rome'"):
        fact_start(["Ann was born in Paris."], "Rome")


def test_losses_are_those_of_the_whole_sequence():
    recipe = Recipe.mini()
    model = world_model(recipe, is_trained=False)
    row = recipe.load_world().sets["forget"][0]
    encoded = encode_row(model.tokenizer, model.template, row)
    with torch.no_grad():
        losses = -model.model(torch.tensor([encoded.input_ids])).logits[0].log_softmax(-1)
    tokens = range(encoded.answer_start, encoded.answer_end)
    texts = [model.tokenizer.decode(encoded.input_ids[tokens.start : token + 1]) for token in tokens]
    fact = tokens[fact_start(texts, row.value)]

    found = answer_tokens(model, [row])

    assert found.first == pytest.approx(float(losses[tokens.start - 1, encoded.input_ids[tokens.start]]), rel=1e-4)
    assert found.fact == pytest.approx(float(losses[fact - 1, encoded.input_ids[fact]]), rel=1e-4)
    assert found.fact_first in (0.0, 1.0)
