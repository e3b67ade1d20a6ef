"""What callers have, as rows of (x, y)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from efface.data.net_sets import ArrayRows, Part, as_rows, collate, image_folder, labels_of
from efface.errors import InputError


def test_arrays_tensors_and_frames_give_the_same_rows():
    x, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "label": y})
    for rows in (as_rows((x, y)), as_rows(torch.tensor(x), torch.tensor(y)), as_rows(frame, target="label"), as_rows(x, list(y))):
        assert len(rows) == 3
        assert torch.equal(rows.x, torch.tensor(x, dtype=torch.float32))
        assert rows.y.tolist() == [0, 1, 0]
        assert rows.y.dtype == torch.int64


def test_mappings_keep_their_keys_and_rows_without_labels_have_none():
    rows = as_rows({"ids": np.arange(4), "mask": np.ones(4)})
    x, y = rows[2]
    assert y is None
    assert set(x) == {"ids", "mask"}
    assert x["ids"] == 2
    assert labels_of(rows) is None


def test_data_sets_and_ordered_loaders_pass_through():
    data = TensorDataset(torch.zeros(4, 1), torch.zeros(4))
    assert as_rows(data) is data
    assert as_rows(DataLoader(data, batch_size=2)) is data


def test_parts_keep_their_order():
    rows = ArrayRows(torch.arange(5.0), torch.arange(5))
    part = Part(rows, np.array([4, 1]))
    assert [int(y) for _, y in (part[0], part[1])] == [4, 1]
    assert labels_of(part).tolist() == [4, 1]


def test_collate_stacks_and_keeps_missing_labels_missing():
    x, y = collate([(torch.zeros(2), None), (torch.ones(2), None)])
    assert x.shape == (2, 2)
    assert y is None
    assert collate([(torch.zeros(1), 3), (torch.zeros(1), 5)])[1].tolist() == [3, 5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_rows(None), "nothing in the data"),
        (lambda: as_rows((np.zeros((3, 1)), np.zeros(2))), "3 inputs and 2 labels"),
        (lambda: as_rows((np.array([[1.0], [np.nan]]), np.zeros(2))), "NaN or infinite"),
        (lambda: as_rows((np.zeros((2, 1)), np.array([0.0, np.inf]))), "the labels of the data"),
        (lambda: as_rows({"a": np.zeros(2), "b": np.zeros(3)}), "equally long"),
        (lambda: as_rows(iter([1, 2])), "no order to count rows in"),
        (lambda: as_rows(DataLoader(TensorDataset(torch.zeros(4, 1)), shuffle=True)), "another order each time"),
        (lambda: as_rows(pd.DataFrame({"a": ["x"], "y": [1]}), target="y"), "not numbers: a"),
        (lambda: as_rows(pd.DataFrame({"a": [1.0]}), target="z"), "no column 'z'"),
        (lambda: collate([(torch.zeros(2), 1), (torch.zeros(3), 1)]), "cannot be put into a batch"),
        (lambda: collate([(torch.zeros(2), 1), (torch.zeros(2), None)]), "1 of 2 rows have no label"),
    ],
)
def test_bad_data_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("cat/a.png", 255), ("cat/b.png", 0), ("dog/c.png", 51)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (colour, 0, 0)).save(path)
    return tmp_path


def test_image_folder_of_classes(folder):
    rows, names = image_folder(folder, size=(4, 5))
    assert names == ("cat", "dog")
    assert rows.x.shape == (3, 3, 4, 5)
    assert rows.y.tolist() == [0, 0, 1]
    assert float(rows.x[2, 0].mean()) == pytest.approx(0.2)


def test_image_folder_of_numbers(folder):
    ages = folder / "ages.csv"
    ages.write_text("file,target\ncat/a.png,30\ncat/b.png,40.5\ndog/c.png,7\n", encoding="utf-8")
    rows, names = image_folder(folder, size=(4, 6), target=str(ages), grey=True)
    assert names == ()
    assert rows.x.shape == (3, 1, 4, 6)
    assert rows.y.tolist() == [30.0, 40.5, 7.0]
    by_name, _ = image_folder(folder, size=(4, 6), target=lambda path: len(path.stem))
    assert by_name.y.tolist() == [1.0, 1.0, 1.0]


def test_image_folder_errors(folder, tmp_path):
    (folder / "dog" / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png cannot be read"):
        image_folder(folder, size=(4, 4))
    (folder / "dog" / "broken.png").unlink()
    ages = folder / "ages.csv"
    ages.write_text("file,target\ncat/a.png,30\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no target for cat/b\.png"):
        image_folder(folder, size=(4, 4), target=str(ages))
    with pytest.raises(InputError, match="no image in"):
        image_folder(tmp_path / "nowhere", size=(4, 4))
