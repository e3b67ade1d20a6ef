"""Both ways of writing give the same texts, and what they pay for is counted."""

from __future__ import annotations

from benchmarks.generation import compare_generation, generation_table, mixed_items, world_model
from efface.world import Recipe


def test_texts_are_the_same_and_static_batches_pay_more():
    model = world_model(Recipe.mini(), is_trained=False)
    items = mixed_items(Recipe.mini(), limit=10, max_new_tokens=6)
    assert len({len(model.encode_prompt(item)) for item in items}) > 3
    compared = compare_generation(model, items, rounds=1, rows_per_batch=4)
    assert compared.texts[0] == compared.texts[1]
    ours, static = compared.row_steps
    assert 0 < ours <= static
    table = generation_table("ten prompts", items, compared)
    assert table.values[0]["equal_texts"] == 10
    assert "static batches in the order of the file" in table.text()
