from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model

from efface.data.items import ScoreItem
from efface.errors import InputError
from efface.models.checks import check_model, count_parameters, resolve_dtype
from efface.models.fingerprint import weights_hash
from efface.models.language_model import LocalModel, load_language_model
from efface.models.loading import cast_survival, load_model, read_metadata, save_model

ITEM = ScoreItem("a", "Ada Bell was born in Lisbon.", "Where was Ada Bell born?")


@pytest.fixture
def original(build, tokenizer, tmp_path):
    directory = tmp_path / "original"
    save_model(build("llama"), tokenizer, directory, dtype="float32", metadata={})
    return directory


def test_check_reads_no_weights(original, build):
    file = original / "model.safetensors"
    info = check_model(original)
    assert info.num_parameters == sum(p.numel() for p in build("llama").parameters())
    assert (info.architecture, info.dtype, info.hidden_size, info.num_layers) == ("LlamaForCausalLM", torch.float32, 32, 2)
    assert info.intermediate_size == 48
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    file.write_bytes(content[: 8 + length])  # the header alone
    assert check_model(original) == info


def test_parameters_without_weights_on_disk(original):
    counted = count_parameters(original)
    (original / "model.safetensors").unlink()
    assert count_parameters(original) == counted


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (("config.json",), "no config.json"),
        (("tokenizer.json",), "no tokenizer"),
        (("model.safetensors",), "no weights"),
    ],
)
def test_missing_files_are_named(original, remove, message):
    for name in remove:
        (original / name).unlink()
    with pytest.raises(InputError, match=message) as caught:
        load_model(original)
    assert caught.value.exit_code == 2


def test_missing_directory():
    with pytest.raises(InputError, match="does not exist"):
        check_model("./nowhere/at/all")


def test_a_file_is_not_a_model(original):
    with pytest.raises(InputError, match="is a file"):
        check_model(original / "config.json")


def test_not_a_causal_model(original):
    config = json.loads((original / "config.json").read_text())
    (original / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))
    with pytest.raises(InputError, match="not a causal language model"):
        check_model(original)
    (original / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(InputError, match="is_decoder"):
        check_model(original)
    (original / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        check_model(original)


def test_round_trip(original, build, tokenizer):
    model, loaded_tokenizer = load_model(original)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    before = LocalModel(build("llama"), tokenizer).score([ITEM])[0]
    after = LocalModel(model, loaded_tokenizer).score([ITEM])[0]
    assert (before.logp == after.logp).all()


def test_pad_token_never_resizes(original, tokenizer):
    model, loaded = load_model(original)
    assert tokenizer.pad_token is None
    assert loaded.pad_token == loaded.eos_token
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)


def test_trained_weights_are_float32_and_measured_ones_as_stored(build, tokenizer, tmp_path):
    save_model(build("llama"), tokenizer, tmp_path / "half", dtype="bfloat16", metadata={})
    trained, _ = load_model(tmp_path / "half", trainable=True)
    measured, _ = load_model(tmp_path / "half")
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    assert trained.training
    assert all(p.requires_grad for p in trained.parameters())
    assert {p.dtype for p in measured.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in load_model(tmp_path / "half", dtype="float16")[0].parameters()} == {torch.float16}


def test_unknown_dtype():
    with pytest.raises(InputError, match="float32"):
        resolve_dtype("fp8")


def test_saving_in_bfloat16_says_what_survived(original, tmp_path):
    model, tokenizer = load_model(original, trainable=True)
    weights = model.model.layers[0].mlp.up_proj.weight
    before = weights.detach().clone()
    with torch.no_grad():
        weights += 1e-4
    report = save_model(model, tokenizer, tmp_path / "new", dtype="bfloat16", metadata={"method": "npo"}, original=original)
    changed = int((weights.detach() != before).sum())
    survived = int((weights.detach().bfloat16() != before.bfloat16()).sum())
    assert (report.survival.changed, report.survival.survived) == (changed, survived)
    assert 0 < report.survival.share < 1
    assert report.survival.compared == sum(p.numel() for p in model.parameters())
    metadata = read_metadata(tmp_path / "new")
    assert metadata["method"] == "npo"
    assert metadata["dtype"] == "bfloat16"
    assert metadata["weights_hash"] == report.weights_hash == weights_hash(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == "bfloat16"
    assert weights.dtype == torch.float32  # the model in memory is not changed
    assert {p.dtype for p in load_model(tmp_path / "new")[0].parameters()} == {torch.bfloat16}


def test_float32_loses_nothing(original, tmp_path):
    model, tokenizer = load_model(original, trainable=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-4
    report = save_model(model, tokenizer, tmp_path / "new", dtype="float32", metadata={}, original=original)
    assert report.survival.share == 1.0


def test_nothing_changed_has_no_share(original, tmp_path):
    model, tokenizer = load_model(original)
    report = save_model(model, tokenizer, tmp_path / "new", dtype="float32", metadata={}, original=original)
    assert report.survival.changed == 0
    assert report.survival.share is None
    assert report.weights_hash == weights_hash(original)


def test_cast_survival_skips_what_is_not_there():
    trained = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([1])}
    original = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([0]), "c": torch.tensor([3.0])}
    survival = cast_survival(iter(original.items()), trained, torch.bfloat16)
    assert (survival.compared, survival.changed, survival.survived) == (2, 1, 1)


def test_tied_weights_stay_tied(build, tokenizer, tmp_path):
    model = build("llama", tie_word_embeddings=True)
    save_model(model, tokenizer, tmp_path / "tied", dtype="bfloat16", metadata={})
    loaded, _ = load_model(tmp_path / "tied")
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    torch.testing.assert_close(loaded.lm_head.weight, model.lm_head.weight.bfloat16())


def test_writing_is_all_or_nothing(original, tmp_path, monkeypatch):
    model, tokenizer = load_model(original)
    before = weights_hash(original)
    monkeypatch.setattr(type(tokenizer), "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_model(model, tokenizer, original, dtype="bfloat16", metadata={})
    assert weights_hash(original) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original"]


def test_writing_replaces_a_directory_whole(original, tmp_path):
    model, tokenizer = load_model(original)
    (original / "left-over.safetensors").write_text("old")
    save_model(model, tokenizer, original, dtype="float32", metadata={"new": True})
    assert not (original / "left-over.safetensors").exists()
    assert read_metadata(original)["new"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original"]


def test_adapter_directories(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, tokenizer = load_model("./original")
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"))
    save_model(wrapped, tokenizer, tmp_path / "adapter", dtype="bfloat16", metadata={"template": "llama2_chat"})
    expected = LocalModel(wrapped, tokenizer, "llama2_chat").score([ITEM])[0]
    monkeypatch.chdir(tmp_path.parent)  # the base is found from anywhere
    info = check_model(tmp_path / "adapter")
    assert info.is_adapter
    assert info.num_parameters == check_model(original).num_parameters
    loaded = load_language_model(tmp_path / "adapter")
    assert loaded.template.name == "llama2_chat"
    assert (loaded.score([ITEM])[0].logp == expected.logp).all()
    trainable, _ = load_model(tmp_path / "adapter", trainable=True)
    assert {name.split(".")[-3] for name, p in trainable.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_metadata_is_empty_without_a_file(tmp_path):
    assert read_metadata(tmp_path) == {}
