"""OpenUnlearning's settings as requests: every trainer, every form of input, and nothing lost without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from efface.errors import InputError
from efface.methods.presets import expand
from efface.request import ForgetRequest
from efface.run.openunlearning import translate

RESOLVED = {
    "model": {
        "model_args": {
            "pretrained_model_name_or_path": "muse-bench/MUSE-${data_split}_target",
            "attn_implementation": "eager",
            "torch_dtype": "bfloat16",
        },
        "tokenizer_args": {"pretrained_model_name_or_path": "meta-llama/Llama-2-7b-hf"},
        "template_args": {
            "apply_chat_template": False,
            "user_start_tag": "Question: ",
            "user_end_tag": "\n",
            "asst_start_tag": "Answer: ",
            "asst_end_tag": "\n\n",
        },
    },
    "trainer": {
        "handler": "NPO",
        "args": {
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 8,
            "learning_rate": "3e-05",
            "output_dir": "${paths.output_dir}",
            "logging_dir": "${trainer.args.output_dir}/logs",
            "optim": "paged_adamw_32bit",
            "num_train_epochs": 10,
            "seed": 3,
            "lr_scheduler_type": "constant",
            "weight_decay": 0.0,
        },
        "method_args": {"gamma": 2.0, "alpha": 0.5, "retain_loss_type": "KL", "beta": 0.1},
    },
    "data": {
        "forget": {
            "MUSE_forget": {
                "handler": "PretrainingDataset",
                "args": {
                    "hf_args": {"path": "muse-bench/MUSE-News", "name": "raw", "split": "${forget_split}"},
                    "text_key": "text",
                    "max_length": 2048,
                },
            }
        },
        "retain": {
            "MUSE_retain": {"args": {"hf_args": {"path": "muse-bench/MUSE-News", "name": "raw", "split": "${retain_split}"}}}
        },
        "anchor": "forget",
    },
    "eval": {
        "muse": {
            "metrics": {"forget_verbmem_ROUGE": {"handler": "rouge"}, "forget_own_metric": {"handler": "own"}},
            "handler": "MUSEEvaluator",
            "data_split": "${data_split}",
            "retain_logs_path": "${retain_logs_path}",
        }
    },
    "paths": {"root_dir": ".", "output_dir": "${paths.root_dir}/saves/${mode}/${task_name}"},
    "data_split": "News",
    "forget_split": "forget",
    "retain_split": "retain1",
    "retain_logs_path": "saves/eval/muse_Llama-2-7b-hf_News_retrain/MUSE_EVAL.json",
    "task_name": "muse_npo",
    "mode": "unlearn",
}


def keys(found):
    return {each.key for each in found.untranslated}


def test_a_resolved_configuration(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(RESOLVED))
    found = translate(tmp_path)
    assert found.request["model"] == "muse-bench/MUSE-News_target"
    assert found.request["template"] == "question_answer"
    assert found.request["forget"] == "hub:muse-bench/MUSE-News:raw:forget"
    assert found.request["retain"] == "hub:muse-bench/MUSE-News:raw:retain1"
    assert found.request["method"] == {"name": "npo", "beta": 0.1}
    assert found.request["forget_weight"] == 2.0
    assert found.request["retention"] == {"name": "kl", "weight": 0.5}
    assert found.request["seeds"] == 3
    assert found.request["output"] == "runs/muse_npo"
    training = found.request["unlearning"]
    assert (training["learning_rate"], training["batch_size"], training["scheduler"]) == (3e-5, 32, "constant")
    assert training["max_length"] == 2048
    assert found.request["evaluate"][0]["suite"] == "muse"
    assert keys(found) == {
        "model.model_args.attn_implementation",
        "model.model_args.torch_dtype",
        "model.tokenizer_args.pretrained_model_name_or_path",
        "trainer.args.optim",
        "eval.muse.metrics.forget_own_metric",
        "eval.muse.retain_logs_path",
    }
    assert not any("taken from" in note for note in found.notes)


@pytest.mark.parametrize(
    ("trainer", "method", "weight", "retention"),
    [
        ("GradAscent", "ga", None, {"name": "none"}),
        ("GradDiff", "grad_diff", 1.0, {"name": "nll", "weight": 1.0}),
        ("NPO", {"name": "npo", "beta": 0.1}, 1.0, {"name": "nll", "weight": 1.0}),
        ("SimNPO", {"name": "simnpo", "beta": 4.5, "delta": 0.0}, 0.125, {"name": "nll", "weight": 1.0}),
        ("DPO", {"name": "dpo", "beta": 0.1}, 1.0, {"name": "nll", "weight": 1.0}),
        (
            "RMU",
            {"name": "rmu", "steering_coefficient": 2, "layer": 7, "trained": "all"},
            1.0,
            {"name": "embedding", "weight": 1.0},
        ),
        ("UNDIAL", {"name": "undial", "beta": 10.0}, 1.0, {"name": "none"}),
        ("AltPO", "altpo", None, None),
        ("SatImp", {"name": "satimp", "beta1": 5.0, "beta2": 1.0}, 0.1, {"name": "nll", "weight": 1.0}),
        ("WGA", {"name": "wga", "beta": 1.0}, 1.0, {"name": "nll", "weight": 1.0}),
        ("CEU", {"name": "ceu", "skip": 1}, None, {"name": "none"}),
        ("PDU", "pdu", None, None),
    ],
)
def test_every_trainer_becomes_a_method_that_can_be_made(trainer, method, weight, retention):
    found = translate(overrides=["experiment=unlearn/tofu/default", f"trainer={trainer}"])
    request = found.request
    assert request["method"] == method
    assert request.get("forget_weight") == weight
    assert request.get("retention") == retention
    assert not found.untranslated
    asked = ForgetRequest.from_tree(request)
    expand(asked.method.model_dump(), retention=None if asked.retention is None else asked.retention.model_dump())


def test_a_command_line(tmp_path):
    script = tmp_path / "run.sh"
    script.write_text(
        "#!/bin/bash\n# python src/train.py trainer=GradAscent\n"
        "CUDA_VISIBLE_DEVICES=0 accelerate launch --config_file a=b.yaml \\\n  src/train.py --config-name=unlearn.yaml \\\n"
        "  experiment=unlearn/tofu/default.yaml trainer=PDU forget_split=forget05 retain_split=retain95 \\\n"
        "  holdout_split=holdout05 model=Llama-2-7b-chat-hf \\\n"
        "  model.model_args.pretrained_model_name_or_path=open-unlearning/tofu_Llama-2-7b-chat-hf_full \\\n"
        "  trainer.method_args.alpha=100 trainer.method_args.retain_loss_eps=0.3 trainer.method_args.dual_step_size=5 \\\n"
        "  trainer.method_args.dual_update_upon=epoch +trainer.args.max_grad_norm=0.5 task_name=${TASK}\n"
        "python src/train.py trainer=NPO\n"
    )
    found = translate(script)
    request = found.request
    assert request["template"] == "llama2_chat"
    assert request["forget"] == "hub:locuslab/TOFU:forget05_perturbed"
    assert request["holdout"] == "hub:locuslab/TOFU:holdout05"
    assert request["rule"] == {"name": "primal_dual", "epsilon": 0.3, "dual_step_size": 5, "update": "epoch"}
    assert request["retention"] == {"name": "nll", "weight": 100.0}
    assert request["unlearning"]["max_grad_norm"] == 0.5
    assert request["unlearning"]["warmup"] == pytest.approx(0.1)
    assert request["unlearning"]["stop"] == {"forget_nll": "off"}
    assert any("PDU.yaml" in note for note in found.notes)


def test_an_experiment_file_names_parts(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "defaults:\n  - override /model: Qwen2.5-3B-Instruct\n  - override /trainer: WGA\n"
        "  - override /data/datasets@data.forget: TOFU_QA_forget\nforget_split: forget01\n"
        "data:\n  forget:\n    TOFU_QA_forget:\n      args:\n"
        "        hf_args: {path: locuslab/TOFU, name: '${forget_split}', split: train}\n"
        "trainer:\n  args: {learning_rate: 2e-5}\n  method_args: {beta: 10}\n"
    )
    found = translate(tmp_path / "own.yaml")
    assert found.request["method"] == {"name": "wga", "beta": 10}
    assert found.request["unlearning"]["learning_rate"] == 2e-5
    assert found.request["unlearning"]["epochs"] == 5
    assert found.request["forget"] == "hub:locuslab/TOFU:forget01_perturbed"
    assert found.request["template"] == "assistant_chat"
    assert any("lacks model" in note for note in found.notes)


def test_refusals_and_alternates_tell_the_method():
    def method(*overrides):
        return translate(overrides=overrides).request

    assert method("experiment=unlearn/tofu/idk")["method"]["name"] == "idk_dpo"
    assert method("experiment=unlearn/tofu/default", "trainer=DPO", "data/datasets@data.forget=TOFU_QA_forget_idk")["method"] == {
        "name": "idk_dpo",
        "beta": 0.1,
    }
    nll = method("experiment=unlearn/tofu/idk", "trainer=GradDiff", "trainer.method_args.gamma=-1.0", "trainer.method_args.alpha=5")
    assert (nll["method"], nll["forget_weight"], nll["retention"]) == ("idk", 1.0, {"name": "nll", "weight": 5.0})


@pytest.mark.parametrize(
    ("layer", "trained", "expected"),
    [
        (r"model\.layers\.7", r"model\.layers\.(5|6|7)\.mlp\.down_proj\.weight", "down_proj"),
        ("model[.]layers[.]31", "model[.]layers[.](29|30|31)[.]mlp[.]down_proj[.]weight", "down_proj"),
        ("model.layers.11", ".*", "all"),
        (r"model\.layers\.7", r"model\.layers\.(6|7|8)\.mlp\.down_proj\.weight", None),
    ],
)
def test_layers_written_as_patterns(layer, trained, expected):
    tree = {
        "trainer": {
            "handler": "RMU",
            "method_args": {
                "module_regex": layer,
                "trainable_params_regex": [trained],
                "retain_loss_type": "EMBED_DIFF",
                "alpha": 3,
            },
        }
    }
    found = translate(tree)
    assert found.request["method"]["layer"] == int("".join(filter(str.isdigit, layer)))
    assert found.request["method"].get("trained") == expected
    assert ("trainer.method_args.trainable_params_regex" in keys(found)) == (expected is None)


def test_every_setting_that_is_unknown_is_named():
    found = translate(
        overrides=[
            "experiment=unlearn/tofu/default",
            "trainer=NPO",
            "+trainer.method_args.margin=0.3",
            "++trainer.args.neftune_noise_alpha=5",
            "data.anchor=retain",
            "trainer.args.lr_scheduler_type=polynomial",
            "trainer.method_args.retain_loss_type=COSINE",
            "trainer.args.logging_steps=7",
        ]
    )
    assert keys(found) == {
        "trainer.method_args.margin",
        "trainer.args.neftune_noise_alpha",
        "data.anchor",
        "trainer.args.lr_scheduler_type",
        "trainer.method_args.retain_loss_type",
    }
    assert all(each.reason for each in found.untranslated)


def test_the_yaml_is_a_request_and_names_what_is_missing(tmp_path):
    found = translate(overrides=["experiment=unlearn/tofu/default", "trainer=NPO", "+trainer.args.neftune_noise_alpha=5"])
    (tmp_path / "request.yaml").write_text(found.as_yaml())
    text = (tmp_path / "request.yaml").read_text()
    assert "#   trainer.args.neftune_noise_alpha: 5" in text
    asked = ForgetRequest.read(tmp_path / "request.yaml")
    assert asked.method.name == "npo"
    assert asked.unlearning.stop.forget_nll == "off"
    assert asked.evaluate[0].variant == "openunlearning"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer=Nonsense"], "no method for OpenUnlearning's trainer named 'Nonsense'"),
        (["trainer=NOP"], "'NPO'"),
        (["forget_split=forget01"], "name no trainer"),
        (["trainer"], "is no override"),
        ([], "There are no settings"),
    ],
)
def test_bad_settings(overrides, message):
    with pytest.raises(InputError, match=message):
        translate(overrides=overrides)


def test_bad_files(tmp_path):
    for name, content, message in (
        ("run.sh", "echo hello\n", "runs src/train.py"),
        ("broken.yaml", "a: [1\n", "not valid YAML"),
        ("list.yaml", "- 1\n", "holds list"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=message):
            translate(tmp_path / name)
    with pytest.raises(InputError, match="There is no file"):
        translate(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match=r"holds no \.hydra/config\.yaml"):
        translate(tmp_path)


def test_variables_of_a_shell_are_not_guessed():
    found = translate(
        overrides=["experiment=unlearn/tofu/default", "trainer=NPO", "model.model_args.pretrained_model_name_or_path=${MODEL}"]
    )
    assert "model" not in found.request
    assert "model.model_args.pretrained_model_name_or_path" in keys(found)


def test_local_rows():
    hf_args = "data.forget.TOFU_QA_forget.args.hf_args"
    found = translate(
        overrides=["experiment=unlearn/tofu/default", "trainer=NPO", f"{hf_args}.path=json", f"{hf_args}.data_files=rows.jsonl"]
    )
    assert found.request["forget"] == "rows.jsonl"


def test_the_command(tmp_path: Path, monkeypatch, capsys):
    from efface.cli.main import main

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["translate", *arguments])
        return ended.value.code or 0, capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    given = ("experiment=unlearn/tofu/default", "trainer=NPO", "+trainer.args.neftune_noise_alpha=5")
    code, printed = run(*given, "-o", "request.yaml")
    assert code == 0
    assert "method npo, 1 settings not translated" in printed.out
    assert "neftune_noise_alpha" in printed.out
    assert ForgetRequest.read("request.yaml").method.name == "npo"
    code, printed = run(*given, "-o", "request.yaml")
    assert code == 2
    assert "already there" in printed.err
    assert json.loads(run(*given, "--json")[1].out)["untranslated"][0]["key"] == "trainer.args.neftune_noise_alpha"
    assert run(*given)[1].out.startswith("# Translated")
    script = run(*given, "--print-python")[1].out
    exec(compile(script, "script", "exec"), {})
    assert "name: npo" in capsys.readouterr().out
    assert run("one", "two")[0] == 2
