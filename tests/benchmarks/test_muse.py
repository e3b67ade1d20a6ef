"""The page of benchmarks.muse, from figures made up here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.muse import AXES, BARE, COPIED, CRITERIA, FACTS, IN_A_ROW, METHODS, draw, page
from efface.methods.presets import PRESETS
from efface.results import Metric


def metric(name: str, value: float) -> dict[str, object]:
    return Metric(name, value, "lower", per_item=(value, value), item_ids=("a", "b")).as_dict()


def record(value: float) -> dict[str, object]:
    metrics = {name: metric(name, -50.0 if name == "muse_privleak" else value) for name in (*CRITERIA, *FACTS)}
    bare = {name: figure for name, figure in metrics.items() if name != "muse_privleak"}
    bare["muse_privleak"] = Metric("muse_privleak", None, "zero").as_dict()
    slope = {"value": -0.05, "details": {"worst_step": -0.1, "worst_step_to_fold": 2.0}}
    points = [{"fold": n, "rows": n, "entities": n, "results": {"unlearned": {"metrics": metrics}}} for n in (1, 2)]
    return {
        "whole": {role: {"metrics": bare if role == "retrained" else metrics} for role in (*BARE, "unlearned")},
        "copyright": {role: {"metrics": {name: metric(name, 2 * value) for name in COPIED}} for role in (*BARE, "unlearned")},
        "axes": {axis: {"slope": slope, "points": points} for axis in AXES},
        "entities": {"a": "p1", "b": "p2"},
        "seconds": 1.0,
    }


def test_page_and_plot(tmp_path: Path) -> None:
    records = {"npo": [record(0.4), record(0.6)], "ga": [record(0.0), record(0.2)]}
    text = page(records, {axis: f"muse-{axis}.svg" for axis in AXES})
    assert "| NPO + GDR (`npo`) | 0.50 [0.40, 0.60] | 0.50 [0.40, 0.60] | -50 (-50 to -50) |" in text
    assert "| retrained | 0.50 [0.40, 0.60] | 0.50 [0.40, 0.60] | 0 (by definition) |" in text
    assert "-5.0 % (-5.0 to -5.0); worst -0.10, to fold 2" in text
    assert "what the data owner asks" in text
    assert "| ga | 0.10 / 0.10 / -50 / 0.10 | 0.10 / 0.10 / -50 / 0.10 |" in text
    copied = text[text.index("## Copyright suite") :]
    assert "| NPO + GDR (`npo`) | 1.00 [0.80, 1.20] |" in copied
    for name in ("a.svg", "b.svg"):
        draw(records, "scalability", tmp_path / name)
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_every_method_of_the_table_is_there() -> None:
    assert set(METHODS) <= set(PRESETS)
    assert len(METHODS) == 11


def test_requests_in_a_row_are_made_by_methods_that_leave_weights() -> None:
    assert set(IN_A_ROW.values()) <= set(PRESETS)
    assert IN_A_ROW.get("whos_harry_potter") == "whos_harry_potter_distilled"
    assert IN_A_ROW.get("npo", "npo") == "npo"
