"""The figures of a table on numbers computed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from efface.results import Interval, Metric, Results
from efface.run.bench.entrants import Line, Measured
from efface.run.bench.figures import distance, distance_names, figure_of, has_rows, paired_tests

FACTS, KEPT = "forget_fact_accuracy", "retain_fact_accuracy"


def metric(name: str, values: Sequence[float | None], value: float | None = None) -> Metric:
    valid = [v for v in values if v is not None]
    mean = sum(valid) / len(valid) if value is None else value
    ids = tuple(f"row{i}" for i in range(len(values)))
    return Metric(name, mean, "lower", per_item=tuple(values), item_ids=ids, n=len(valid))


def measured(*metrics: Metric, rows: str = "a") -> Measured:
    entities = {name: {f"row{i}": i // 2 for i in range(40)} for name in ("forget", "retain")}
    results = Results("unlearned", "auto", {m.name: m for m in metrics})
    return Measured(results, entities, {"forget": f"{rows}-forget", "retain": f"{rows}-retain"})


def line(label: str, *seeds: Measured, is_reference: bool = False) -> Line:
    return Line(label, "m", is_reference, {str(i): each for i, each in enumerate(seeds)})


def test_mean_over_seeds_with_a_hierarchical_interval() -> None:
    found = figure_of(line("x", measured(metric(FACTS, [0, 1] * 20)), measured(metric(FACTS, [1] * 40), rows="b")), FACTS)
    assert found.value == pytest.approx(0.75)
    assert found.span == (0.5, 1.0)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (0.5, 1.0)  # every entity has one row of each: only seeds vary
    assert found.interval.n_entities == 20


def test_a_model_given_for_all_seeds_counts_once() -> None:
    one = measured(metric(FACTS, [0, 1] * 20))
    assert figure_of(line("x", one, one), FACTS).n_seeds == 1


def test_a_figure_that_one_seed_lacks_is_not_available() -> None:
    missing = Metric(FACTS, None, "lower", reason="no values")
    found = figure_of(line("x", measured(metric(FACTS, [1, 0])), measured(missing)), FACTS)
    assert found.value is None
    assert found.reason == "no values"
    assert figure_of(Line("x", "m", False, {}), FACTS).reason == "no run is done"


def test_a_figure_that_is_no_mean_of_its_rows_has_the_range_of_its_seeds() -> None:
    attack = [Metric("mia_min_k", auc, "reference", per_item=(3.0, 4.0), item_ids=("row0", "row1")) for auc in (0.6, 0.8)]
    found = figure_of(line("x", *(measured(each) for each in attack)), "mia_min_k")
    assert found.value == pytest.approx(0.7)
    assert found.interval is None
    assert found.span == (0.6, 0.8)
    alone = Metric("privleak", -40.0, "zero", interval=Interval(-50, -30))
    assert figure_of(line("x", measured(alone)), "privleak").interval == Interval(-50, -30)


def test_a_p_value_is_shown_as_its_logarithm_and_has_no_interval() -> None:
    test = Metric("forget_quality", 0.0, "higher", details={"log10_p": -400.0, "ks_d": 1.0}, interval=Interval(0, 1))
    found = figure_of(line("x", measured(test)), "forget_quality")
    assert found.value == -400.0
    assert found.interval is None


def test_a_utility_gets_an_interval_from_its_parts() -> None:
    parts = [metric(KEPT, [1, 1, 0, 0] * 10), metric("retain_probability", [0.5] * 40)]
    utility = Metric("world_utility", 0.5, "higher", details={part.name: part.value for part in parts})
    found = figure_of(line("x", measured(*parts, utility)), "world_utility")
    assert found.interval is not None
    assert found.interval.low < 0.5 < found.interval.high
    # One part is constant: the other's share p of entities gives 2 / (1/p + 1/0.5), so that half of them gives 0.5 itself.
    assert found.interval.low > 2 / (1 / 0.2 + 2)


def test_distance_is_a_mean_of_absolute_differences() -> None:
    retrained = line("retrained", measured(metric(FACTS, [0, 0]), metric(KEPT, [1, 1])), is_reference=True)
    near = line("near", measured(metric(FACTS, [1, 0]), metric(KEPT, [1, 0])))
    names = distance_names([retrained, near], [FACTS, KEPT, "forget_nll"])
    assert names == [FACTS, KEPT]
    assert distance(near, retrained, names).value == pytest.approx(0.5)
    assert distance(retrained, retrained, names).value == 0.0
    assert distance(near, None, names).reason == "no retrained model"


def test_pairs_by_row_and_entity_and_corrects_over_pairs() -> None:
    low, high = metric(FACTS, [0.0] * 8), metric(FACTS, [1.0] * 8)
    a, b, c = line("a", measured(low)), line("b", measured(high)), line("c", measured(low))
    ab, ac = paired_tests([(a, b), (a, c)], FACTS)
    assert ab.difference == 1.0
    assert ab.n_entities == 4
    assert ab.log10_p == pytest.approx(math.log10(2 / 2**4))
    assert ab.log10_floor == ab.log10_p
    assert ab.log10_p_holm == pytest.approx(math.log10(2 * 2 / 2**4))
    assert ac.difference == 0.0
    assert ac.log10_p == ac.log10_p_holm == 0.0


def test_rows_that_one_model_lacks_are_left_out_of_the_pair() -> None:
    a, b = line("a", measured(metric(FACTS, [0, None, 1, 1]))), line("b", measured(metric(FACTS, [1, 1, 1, 1])))
    (test,) = paired_tests([(a, b)], FACTS)
    assert test.n_rows == 3
    assert test.difference == pytest.approx(1 / 3)


def test_says_why_two_lines_are_not_compared() -> None:
    (test,) = paired_tests([(line("a", measured(metric(FACTS, [1]))), Line("b", "m", False, {}))], FACTS)
    assert test.difference is None
    assert test.reason == "b: no run is done"
    assert not has_rows([line("a", measured(Metric(FACTS, 0.5, "lower")))], FACTS)
