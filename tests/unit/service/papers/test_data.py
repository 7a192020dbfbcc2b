"""Images that the user names: MNIST's and CIFAR-10's own files, and what is said without them."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.demo.data import DataMissingError
from service.papers.data import load_images
from storage.errors import InvalidArrayError

RNG = np.random.default_rng(0)


def _idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.asarray(values.shape, ">u4").tobytes()
    return header + values.astype(np.uint8).tobytes()


def _mnist(folder: Path, ending: str, pack: Callable[[bytes], bytes]) -> np.ndarray:
    images = RNG.integers(0, 256, (6, 28, 28))
    for part, values in {
        "train-images-idx3": images,
        "train-labels-idx1": np.arange(6),
        "t10k-images-idx3": images[:2],
        "t10k-labels-idx1": np.arange(2),
    }.items():
        (folder / f"{part}-ubyte{ending}").write_bytes(pack(_idx(values)))
    return images


def _cifar(folder: Path) -> np.ndarray:
    rows = np.concatenate([RNG.integers(0, 10, (4, 1)), RNG.integers(0, 256, (4, 3072))], axis=1)
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (folder / name).write_bytes(rows.astype(np.uint8).tobytes())
    return rows


@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_a_folder_with_the_files_of_mnist(
    tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    images = _mnist(tmp_path, ending, pack)
    loaded = load_images(str(tmp_path))
    assert (loaded.identity, loaded.complete) == ("mnist", False)
    np.testing.assert_array_equal(loaded.x_train, images.reshape(6, 784))
    assert loaded.y_train.tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded.x_test.shape == (2, 784)


def test_a_folder_with_the_binary_version_of_cifar(tmp_path: Path) -> None:
    rows = _cifar(tmp_path)
    loaded = load_images(str(tmp_path))
    assert (loaded.identity, loaded.complete) == ("cifar10", False)
    assert loaded.x_train.shape == (8, 3072)
    np.testing.assert_array_equal(loaded.x_test, rows[:, 1:])
    np.testing.assert_array_equal(loaded.y_train[4:], rows[:, 0])


def test_digits_that_come_with_a_package() -> None:
    loaded = load_images("mnist")
    assert (loaded.identity, loaded.complete) == ("mnist", False)
    assert len(loaded.x_train) + len(loaded.x_test) == 5000


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="missing: train-images-idx3-ubyte, train-labels"):
        load_images(str(tmp_path))
    with pytest.raises(DataMissingError, match="neither mnist, nor fashion, nor a folder"):
        load_images("no/such/folder")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    with pytest.raises(DataMissingError, match=r"none of data_batch_1\.bin"):
        load_images(str(tmp_path))


def test_damaged_files(tmp_path: Path) -> None:
    _cifar(tmp_path)
    for content in (bytes(3072), b"", bytes([10]) + bytes(3072)):
        (tmp_path / "data_batch_2.bin").write_bytes(content)
        with pytest.raises(InvalidArrayError, match=r"data_batch_2\.bin"):
            load_images(str(tmp_path))


def test_images_and_labels_must_agree_in_number(tmp_path: Path) -> None:
    _mnist(tmp_path, "", bytes)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(np.arange(5)))
    with pytest.raises(InvalidArrayError, match="differ in number"):
        load_images(str(tmp_path))
