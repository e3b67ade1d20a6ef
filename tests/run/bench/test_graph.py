"""What a suite comes to: every piece of work once."""

from __future__ import annotations

from collections import Counter

import pytest

from efface.errors import InputError, MissingNeed
from efface.run.bench import BenchSpec, plan_bench

MINI = {"model": "embedded:mini", "methods": ["npo", "ga"], "seeds": [0, 1]}


def kinds(**changes: object) -> Counter[str]:
    return Counter(node.kind for node in plan_bench(BenchSpec.from_tree({**MINI, **changes})).nodes.values())


def test_every_world_and_reference_once_per_seed() -> None:
    assert kinds() == {"models": 2, "reference": 4, "run": 4}
    assert kinds(references=["original", "retrained", "retrained_2"])["reference"] == 6
    assert kinds(references=["retrained"])["reference"] == 2
    # One world, two unlearning seeds: its models are built and measured once.
    assert kinds(seeds=[{"unlearning": 0}, {"unlearning": 1}]) == {"models": 1, "reference": 2, "run": 4}


def test_references_of_given_models_serve_all_seeds(tree) -> None:
    plan = plan_bench(BenchSpec.from_tree(tree()))
    assert Counter(node.kind for node in plan.nodes.values()) == {"reference": 2, "run": 4}
    retrained = next(node for node in plan.nodes.values() if node.label.startswith("retrained"))
    assert all(retrained.key in node.needs for node in plan.nodes.values() if node is not retrained)


def test_needs_come_first() -> None:
    seen: set[str] = set()
    for key, node in plan_bench(BenchSpec.from_tree(MINI)).nodes.items():
        assert set(node.needs) <= seen
        seen.add(key)


def test_a_key_changes_with_what_decides_the_outcome_and_with_nothing_else() -> None:
    def runs(**changes: object) -> dict[str, str]:
        plan = plan_bench(BenchSpec.from_tree({**MINI, **changes}))
        return {node.label: key for key, node in plan.nodes.items() if node.kind == "run"}

    base = runs()
    assert runs(name="other", output="elsewhere", jobs=3, threads=2) == base
    assert runs(methods=["npo", "ga", "simnpo"]).items() >= base.items()
    assert base.keys() == runs(unlearning={"epochs": 3}).keys()
    assert not set(base.values()) & set(runs(unlearning={"epochs": 3}).values())
    longer = runs(methods=["npo", {"name": "ga", "forget_weight": 0.5}])
    assert longer["npo, seed 0"] == base["npo, seed 0"]
    assert longer["ga, seed 0"] != base["ga, seed 0"]


def test_a_key_changes_with_the_rows(tree, tmp_path, site) -> None:
    rows = (site / "forget.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "fewer.jsonl").write_text("".join(rows[:-1]))
    before, after = (
        set(plan_bench(BenchSpec.from_tree(tree(forget=str(place)))).nodes)
        for place in (site / "forget.jsonl", tmp_path / "fewer.jsonl")
    )
    assert not before & after


def test_names_the_run_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"^npoo on embedded:mini: .*Did you mean 'npo'"):
        plan_bench(BenchSpec.from_tree({**MINI, "methods": ["ga", "npoo"]}))
    with pytest.raises(InputError, match="did you mean 'beta'"):
        plan_bench(BenchSpec.from_tree({**MINI, "methods": [{"name": "npo", "btea": 1}]}))


def test_a_missing_need_is_found_before_anything_runs(tree) -> None:
    with pytest.raises(MissingNeed, match=r"^npo on original: "):
        plan_bench(BenchSpec.from_tree(tree(retain=None)))


def test_refuses_a_reference_that_is_not_there(tree) -> None:
    with pytest.raises(InputError, match="has none"):
        plan_bench(BenchSpec.from_tree(tree(references=["retrained_2"])))


def test_refuses_seeds_and_models_it_cannot_tell_apart(tree) -> None:
    with pytest.raises(InputError, match="not all different"):
        plan_bench(BenchSpec.from_tree({**MINI, "seeds": [1, 1]}))
    with pytest.raises(InputError, match="Several models are called"):
        plan_bench(BenchSpec.from_tree({**MINI, "model": ["embedded:mini", "embedded:mini"]}))
