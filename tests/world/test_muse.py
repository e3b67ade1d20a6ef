"""The embedded world in MUSE's shape: other views of the same corpus."""

from __future__ import annotations

from itertools import pairwise

import pytest

from efface.errors import InputError
from efface.world import Recipe, World, load_world
from efface.world.config import TofuConfig
from efface.world.muse import muse_world, passages_as_questions
from efface.world.shapes import shape_for
from efface.world.tofu import load_tofu_world


def entities(rows) -> set[str]:
    return {row.entity for row in rows}


def test_the_corpus_is_what_it_was() -> None:
    assert Recipe.default().hash == "df37e0ce06930171"
    assert Recipe.mini().hash == "25393fe114a7b25e"


def test_what_is_forgotten_is_passages_and_questions(world: World) -> None:
    rows = muse_world(world)
    assert {row.id for row in rows.forget} == {row.id for row in (*world.forget, *world.passages_forget)}
    assert entities(rows.retain1) | entities(rows.retain2) == entities(world.retain)
    assert not entities(rows.retain1) & entities(rows.retain2)
    assert entities(rows.sets["retain_qa"]) == entities(rows.retain2)
    assert any(row.is_text for row in rows.retain1)
    assert any(row.is_text for row in rows.holdout)
    assert not entities(rows.sets["privleak_holdout"]) & {person.id for person in world.trained_people("original")}


def test_folds_grow_to_ten_times_the_first_and_requests_share_nobody(world: World) -> None:
    rows = muse_world(world)
    assert [len(entities(fold)) for fold in rows.scal] == [2, 5, 10, 20]
    assert all(entities(a) < entities(b) for a, b in pairwise(rows.scal))
    assert [len(entities(fold)) for fold in rows.sust] == [5, 5, 5, 5]
    assert set.union(*map(entities, rows.sust)) == entities(rows.forget)
    for fold in (*rows.scal, *rows.sust):
        share = sum(row.is_text for row in fold) / len(entities(fold))
        assert 0.4 <= share <= 0.6, fold.source


def test_a_passage_is_given_to_its_first_sentence(world: World) -> None:
    for row, whole in zip(muse_world(world).sets["verbmem"], world.passages_forget, strict=True):
        assert f"{row.question} {row.answer}" == whole.text
        assert row.question.count(".") == 2
        assert not row.is_text
    turned = passages_as_questions(muse_world(world).forget)
    assert not any(row.is_text for row in turned)
    assert len(turned) == len(muse_world(world).forget)


def test_a_suite_without_a_shape_takes_the_worlds_sets(world: World) -> None:
    assert shape_for("tofu", world) is None
    assert shape_for("muse", world).forget is not None


def test_tofu_has_no_passages(tofu_directory) -> None:
    with pytest.raises(InputError, match="no passages"):
        muse_world(load_tofu_world(TofuConfig(directory=tofu_directory)))
    assert load_world(TofuConfig(directory=tofu_directory)) is not None
