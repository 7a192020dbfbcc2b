"""A float32 tile times a few columns, A V and Aᵀ U, the fastest way for each number of columns.

GB/s of entries of A, 2048-row tiles, one core of an AMD EPYC (AVX2) that sums an array at
13-16 GB/s, medians of 5 on 2026-11-26, others on the machine; `python tests/benchmarks/solves.py`
measures whole applications of K for 1, 8 and 16 columns:

| columns | NumPy A V | XLA A V | NumPy Uᵀ A | XLA Uᵀ A |
|---|---|---|---|---|
| 1 | 16.5 | 13.2 | 17.7 | 10.1 |
| 2 | 6.3 | 10.5 | 8.6 | 5.8 |
| 4 | 5.2 | 11.0 | 8.7 | 3.6 |
| 8 | 5.9 | 10.0 | 7.0 | 2.9 |
| 10 | 4.8 | 5.4 | 5.2 | 2.7 |
| 16 | 4.5 | 6.8 | 5.8 | 2.2 |

So on a CPU A V is XLA's, Uᵀ A is NumPy's, and a single column is NumPy's both ways; from 9 columns
on, the arithmetic is what takes the time. On accelerators all of it is XLA's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NARROW_COLUMNS = 8  # up to these the memory takes the time, beyond them the arithmetic
COLUMN_MULTIPLE = 16  # beyond those; XLA multiplies 16 columns faster than 10
CACHED_ROWS = 256  # rows of a tile that are still in the cache when they are used again

Float32 = NDArray[np.float32]


def padded_columns(columns: int) -> int:
    """Columns that are multiplied where `columns` are asked for: 1, 2, 4, 8, 16, 32, 48..."""
    if columns <= NARROW_COLUMNS:
        return 1 << max(columns - 1, 0).bit_length()
    return -(-columns // COLUMN_MULTIPLE) * COLUMN_MULTIPLE


class SkinnyProducts:
    """Products of float32 tiles with parts of `vectors` (columns of K, k). Imports JAX."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        import jax

        self._k = vectors.shape[1]
        self._columns = np.zeros((vectors.shape[0], padded_columns(self._k)), dtype=np.float32)
        self._columns[:, : self._k] = vectors
        self._rows = np.ascontiguousarray(self._columns.T)
        # One way for the whole run, wherever its tiles lie: sums must not depend on that.
        self._on_cpu = jax.default_backend() == "cpu"
        self._one = jax.jit(_one_product)
        self._both = jax.jit(_both_products)

    def forward(self, values: Any, cols: slice) -> NDArray[Any]:
        """A V: (rows of A, k)."""
        right = self._columns[cols]
        if self._k == 1 and self._on_cpu:
            return np.asarray(np.asarray(values) @ right)
        return np.asarray(self._one(values, right))[:, : self._k]

    def both(self, values: Any, rows: slice, cols: slice) -> tuple[NDArray[Any], NDArray[Any]]:
        """A V and Aᵀ U of a tile off the diagonal: (rows, k) and (columns, k)."""
        left = np.ascontiguousarray(self._rows[:, rows])
        if not self._on_cpu:
            top, bottom = self._both(values, self._columns[cols], left)
            return np.asarray(top)[:, : self._k], np.asarray(bottom)[: self._k].T
        if self._k == 1:
            return _single_column(np.asarray(values), left[0], self._columns[cols, 0])
        return self.forward(values, cols), (left @ np.asarray(values))[: self._k].T


def _single_column(a: Float32, left: Float32, right: Float32) -> tuple[Float32, Float32]:
    """Both products, each entry of A fetched from memory once."""
    top = np.empty((a.shape[0], 1), dtype=np.float32)
    bottom = np.zeros(a.shape[1], dtype=np.float32)
    for start in range(0, a.shape[0], CACHED_ROWS):
        strip = a[start : start + CACHED_ROWS]
        top[start : start + CACHED_ROWS, 0] = strip @ right
        bottom += left[start : start + CACHED_ROWS] @ strip
    return top, bottom[:, None]


def _one_product(a: Any, right: Any) -> Any:
    import jax.numpy as jnp

    # "highest": GPUs would otherwise round float32 operands to 10 bits of mantissa.
    return jnp.matmul(a, right, precision="highest")


def _both_products(a: Any, right: Any, left: Any) -> Any:
    import jax.numpy as jnp

    return _one_product(a, right), jnp.matmul(left, a, precision="highest")
