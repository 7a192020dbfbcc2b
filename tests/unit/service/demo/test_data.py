"""The demonstration reads real files, and says what to install when they are missing."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from service.demo import data
from storage.errors import InvalidArrayError


def _idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.asarray(values.shape, ">u4").tobytes()
    with gzip.open(path, "wb") as file:
        file.write(header + values.astype(np.uint8).tobytes())


def _fashion_folder(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    for part, count in (("train", 7), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28))
        _idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        _idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return folder


def test_mnist_is_the_genuine_5000_digits_split_without_overlap():
    split = data.load("mnist")
    assert split.x_train.shape == (4000, 784)
    assert split.x_test.shape == (1000, 784)
    assert split.x_train.dtype == np.float32
    assert split.x_train.max() == 255
    counts = np.bincount(np.concatenate([split.y_train, split.y_test]))
    assert counts.tolist() == [500] * 10
    rows = np.concatenate([split.x_train, split.x_test])
    assert len(np.unique(rows, axis=0)) == 5000


def test_fewer_rows_are_the_first_rows_and_too_many_are_refused():
    split = data.load("mnist", train_rows=30, test_rows=5)
    assert (len(split.x_train), len(split.y_train), len(split.x_test)) == (30, 30, 5)
    np.testing.assert_array_equal(split.x_train, data.load("mnist").x_train[:30])
    with pytest.raises(ValueError, match="4000 training"):
        data.load("mnist", train_rows=4001)


def test_fashion_is_read_from_idx_files(tmp_path: Path):
    split = data.load("fashion", fashion_folder=_fashion_folder(tmp_path))
    assert split.x_train.shape == (7, 784)
    assert split.y_test.tolist() == [0, 1, 2]
    raw = data.read_idx(tmp_path / "train-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(split.x_train[2], raw[2].ravel())


def test_missing_fashion_says_what_to_install(tmp_path: Path):
    with pytest.raises(data.DataMissingError, match="apt-get install dataset-fashion-mnist"):
        data.load("fashion", fashion_folder=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05ab"),
        gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x01abcd"),
        gzip.compress(b"\x00"),
        gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x01a")[:-6],
        b"not gzip",
    ],
    ids=["fewer values than announced", "floats", "no header", "cut gzip", "not gzip"],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(InvalidArrayError):
        data.read_idx(tmp_path / "x.gz")
