"""Measured rows on disk."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest

from efface.data.items import TokenRow
from efface.evals.rows import RowCache

FIELDS = ("targets", "logp", "rank", "mean", "var", "hit")


def make(n: int, *, text: str = "ein Tëxt", seed: int = 0) -> TokenRow:
    draw = np.random.default_rng(seed)
    return TokenRow(
        targets=draw.integers(0, 1 << 40, n),
        logp=draw.normal(size=n).astype(np.float32),
        rank=draw.integers(0, 99, n).astype(np.int32),
        mean=draw.normal(size=n).astype(np.float32),
        var=draw.normal(size=n).astype(np.float32),
        hit=draw.random(n) < 0.5,
        ends_in_eos=n > 1,
        text=text,
    )


def same(left: TokenRow, right: TokenRow) -> bool:
    arrays = all(np.array_equal(getattr(left, name), getattr(right, name), equal_nan=name != "hit") for name in FIELDS)
    types = all(getattr(left, name).dtype == getattr(right, name).dtype for name in FIELDS)
    return arrays and types and (left.ends_in_eos, left.text) == (right.ends_in_eos, right.text)


def test_rows_and_texts_come_back_as_they_were(tmp_path):
    cache = RowCache(tmp_path, "model-a", {"k": 1})
    rows = {"a": make(3), "b": make(0, text=""), "c": make(1, seed=2)}
    rows["a"].logp[1] = np.nan
    cache.write_scores(rows)
    cache.write_scores({"d": make(2, seed=5)})
    cache.write_texts({"a": "über", "b": ""})
    again = RowCache(tmp_path, "model-a", {"k": 1})
    found = again.read_scores()
    assert set(found) == {"a", "b", "c", "d"}
    assert all(same(found[key], row) for key, row in rows.items())
    assert again.read_texts() == {"a": "über", "b": ""}
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("other", [("model-b", {"k": 1}), ("model-a", {"k": 2}), ("model-a", None)])
def test_rows_of_another_model_or_other_settings_are_not_seen(tmp_path, other):
    RowCache(tmp_path, "model-a", {"k": 1}).write_texts({"a": "x"})
    assert RowCache(tmp_path, *other).read_texts() == {}


def test_rows_copied_into_another_models_folder_are_refused(tmp_path, caplog):
    source, target = RowCache(tmp_path, "model-a"), RowCache(tmp_path, "model-b")
    source.write_texts({"a": "x"})
    shutil.copytree(source.directory, target.directory)
    with caplog.at_level(logging.WARNING):
        assert target.read_texts() == {}
    assert "another model" in caplog.text
    assert source.read_texts() == {"a": "x"}


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty"])
def test_a_damaged_file_is_dropped_and_only_its_items_are_lost(tmp_path, caplog, damage):
    cache = RowCache(tmp_path, "model-a")
    cache.write_texts({"a": "x"})
    cache.write_texts({"b": "y"})
    victim = next(path for path in cache.directory.iterdir() if set(cache._load(path)["item"].to_pylist()) == {"a"})
    content = victim.read_bytes()
    victim.write_bytes({"truncate": content[: len(content) // 2], "garbage": b"\0" * len(content), "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert cache.read_texts() == {"b": "y"}
    assert "measured again" in caplog.text
    assert not victim.exists()
    cache.write_texts({"a": "x"})
    assert cache.read_texts() == {"a": "x", "b": "y"}


def test_a_left_over_partial_file_is_ignored(tmp_path):
    cache = RowCache(tmp_path, "model-a")
    cache.write_texts({"a": "x"})
    (cache.directory / "texts-half.123.part").write_bytes(b"PAR1")
    assert cache.read_texts() == {"a": "x"}
