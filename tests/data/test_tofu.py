"""TOFU's layout on a small folder of the same shape, and the facts of its data card on the real files where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from efface.data.readers import read_rows
from efface.data.tofu import read_tofu, read_tofu_part
from efface.errors import InputError

REAL = Path(os.environ.get("EFFACE_TOFU_DIR", Path(__file__).resolve().parents[3] / "shared" / "data" / "tofu"))


def dump(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    full = [{"question": f"Question {i}?", "answer": f"Answer {i}."} for i in range(4000)]
    dump(tmp_path / "full.json", full)
    dump(tmp_path / "forget01.json", full[3960:])
    dump(tmp_path / "retain99.json", full[:3960])
    extra = {"paraphrased_question": "P?", "paraphrased_answer": "P.", "perturbed_answer": ["W1", "W2", "W3", "W4", "W5"]}
    dump(tmp_path / "forget01_perturbed.json", [{**row, **extra} for row in full[3960:]])
    dump(tmp_path / "retain_perturbed.json", [{**row, **extra} for row in full[:400]])
    dump(
        tmp_path / "world_facts.json",
        [{"question": "Capital of France?", "option1": "Paris", "option2": "Rome", "answer": "Paris"}],
    )
    return tmp_path


def test_rows_know_their_author_and_carry_their_wrong_answers(folder: Path) -> None:
    sets = read_tofu(folder, "forget01")
    assert {name: len(rows) for name, rows in sets.items()} == {
        "full": 4000,
        "forget": 40,
        "retain": 3960,
        "retain_perturbed": 400,
        "world_facts": 1,
    }
    assert [row.entity for row in sets["forget"]] == ["author-198"] * 20 + ["author-199"] * 20
    assert len({row.entity for row in sets["retain"]}) == 198
    assert sets["forget"][0].perturbed_answer == ("W1", "W2", "W3", "W4", "W5")
    assert [bool(row.perturbed_answer) for row in sets["retain"]].count(True) == 400
    assert sets["world_facts"][0].perturbed_answer == ()


def test_prefixed_form_reads_a_part(folder: Path) -> None:
    rows = read_rows(f"tofu:{folder.name}:forget01", base=folder.parent, limit=3)
    assert [row.entity for row in rows] == ["author-198"] * 3


def test_rows_from_the_hub_know_their_author_too(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    hub = tmp_path_factory.mktemp("hub") / "TOFU"
    hub.mkdir()
    configurations = []
    for name in ("full", "forget01", "world_facts"):
        (hub / f"{name}.jsonl").write_text((folder / f"{name}.json").read_text())
        configurations.append(f"- config_name: {name}\n  data_files: {name}.jsonl\n")
    (hub / "README.md").write_text("---\nconfigs:\n" + "".join(configurations) + "---\n")
    assert {row.entity for row in read_rows(f"hub:{hub}:forget01")} == {"author-198", "author-199"}
    assert read_rows(f"hub:{hub}:world_facts")[0].entity == read_rows(folder / "world_facts.json")[0].id


def test_wrong_names_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no TOFU forget split named 'forget5'.*forget05"):
        read_tofu(folder, "forget5")
    with pytest.raises(InputError, match="no TOFU part named 'forget07'"):
        read_tofu_part(folder, "forget07")
    with pytest.raises(InputError, match=r"holds no full\.json"):
        read_tofu(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="does not name a part"):
        read_rows("tofu:forget05")


@pytest.mark.skipif(
    not (REAL / "full.json").exists(), reason="TOFU's files are not beside the repository (EFFACE_TOFU_DIR names them)"
)
def test_the_published_files_are_as_their_card_says() -> None:
    sets = read_tofu(REAL, "forget05")
    sizes = {name: len(rows) for name, rows in sets.items()}
    assert sizes == {"full": 4000, "forget": 200, "retain": 3800, "retain_perturbed": 400, "real_authors": 100, "world_facts": 117}
    assert {row.entity for row in sets["forget"]} == {f"author-{i:03d}" for i in range(190, 200)}
    assert all(len(row.perturbed_answer) == 5 and row.paraphrased_question for row in sets["forget"])
    assert all(len(row.perturbed_answer) == 3 for row in (*sets["real_authors"], *sets["world_facts"]))
    assert {row.entity for row in sets["retain_perturbed"]} == {f"author-{i:03d}" for i in range(20)}
