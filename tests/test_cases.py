"""Small files that went wrong once, and what the tool answers to them now."""

import os
from pathlib import Path

import numpy as np
import pytest

from hampkit.data.base import Place
from hampkit.data.table import File
from hampkit.errors import UserError

TABLES = Path(__file__).parent / "cases" / "tables"


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, tmp_path)


@pytest.mark.parametrize(("name", "label"), [("onehot", "one-hot"), ("ycol", "in one column")])
def test_labels_that_are_one_hot_or_a_column_are_those_of_the_classes(name, label, place):
    arrays = np.load(TABLES / f"{name}.npz")
    given = arrays["y"].argmax(1) if name == "onehot" else arrays["y"][:, 0]
    loaded = File(str(TABLES / f"{name}.npz")).load(place)
    assert np.array_equal(loaded.y.numpy(), np.unique(given, return_inverse=True)[1]), label
    assert loaded.num_classes == 3


@pytest.mark.parametrize(("name", "channels"), [("nhwc1", 1), ("nhwc3", 3)])
def test_channels_that_come_last_are_moved_to_the_front_with_a_notice(name, channels, place):
    given = np.load(TABLES / f"{name}.npz")["x"]
    loaded = File(str(TABLES / f"{name}.npz")).load(place)
    assert loaded.shape == (channels, 12, 12)
    assert np.array_equal(loaded.x.numpy(), given.transpose(0, 3, 1, 2))
    (note,) = loaded.notes
    assert "(300, 12, 12" in note
    assert "channels last" in note


@pytest.mark.parametrize(
    "y", [np.full((40, 3), 1 / 3), np.ones((40, 3)), np.zeros((40, 2, 2)), np.eye(41)[:40, :, None]]
)
def test_labels_of_other_shapes_are_refused_by_their_shape(y, tmp_path, place):
    np.savez(tmp_path / "t.npz", x=np.random.default_rng(0).random((40, 5)), y=y)
    with pytest.raises(UserError, match=r"array 'y' of .*give whole numbers or text of shape \(40,\)"):
        File(str(tmp_path / "t.npz")).load(place)


def test_images_with_their_channels_first_stay_as_they_are(tmp_path, place):
    x = np.random.default_rng(0).random((60, 3, 8, 3)).astype(np.float32)
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(60) % 2)
    loaded = File(str(tmp_path / "t.npz")).load(place)
    assert np.array_equal(loaded.x.numpy(), x)
    assert not loaded.notes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, place, suffix):
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a pipe or a device"):
        File(str(path), "y").load(place)
