"""The template of a checkpoint from OpenUnlearning, TOFU or MUSE: told by its files or its name, or asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from efface.data.encoding import TEMPLATES, Template, encode_prompt
from efface.errors import InputError
from efface.models.checkpoints import stored_template, template_of_checkpoint, template_of_configuration

LLAMA_3 = {
    "apply_chat_template": True,
    "system_prompt": "You are a helpful assistant.",
    "system_prompt_with_special_tokens": "<|begin_of_text|>...",
    "user_start_tag": "<|start_header_id|>user<|end_header_id|>\n\n",
    "user_end_tag": "<|eot_id|>",
    "asst_start_tag": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "asst_end_tag": "<|eot_id|>",
    "date_string": "10 Apr 2025",
}
LLAMA_2 = {
    "apply_chat_template": False,
    "user_start_tag": "[INST] ",
    "user_end_tag": " [/INST]",
    "asst_start_tag": "",
    "asst_end_tag": " ",
}
BASE = {
    "apply_chat_template": False,
    "user_start_tag": "Question: ",
    "user_end_tag": "\n",
    "asst_start_tag": "Answer: ",
    "asst_end_tag": "\n\n",
}


def checkpoint(folder: Path, arguments: dict | None = None, *, logs: bool = False) -> Path:
    folder.mkdir(parents=True)
    if arguments is not None:
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"model": {"template_args": arguments}}))
    if logs:
        (folder / "evals").mkdir()
        (folder / "evals" / "TOFU_SUMMARY.json").write_text(json.dumps({"model_utility": 0.6}))
    return folder


@pytest.mark.parametrize(
    ("arguments", "name"), [(LLAMA_3, "assistant_chat_dated"), (LLAMA_2, "llama2_chat"), (BASE, "question_answer")]
)
def test_published_configurations_have_a_name_here(arguments, name):
    assert template_of_configuration(arguments) == TEMPLATES[name]


def test_tags_of_ones_own_are_kept():
    made = template_of_configuration({**LLAMA_2, "user_start_tag": "<user> ", "system_prompt_with_special_tokens": "<s>sys</s>"})
    assert (made.user_start, made.system, made.answer_prefix) == ("<user> ", "<s>sys</s>", "")
    assert isinstance(made.record(), dict)


def test_the_recorded_configuration_wins_over_the_name(tmp_path):
    place = checkpoint(tmp_path / "tofu_Llama-3.2-1B-Instruct_full", LLAMA_2)
    assert template_of_checkpoint(place) == TEMPLATES["llama2_chat"]
    inner = place / "checkpoint-60"
    inner.mkdir()
    assert template_of_checkpoint(inner) == TEMPLATES["llama2_chat"]


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("open-unlearning/tofu_Llama-3.2-1B-Instruct_full", "assistant_chat_dated"),
        ("open-unlearning/tofu_Llama-2-7b-chat-hf_retain90", "llama2_chat"),
        ("locuslab/tofu_ft_llama2-7b", "llama2_chat"),
        ("locuslab/tofu_ft_phi-1.5", "question_answer"),
        ("muse-bench/MUSE-News_target", "question_answer"),
        ("open-unlearning/unlearn_tofu_Llama-3.2-1B-Instruct_forget10_NPO_lr1e-05", "assistant_chat_dated"),
        ("open-unlearning/muse_Llama-2-7b-hf_Books_retrain", "question_answer"),
    ],
)
def test_hub_ids(name, template):
    assert template_of_checkpoint(name) == TEMPLATES[template]


def test_folders_are_told_by_name_or_by_what_they_were_initialised_from(tmp_path):
    named = checkpoint(tmp_path / "tofu_Qwen2.5-3B-Instruct_forget10_NPO")
    assert template_of_checkpoint(named) == TEMPLATES["assistant_chat"]
    other = checkpoint(tmp_path / "my-run", logs=True)
    (other / "config.json").write_text(json.dumps({"_name_or_path": "meta-llama/Llama-2-7b-hf"}))
    assert template_of_checkpoint(other) == TEMPLATES["question_answer"]


def test_models_of_others_are_left_to_their_own_rule(tmp_path):
    assert template_of_checkpoint("meta-llama/Llama-2-7b-chat-hf") is None
    assert template_of_checkpoint(checkpoint(tmp_path / "original")) is None
    assert template_of_checkpoint(checkpoint(tmp_path / "tofu-house")) is None


def test_what_cannot_be_told_is_asked(tmp_path):
    with pytest.raises(InputError, match="--set template=NAME"):
        template_of_checkpoint(checkpoint(tmp_path / "my-run", logs=True))
    with pytest.raises(InputError, match="gives no asst_end_tag"):
        template_of_configuration({key: value for key, value in LLAMA_2.items() if key != "asst_end_tag"})
    broken = checkpoint(tmp_path / "tofu_broken", {})
    (broken / ".hydra" / "config.yaml").write_text("trainer: {}\n")
    with pytest.raises(InputError, match=r"holds no model\.template_args"):
        template_of_checkpoint(broken)


def test_our_own_record_wins(tmp_path):
    place = checkpoint(tmp_path / "tofu_Llama-2-7b-chat-hf_x", LLAMA_2)
    (place / "efface.json").write_text(json.dumps({"template": "plain"}))
    assert stored_template(place) == "plain"


class Tokenizer:
    """Writes turns and the date down, one character per token."""

    def apply_chat_template(self, turns, *, add_generation_prompt, return_dict, date_string="today"):
        text = (
            date_string + "".join(f"|{turn['role']}:{turn['content']}" for turn in turns) + ("|" if add_generation_prompt else "")
        )
        return [ord(character) for character in text]


def test_the_date_reaches_the_chat_template_and_an_unset_one_changes_no_hash():
    dated = encode_prompt(Tokenizer(), TEMPLATES["assistant_chat_dated"], "Who?")
    assert "".join(map(chr, dated)) == "10 Apr 2025|system:You are a helpful assistant.|user:Who?|"
    assert "".join(map(chr, encode_prompt(Tokenizer(), TEMPLATES["chat"], "Who?"))) == "today|user:Who?|"
    assert Template().hash != Template(date_string="1 May 2025").hash
    assert TEMPLATES["llama2_chat"].hash == "6a3c26d840f3ca83"  # as before there was a date
