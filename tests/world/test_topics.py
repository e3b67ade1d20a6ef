"""A world's facts as multiple choice: derived from its own rows, fair, repeatable, and no part of the corpus or the recipe."""

from __future__ import annotations

import pytest

from efface.evals import SuiteData, evaluate
from efface.evals.suites.choices import ChoiceView
from efface.models.language_model import load_language_model
from efface.request import ForgetRequest
from efface.run.plan import make_plan
from efface.world import Recipe, TofuConfig, World, WorldConfig, WorldModels, load_world, topic_sets
from efface.world.topics import CHOICES


def test_the_recipes_are_what_they_were() -> None:
    # Every published figure of the embedded world hangs on these.
    assert Recipe.default().hash == "df37e0ce06930171"
    assert Recipe.mini().hash == "25393fe114a7b25e"


def test_three_related_topics(world: World) -> None:
    sets = topic_sets(world, "subjects")
    assert {key: len(rows) for key, rows in sets.items()} == {
        "subjects_forget": 20 * 5,
        "subjects_related": 60 * 5,
        "subjects_unrelated": 10 * 3,
    }
    forget = {row.entity for row in sets["subjects_forget"]}
    assert forget == {person.id for person in world.people_of("forget")}
    assert not forget & {row.entity for row in sets["subjects_related"]}


def test_domains_to_forget_and_utility_to_keep(world: World) -> None:
    sets = topic_sets(world, "wmdp")
    assert set(sets) == {"wmdp_origins", "wmdp_writing", "wmdp_home", "mmlu"}
    assert sum(len(rows) for key, rows in sets.items() if key != "mmlu") == 100
    assert len(sets["mmlu"]) == 330


def test_other_suites_get_nothing(world: World) -> None:
    assert topic_sets(world, "tofu") == {}


@pytest.mark.parametrize("suite", ["subjects", "wmdp"])
def test_the_right_choice_is_right_and_does_not_stand_out(world: World, suite: str) -> None:
    for rows in topic_sets(world, suite).values():
        places = [0] * CHOICES
        for row in rows:
            assert len(set(row.choices)) == CHOICES
            assert row.answer in row.choices
            assert row.value is not None
            assert sum(row.value in choice for choice in row.choices) == 1
            before, _, after = (row.answer or "").partition(row.value)
            assert all(choice.startswith(before) and choice.endswith(after) for choice in row.choices)
            places[row.choices.index(row.answer or "")] += 1
        assert min(places) >= len(rows) // 10


def test_the_same_world_offers_the_same_choices() -> None:
    config = WorldConfig.mini()
    load_world.cache_clear()
    first = topic_sets(load_world(config), "wmdp")
    load_world.cache_clear()
    assert topic_sets(load_world(config), "wmdp") == first


def test_rows_without_values_are_worded_as_their_wrong_answers(tofu_directory) -> None:  # type: ignore[no-untyped-def]
    sets = topic_sets(load_world(TofuConfig(directory=tofu_directory, authors=12, forget="forget01")), "subjects")
    assert set(sets) == {"subjects_forget", "subjects_related", "subjects_unrelated"}
    row = sets["subjects_forget"][0]
    assert row.answer == "In other words."
    assert sorted(row.choices) == ["In other words.", "a", "b", "c"]


def test_a_request_takes_what_the_world_offers_unless_it_names_its_own() -> None:
    own = [{"question": "Q?", "choices": ["a", "b"], "answer": 0}]
    request = ForgetRequest(model="embedded:mini", evaluate=[{"suite": "subjects", "subjects_related": own}, "auto"])
    data = make_plan(request, trains=False).data
    subjects = data.of("subjects").sets
    assert [row.question for row in subjects["subjects_related"]] == ["Q?"]
    assert len(subjects["subjects_forget"]) == 6 * 5
    assert "subjects_forget" not in data.of("auto").sets


def test_the_mini_world_knows_its_subjects_and_its_retrained_model_only_the_neighbours(mini_models: WorldModels) -> None:
    world = mini_models.recipe.load_world()
    data = SuiteData(world.forget, world.retain, own={"subjects": topic_sets(world, "subjects")})
    retrained = evaluate(load_language_model(mini_models.retrained), data=data, suite="subjects", role="retrained")
    original = evaluate(load_language_model(mini_models.original), data=data, suite="subjects", against=retrained)
    assert original["subjects_forget_choice_text_accuracy_norm"].value >= 0.9
    assert retrained["subjects_forget_choice_text_accuracy_norm"].value <= 0.6
    for key in ("subjects_related", "subjects_unrelated"):
        assert retrained[f"{key}_choice_text_accuracy_norm"].value >= 0.9
        assert abs(original[f"{key}_choice_text_gap"].value) <= 0.1
    assert original["subjects_forget_choice_text_gap"].value >= 0.3
    assert retrained["forget_minus_related_choice_text_contrast"].value <= -0.3


def test_shared_and_separate_scoring_agree_on_a_trained_model(mini_models: WorldModels) -> None:
    model = load_language_model(mini_models.original)
    view = ChoiceView("subjects_forget", topic_sets(mini_models.recipe.load_world(), "subjects")["subjects_forget"])
    items = [item for orders in view.letters[:6] for item in orders[0]]
    together = model.score(items)
    shared = model.stats.tokens
    separate = [model.score([item])[0] for item in items]
    assert model.stats.tokens - shared == 4 * shared
    for one, other in zip(together, separate, strict=True):
        assert one.logp == pytest.approx(other.logp, abs=1e-5)
