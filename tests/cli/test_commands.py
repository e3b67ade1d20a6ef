"""Every command once, on real files and a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_methods_lists_and_explains(efface) -> None:
    listed = efface("methods")
    assert listed.code == 0
    assert {"npo", "ga", "flat_tv"} <= {line.split("\t")[0] for line in listed.out.splitlines()}
    shown = efface("methods", "npo", "--json")
    found = json.loads(shown.out)
    assert found["expansion"]["objective"] == {"name": "npo", "beta": 0.1}
    assert found["intention"] == "removal"
    assert found["paper"]["arxiv"] == "2404.05868"
    assert {"level", "approach", "needs"} <= found.keys()
    assert "intention: removal" in efface("methods", "npo").out
    assert json.loads(efface("methods", "--json").out)[0]["name"] == "ga"


def test_methods_say_what_can_run_without_something(efface) -> None:
    shown = efface("methods", "--without", "retain_set").out
    assert "npo\twith retention none\tretain_set" in shown.splitlines()
    assert shown.index("neighbours:FILE:") < shown.index("generic:") < shown.index("sampled:")
    found = json.loads(efface("methods", "--without", "retain_set", "--without", "alternate_answers", "--json").out)
    assert {each["name"]: each["runs"] for each in found["methods"]}["dpo"] == "no"
    assert [each["kind"] for each in found["stand_ins"]] == ["neighbours", "generic", "sampled"]
    refused = efface("methods", "--without", "retain")
    assert refused.code == 2
    assert "'retain_set'" in refused.err


def test_metrics_lists_and_explains(efface) -> None:
    assert any(line.startswith("forget_quality\t") for line in efface("metrics").out.splitlines())
    assert json.loads(efface("metrics", "rouge", "--json").out)["name"] == "rouge"
    assert "definition: " in efface("metrics", "truth_ratio").out


def test_cache_lists_and_clears(efface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFACE_CACHE_DIR", str(tmp_path))
    for kind, size in (("models", 2_000_000), ("rows", 1_000_000)):
        (tmp_path / kind / "abc").mkdir(parents=True)
        (tmp_path / kind / "abc" / "data").write_bytes(bytes(size))
    (tmp_path / "models" / ".lock").mkdir()
    assert "models\tabc\t2.0" in efface("cache", "ls").out
    listed = json.loads(efface("cache", "ls", "--json").out)
    assert [(entry["kind"], entry["bytes"]) for entry in listed["entries"]] == [("models", 2_000_000), ("rows", 1_000_000)]
    assert "Removed 1 entries, 1.0 MB" in efface("cache", "clear", "rows").out
    assert (tmp_path / "models" / "abc").is_dir()
    assert json.loads(efface("cache", "clear", "--json").out) == {"removed": 1, "bytes": 2_000_000}
    assert "0 entries" in efface("cache", "ls").out


def test_run_leaves_a_report_and_continues(efface, folder: Path) -> None:
    first = efface("run", "request.yaml", "--json")
    assert first.code == 0, first.err
    found = json.loads(first.out)
    assert Path(found["report"]).is_file()
    assert found["facts"]["steps_executed"] == 2
    assert 0 <= found["metrics"]["unlearned"]["forget_probability"] <= 1
    again = json.loads(efface("run", "request.yaml", "--json").out)
    assert again["facts"]["steps_executed"] == 0
    assert again["weights_hash"] == found["weights_hash"]
    assert again["metrics"] == found["metrics"]
    other = efface("run", "request.yaml", "--seed", "5")
    assert other.code == 2
    assert "belongs to another request" in other.err
    assert efface("run", "request.yaml", "--seed", "5", "--overwrite").out.strip().endswith("report.html")


def test_several_requests_run_in_turn(efface, folder: Path) -> None:
    first = (folder / "request.yaml").read_text().replace("output: out\n", "evaluate: none\n")
    (folder / "request.yaml").write_text(first)
    rest = (folder / "retain.jsonl").read_text().splitlines(keepends=True)
    (folder / "forget-2.jsonl").write_text(rest[0])
    (folder / "retain-2.jsonl").write_text("".join(rest[1:]))
    again = first.replace("forget.jsonl", "forget-2.jsonl").replace("retain.jsonl", "retain-2.jsonl")
    (folder / "then.yaml").write_text(again)
    ran = efface("run", "request.yaml", "then.yaml", "--output", "both", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    lineage = json.loads((Path(found[1]["folder"]) / "model" / "efface.json").read_text())["lineage"]
    assert [entry["forget"]["rows"] for entry in lineage] == [3, 1]
    script = efface("run", "request.yaml", "then.yaml", "--print-python").out
    assert "execute_in_turn(requests, output=None, overwrite=False)" in script
    compile(script, "script", "exec")


def test_axes_draw_a_curve(efface, folder: Path) -> None:
    ran = efface("axes", "request.yaml", "--output", "curve")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "fold\trows\tforget_verbmem\tforget_knowmem\tmuse_privleak\tretain_knowmem"
    assert [line.split("\t")[:2] for line in lines[1:3]] == [["1", "1"], ["2", "3"]]
    assert lines[1].split("\t")[2] == "n/a"
    assert (folder / "curve" / "scalability.svg").is_file()
    found = json.loads(efface("axes", "request.yaml", "--output", "curve", "--json").out)
    assert found["points"][0]["report"] == "scalability/1-scalability-1/report.html"
    assert all((folder / "curve" / point["report"]).is_file() for point in found["points"])
    script = efface("axes", "request.yaml", "--axis", "sustainability", "--seed", "1", "--print-python").out
    assert "run_axes(request, 'sustainability', output='axes', overwrite=False)" in script
    compile(script, "script", "exec")
    refused = efface("axes", "request.yaml", "--set", "evaluate=[{suite: muse, options: {korpus: news}}]")
    assert refused.code == 2
    assert "'corpus'" in refused.err


def test_stages_alone(efface, folder: Path, model: Path) -> None:
    data = ("--forget", "forget.jsonl", "--retain", "retain.jsonl")
    made = efface(
        "unlearn", "--model", model, *data, "--method", "grad_diff", "--set", "unlearning.max_steps=1", "-o", "made", "--json"
    )
    assert made.code == 0, made.err
    assert json.loads(made.out)["steps"] == 1
    assert (folder / "made" / "efface.json").is_file()
    measured = efface("evaluate", "made", *data, "--retrained", model, "--json", "--output", "figures.json")
    assert measured.code == 0, measured.err
    found = json.loads(measured.out)["metrics"]
    assert found["forget_quality"]["value"] is not None
    assert "per_item" not in found["forget_probability"]
    assert len(json.loads((folder / "figures.json").read_text())["metrics"]["forget_probability"]["per_item"]) == 3
    table = efface("evaluate", "made", *data).out.splitlines()
    assert table[0] == "metric\tmodel"
    assert any(line.startswith("forget_fact_accuracy\t") for line in table)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "request.yaml", "--set", "method.beta=0.2", "--seed", "3"),
        ("unlearn", "--model", "MODEL", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "--set", "unlearning.max_steps=1"),
        ("evaluate", "MODEL", "--forget", "forget.jsonl"),
    ],
)
def test_print_python_prints_a_script_that_runs(efface, folder: Path, model: Path, arguments: tuple[str, ...], capsys) -> None:
    printed = efface(*(str(model) if argument == "MODEL" else argument for argument in arguments), "--print-python")
    assert printed.code == 0
    assert not (folder / "out").exists()
    exec(compile(printed.out, "script", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_print_python_of_demo(efface) -> None:
    script = efface("demo", "--method", "simnpo", "--print-python").out
    assert "efface.ForgetRequest.from_tree({'model': 'embedded', 'method': 'simnpo'}" in script
    compile(script, "script", "exec")


def test_version_and_help(efface) -> None:
    from efface import __version__

    assert efface("--version").out == f"efface {__version__}\n"
    shown = efface("--help").out
    for command in ("demo", "run", "unlearn", "evaluate", "bench", "compare", "world", "methods", "metrics", "cache"):
        assert f"  {command} " in shown


def test_world_writes_rows_and_refuses_what_is_there(efface, folder: Path) -> None:
    written = efface("world", "--corpus", "mini", "--out", "world", "--json")
    assert written.code == 0, written.err
    assert "models" not in json.loads(written.out)
    rows = [json.loads(line) for line in (folder / "world" / "forget.jsonl").read_text().splitlines()]
    assert all(row["question"] and row["answer"] and row["value"] and row["entity"] for row in rows)
    other = efface("world", "--corpus", "mini", "--seed", "1", "--out", "world")
    assert other.code == 2
    assert "already holds another world" in other.err
    assert efface("world", "--corpus", "nowhere", "--out", "x").code == 2
    assert efface("world", "--corpus", f"tofu:{folder}", "--out", "x").code == 2


def test_world_builds_models_that_a_request_can_name(efface, folder: Path) -> None:
    built = efface("world", "--corpus", "mini", "--models", "models", "--out", "rows", "--json")
    assert built.code == 0, built.err
    assert json.loads(built.out)["models"] == {"original": "models/original", "retrained": "models/retrained"}
    assert "already there" in efface("world", "--corpus", "mini", "--models", "models").err
    data = ("--forget", "rows/forget.jsonl", "--retain", "rows/retain.jsonl")
    measured = efface("evaluate", "models/original", *data, "--retrained", "models/retrained", "--json")
    found = json.loads(measured.out)["metrics"]
    retrained = json.loads(efface("evaluate", "models/retrained", *data, "--json").out)["metrics"]
    assert found["forget_fact_accuracy"]["value"] > retrained["forget_fact_accuracy"]["value"] + 0.3
    assert found["forget_quality"]["value"] < 0.05


def test_print_python_of_world(efface) -> None:
    script = efface("world", "--corpus", "tofu:data", "--models", "m", "--retrained", "2", "--print-python").out
    assert "Recipe.tofu('data', authors=40, forget='forget05', seed=0)" in script
    compile(script, "script", "exec")
