"""What callers have, as rows of (x, y)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from efface.data.image_folder import image_folder
from efface.data.net_batches import label_tensor, rows_not_finite
from efface.data.net_sets import ArrayRows, Part, as_rows, collate, labels_of
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


class Endless(IterableDataset):
    def __iter__(self):
        yield from range(3)


def test_a_frame_of_inputs_beside_its_labels():
    frame = pd.DataFrame({"a": [0.0, 1.0], "b": [2.0, 3.0]})
    for labels in (pd.Series([0, 1]), np.array([0, 1]), [0, 1], pd.Series([0, 1], dtype="Int64")):
        rows = as_rows((frame, labels))
        assert rows.y.tolist() == [0, 1]
        assert rows.columns == ("a", "b")
        assert as_rows(frame, labels).x.tolist() == rows.x.tolist()
    assert as_rows((frame.to_numpy(), pd.Series([0, 1]))).y.tolist() == [0, 1]


def test_a_list_of_two_rows_is_no_pair_of_inputs_and_labels():
    two = [(torch.zeros(3), torch.tensor(1)), (torch.ones(3), torch.tensor(0))]
    rows = as_rows(two)
    assert [y.item() for _, y in rows] == [1, 0]
    assert as_rows(([[0.0, 1.0], [2.0, 3.0]], [0, 1])).x.shape == (2, 2)


def test_a_data_set_is_wrapped_once_and_read_once_whatever_part_is_asked():
    reads = []

    class Counted(list):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    rows = as_rows(Counted([(np.ones(2), label) for label in range(6)]))
    parts = [Part(rows, np.arange(3)), Part(rows, np.arange(3, 6))]
    assert all(as_rows(part) is part for part in (rows, *parts))
    assert [label_tensor(part).tolist() for part in parts] == [[0, 1, 2], [3, 4, 5]]
    assert rows_not_finite(parts[1]) == []
    assert reads == list(range(6))


def test_labels_that_are_not_known_are_none():
    x = np.zeros((3, 2))
    rows = as_rows((x, [1, None, 0]))
    assert [None if y is None else y.item() for _, y in rows] == [1, None, 0]
    assert labels_of(rows) is None
    assert as_rows((x, [None] * 3)).y is None
    assert as_rows((x, np.arange(3, dtype=np.uint16))).y.dtype == torch.int64


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
        (lambda: as_rows((np.zeros((2, 1)), 3)), "labels of the data are one value, 3"),
        (lambda: as_rows((np.zeros((2, 1)), [[1], [2, 3]])), "differ in shape from row to row"),
        (lambda: as_rows((np.zeros((2, 1)), ["cat", "dog"])), "labels of the data: 'cat' is no number"),
        (lambda: as_rows((np.array([["a"]]), [0])), "inputs of the data: 'a' is no number"),
        (lambda: as_rows((np.zeros((2, 1)), pd.Series(["a", "b"], dtype="category"))), "'a' is no number"),
        (lambda: as_rows([(np.zeros(1), "cat")] * 3)[1], "The label of row 1 of the data: 'cat' is no number"),
        (lambda: as_rows("forget.csv"), "Read the file first"),
        (lambda: as_rows([1, 2, 3]), "a list of numbers, such as 1"),
        (lambda: as_rows(np.array(3)), "The inputs of the data are one value"),
        (lambda: as_rows(DataLoader(Endless())), "a loader over an iterable data set"),
        (lambda: as_rows(pd.DataFrame([[1, 2]], columns=["a", "a"])), "several columns named a"),
        (lambda: as_rows(pd.DataFrame({"label": [1.0]}), target="labels"), "Did you mean 'label'"),
        (lambda: as_rows(pd.DataFrame({"a": [1.0]}), [0], target="a"), "Labels are one of the two"),
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
    ages.write_text("\ufefffile,target\ncat/a.png,30\ncat/b.png,40.5\ndog/c.png,7\n", encoding="utf-8")
    assert image_folder(folder, size=4, target=ages)[0].y.tolist() == [30.0, 40.5, 7.0]
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
    with pytest.raises(InputError, match="There is no table 'folders'"):
        image_folder(folder, size=(4, 4), target="folders")
    with pytest.raises(InputError, match=r"The size is \(0, 4\)"):
        image_folder(folder, size=(0, 4))
    with pytest.raises(InputError, match=r"The target of a\.png cannot be read \(IndexError"):
        image_folder(folder, size=(4, 4), target=lambda path: path.stem.split("_")[3])
    for row in ("cat/a.png", "cat/a.png,", "cat/a.png,old"):
        ages.write_text(f"file,target\n{row}\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"ages\.csv says '(old)?' for cat/a\.png"):
            image_folder(folder, size=(4, 4), target=ages)
    Image.new("RGB", (6, 4)).save(folder / "loose.png")
    with pytest.raises(InputError, match=r"1 images lie in .* itself, such as loose\.png"):
        image_folder(folder, size=(4, 4))
