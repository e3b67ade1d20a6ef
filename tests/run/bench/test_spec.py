"""A suite as YAML: what it says, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from efface.errors import InputError
from efface.request import ForgetRequest
from efface.run.bench import BenchSpec

SMALL = {"model": "embedded:mini", "methods": ["npo"]}


def test_paths_start_from_the_file(tmp_path: Path) -> None:
    suite = {
        "model": ["./a", {"model": "./b", "retrained": "./gold"}],
        "forget": "rows/forget.jsonl",
        "methods": ["npo"],
        "output": "out",
    }
    (tmp_path / "three.yaml").write_text(yaml.safe_dump(suite))
    spec = BenchSpec.read(tmp_path / "three.yaml", ["seeds=[4]", "unlearning.epochs=2"])
    assert [entry.model for entry in spec.model] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert spec.model[1].retrained == str(tmp_path / "gold")
    assert spec.forget == str(tmp_path / "rows" / "forget.jsonl")
    assert spec.folder == tmp_path / "out"
    assert spec.name == "three"
    assert spec.seeds[0].unlearning == 4
    assert spec.unlearning.epochs == 2


def test_references_of_a_single_model_may_stand_beside_it(tmp_path: Path) -> None:
    spec = BenchSpec.from_tree({"model": str(tmp_path), "retrained": str(tmp_path / "r"), "forget": "f.jsonl", "methods": ["npo"]})
    assert spec.model[0].retrained == str(tmp_path / "r")


def test_a_seed_leaves_the_evaluation_alone() -> None:
    spec = BenchSpec.from_tree({**SMALL, "seeds": [3, {"unlearning": 5}]})
    assert spec.seeds[0].model_dump() == {"data": 3, "training": 3, "unlearning": 3, "evaluation": 0, "attack": 0}
    assert spec.seeds[1].data == 0


def test_grid_and_settings_become_requests() -> None:
    methods = ["npo", {"name": "grad_diff", "label": "GD", "forget_weight": 0.2, "unlearning": {"epochs": 2}}]
    grid = {"npo": {"beta": [0.05, 0.1], "unlearning.learning_rate": [1e-3]}, "GD": {"retention.weight": [1, 2]}}
    spec = BenchSpec.from_tree({**SMALL, "methods": methods, "grid": grid, "unlearning": {"epochs": 7, "batch_size": 4}})
    variants = spec.variants()
    assert [variant.label for variant in variants] == [
        "npo beta=0.05 learning_rate=0.001",
        "npo beta=0.1 learning_rate=0.001",
        "GD weight=1",
        "GD weight=2",
    ]
    requests = [ForgetRequest(**spec.request(spec.model[0], variant, spec.seeds[0])) for variant in variants[1:3]]
    assert requests[0].method is not None
    assert requests[0].method.settings == {"beta": 0.1}
    assert requests[0].unlearning.given() == {"epochs": 7, "batch_size": 4, "learning_rate": 1e-3, "stop": {}}
    assert requests[1].forget_weight == 0.2
    assert requests[1].unlearning.epochs == 2  # the line's own wins over the suite's
    assert requests[1].unlearning.batch_size == 4
    assert requests[1].retention is not None
    assert (requests[1].retention.name, requests[1].retention.weight) == ("nll", 1)  # the preset's own term


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metod": ["npo"]}, "did you mean 'methods'"),
        ({"unlearning": {"epcohs": 1}}, "did you mean 'epochs'"),
        ({"model": [{"model": "embedded", "retraind": "x"}]}, "did you mean 'retrained'"),
        ({"methods": []}, "at least 1 item"),
        ({"model": "./somewhere"}, "forget: missing"),
        ({"axes": ["scal"]}, "'scalability' or 'sustainability'"),
        ({"executor": "cloud"}, "'local' or 'ray'"),
    ],
)
def test_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BenchSpec.from_tree({**SMALL, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"nop": {"beta": [1]}}}, "Did you mean 'npo'"),
        ({"methods": ["npo", {"name": "npo", "beta": 0.2}]}, "Several methods are called npo"),
    ],
)
def test_refuses_lines_it_cannot_tell_apart(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BenchSpec.from_tree({**SMALL, **changes}).variants()


def test_the_example_of_the_docs_is_a_suite() -> None:
    spec = BenchSpec.read(Path(__file__).resolve().parents[3] / "docs" / "examples" / "bench-mini.yaml")
    assert [variant.label for variant in spec.variants()] == ["npo", "grad_diff", "grun_npo"]
    assert len(spec.seeds) == 2
