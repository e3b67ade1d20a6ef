"""A folder of works as passages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.data.readers import is_place_name, read_rows
from efface.data.texts import LEAST_WORDS, cut_windows, read_texts
from efface.errors import InputError
from efface.request import ForgetRequest


@pytest.fixture
def works(tmp_path):
    folder = tmp_path / "works"
    (folder / "poems").mkdir(parents=True)
    (folder / "novel.txt").write_text(" ".join(f"word{i}" for i in range(70)), encoding="utf-8")
    (folder / "poems" / "sea.md").write_text("The sea,\n  the sea!\n" * 5, encoding="utf-8")
    (folder / "short.txt").write_text("Too short.", encoding="utf-8")
    (folder / "cover.png").write_bytes(b"\x89PNG")
    return folder


def test_every_file_is_a_work_cut_into_windows(works):
    rows = read_rows(f"texts:{works}:30")
    assert [(row.id, row.entity) for row in rows] == [
        ("novel-0000", "novel"),
        ("novel-0001", "novel"),
        ("poems/sea-0000", "poems/sea"),
    ]
    assert rows[0].text == " ".join(f"word{i}" for i in range(30))
    assert rows[1].text.endswith("word69")  # what is left over is under half a window
    assert rows[2].text.startswith("The sea,\n  the sea!")
    assert read_rows(f"texts:{works}:30").content_hash == rows.content_hash
    assert len(read_rows(f"texts:{works}", limit=1)) == 1


@given(st.text(alphabet="ab \n\u5317", max_size=400), st.integers(LEAST_WORDS, 40))
def test_windows_lose_nothing_but_the_blanks_between_them(text, size):
    windows = cut_windows(text, size)
    if windows:
        assert "".join("".join(windows).split()) == "".join(text.split())


def test_scripts_without_blanks_are_cut_by_character():
    assert [len(window) for window in cut_windows("\u5317" * 99, 40)] == [40, 59]


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "no folder"), ("works:5", "at least"), ("empty", "no text file"), ("bad", "UTF-8")]
)
def test_bad_folders_are_named(works, tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=said):
        read_rows(f"texts:{tmp_path / name}")
    with pytest.raises(InputError, match="names no folder"):
        read_rows("texts:")


def test_a_folder_of_stubs_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("Short.", encoding="utf-8")
    with pytest.raises(InputError, match="all of under"):
        read_texts(tmp_path)


def test_a_request_finds_the_folder_from_its_own_place(works, tmp_path):
    assert is_place_name("texts:works")
    path = tmp_path / "request.yaml"
    path.write_text("model: somewhere/model\nforget: texts:works:30\n", encoding="utf-8")
    assert ForgetRequest.read(path).forget == f"texts:{works}:30"
