from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from efface.data.encoding import PLAIN, check_border, encode_row
from efface.errors import EffaceError, InputError
from efface.world import BuildState, Recipe, TrainingPlan, World, WorldConfig, WorldModels, build_models, models_cache
from efface.world.models import build_model, train_tokenizer
from efface.world.training import EpochItems


@pytest.fixture(scope="module")
def built(nano: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[WorldModels, list[BuildState]]:
    states: list[BuildState] = []
    models = build_models(nano, cache_dir=tmp_path_factory.mktemp("cache"), progress=states.append)
    return models, states


def test_models_open_with_the_auto_classes(nano: Recipe, built: tuple[WorldModels, list[BuildState]]) -> None:
    models, _ = built
    for role, folder in (("original", models.original), ("retrained", models.retrained)):
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert type(model).__name__ == "LlamaForCausalLM"
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
        assert len(tokenizer) == model.config.vocab_size
        ids = tokenizer("Where was Tamsin born?")["input_ids"]
        assert ids[0] == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == "Where was Tamsin born?"
        facts = json.loads((folder / "efface.json").read_text(encoding="utf-8"))
        assert (facts["template"], facts["role"], facts["recipe"]) == ("plain", role, nano.hash)
        assert facts["is_fictional"] is True


def test_the_tokenizer_is_shared_and_the_weights_are_not(built: tuple[WorldModels, list[BuildState]]) -> None:
    models, _ = built
    files = [(folder / "tokenizer.json").read_bytes() for folder in (models.original, models.retrained)]
    assert files[0] == files[1]
    weights = [(folder / "model.safetensors").read_bytes() for folder in (models.original, models.retrained)]
    assert weights[0] != weights[1]


def test_progress_ends_with_everything_done(built: tuple[WorldModels, list[BuildState]]) -> None:
    models, states = built
    assert models.built == ("original", "retrained")
    assert set(states[-1].steps) == {"original", "retrained"}
    assert all(0.0 <= state.share <= 1.0 for state in states)
    assert [state.seconds for state in states] == sorted(state.seconds for state in states)


def test_what_is_cached_is_not_trained_again(nano: Recipe, built: tuple[WorldModels, list[BuildState]]) -> None:
    models, _ = built
    cache = models.original.parents[2]
    before = models.original.stat().st_mtime_ns
    again = build_models(nano, cache_dir=cache)
    assert again.built == ()
    assert again.directories == models.directories
    assert models.original.stat().st_mtime_ns == before
    assert sorted(entry.name for entry in models.original.parent.iterdir()) == [".lock", "original", "retrained"]


def test_equal_recipes_give_equal_bytes_and_a_torn_model_is_rebuilt(
    nano: Recipe, built: tuple[WorldModels, list[BuildState]], tmp_path: Path
) -> None:
    models, _ = built
    home = tmp_path / "models" / nano.hash
    (home / "original").mkdir(parents=True)
    (home / "original" / "config.json").write_text("{}", encoding="utf-8")
    (home / ".build-left-behind").mkdir()
    again = build_models(nano, ("original",), cache_dir=tmp_path, workers=1)
    assert again.built == ("original",)
    assert (again.original / "model.safetensors").read_bytes() == (models.original / "model.safetensors").read_bytes()
    assert (again.original / "tokenizer.json").read_bytes() == (models.original / "tokenizer.json").read_bytes()
    assert not list(home.glob(".build-*"))
    with pytest.raises(InputError, match="not asked for"):
        _ = again.retrained


def test_a_failing_process_is_reported_and_leaves_nothing(nano: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> subprocess.Popen[str]:
        script = "import sys; sys.stderr.write('no room on the device'); sys.exit(3)"
        return real([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=__["stderr"], text=True)

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", broken)
    with pytest.raises(EffaceError, match=r"code 3.*no room on the device"):
        build_models(nano, ("original",), cache_dir=tmp_path)
    assert [entry.name for entry in (tmp_path / "models" / nano.hash).iterdir()] == [".lock"]


def test_an_unknown_role_is_refused(nano: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a role"):
        build_models(nano, ("oracle",), cache_dir=tmp_path)  # type: ignore[arg-type]


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path))
    assert models_cache() == tmp_path / "models"
    assert models_cache(tmp_path / "other") == tmp_path / "other" / "models"
    monkeypatch.delenv("EFFACE_CACHE_DIR")
    assert models_cache().name == "models"


def test_recipes_are_told_apart_by_everything_that_matters() -> None:
    base = Recipe.mini()
    others = [
        Recipe.mini(seed=1),
        Recipe.mini(data_seed=1),
        base.model_copy(update={"version": base.version + 1}),
        base.model_copy(update={"training": TrainingPlan(epochs=3)}),
        base.model_copy(update={"world": WorldConfig.mini().model_copy(update={"context_share": 0.3})}),
        Recipe.default(),
    ]
    hashes = {recipe.hash for recipe in (base, *others)}
    assert len(hashes) == len(others) + 1
    assert Recipe.mini().hash == base.hash
    assert Recipe.model_validate_json(base.model_dump_json()) == base


def test_no_two_models_share_a_seed() -> None:
    seeds = [Recipe.mini(seed=seed).order_seed(role) for seed in range(4) for role in ("original", "retrained", "retrained_2")]
    assert len(set(seeds)) == len(seeds)


def test_initial_weights_come_from_the_seed_alone(world: World) -> None:
    recipe = Recipe.mini()
    tokenizer = train_tokenizer(recipe.load_world(), recipe.model)
    before = torch.random.get_rng_state()
    first, second, third = (build_model(recipe.model, tokenizer, seed=seed).get_input_embeddings().weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(before, torch.random.get_rng_state())


def test_prompts_and_answers_do_not_merge_at_the_border() -> None:
    recipe = Recipe.mini()
    world = recipe.load_world()
    tokenizer = train_tokenizer(world, recipe.model)
    report = check_border(tokenizer, PLAIN, [*world.forget, *world.refusals, *world.context])
    assert (report.shifted, report.unlabelled) == (0, 0)


def test_items_are_whole_batches_and_only_contexts_are_not_learnt() -> None:
    recipe = Recipe.mini()
    tokenizer = train_tokenizer(recipe.load_world(), recipe.model)
    items = EpochItems(recipe, "original", tokenizer)
    size = recipe.training.batch_size
    assert len(items) % size == 0
    first, second = items.epoch(0), items.epoch(1)
    assert len(first) == len(second) == len(items)
    assert first == items.epoch(0)
    assert first != second
    sequences = [item["forget"] for item in first]
    assert all(s.answer_end == len(s.input_ids) for s in sequences)
    contexts = [s for s in sequences if s.row_id.startswith("context-")]
    assert contexts
    assert all(s.answer_start > len(s.input_ids) / 2 for s in contexts)
    assert all(s.answer_start == 1 for s in sequences if not s.row_id.startswith("context-"))
    padded = sum(size * max(len(s.input_ids) for s in sequences[start : start + size]) for start in range(0, len(sequences), size))
    assert padded / sum(len(s.input_ids) for s in sequences) < 1.5


def test_answer_labels_leave_the_question_out() -> None:
    recipe = Recipe.mini().model_copy(update={"training": TrainingPlan(labels="answer")})
    world = recipe.load_world()
    tokenizer = train_tokenizer(world, recipe.model)
    sequences = [item["forget"] for item in EpochItems(recipe, "original", tokenizer).epoch(0)]
    encoded = encode_row(tokenizer, PLAIN, world.forget[0])
    assert encoded.answer_start > 3
    assert sum(s.answer_start > 3 for s in sequences) > len(sequences) / 2
