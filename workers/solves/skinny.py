"""A float32 tile times a few vectors, A V and Aᵀ U: compiled for CPUs, by XLA on accelerators.

GB/s of entries of A, 2048-row tiles in memory, one core of an AMD EPYC (AVX-512) that reads 36 GB/s
and multiplies 224-246 GFLOP/s in large products of matrices (XLA), best of a few runs on
2026-11-27, others on the machine; `python tests/benchmarks/solves.py` measures whole applications
of K for 1, 8 and 16 vectors:

| vectors | A V and Aᵀ U | A V alone | both, AVX2 code on the same core |
|---|---|---|---|
| 1 | 26.5 | 27.4 | 25.7 |
| 2 | 26.1 | 25.7 | 27.9 |
| 4 | 28.6 | 26.9 | 20.8 |
| 8 | 21.9 | 23.9 | 11.6 |
| 10 | 16.9 | 19.1 | 9.2 |
| 16 | 11.7 | 20.8 | 6.0 |
| 32 | 6.0 | 12.0 | |

From 8 vectors on, the arithmetic is what takes the time: 175-190 GFLOP/s. With A V by XLA and Uᵀ A
by NumPy, applications took 1.2, 2.4 and 1.8 times as long for 1, 8 and 16 vectors.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.solves.solution import Float64

NARROW_COLUMNS = 8  # up to these the memory takes the time, beyond them the arithmetic

Float32 = NDArray[np.float32]

_PLUGIN_PATHS = "PJRT_NAMES_AND_LIBRARY_PATHS"


@cache
def on_accelerator() -> bool:
    """Whether float32 products run on something else than a CPU.

    JAX is asked, but not imported (a second) where it has nothing to find: no plugin, by any of
    the ways in which it looks for them.
    """
    packages = any(find_spec(name) for name in ("jax_plugins", "libtpu"))
    if "jax" not in sys.modules and not (
        packages or entry_points(group="jax_plugins") or os.environ.get(_PLUGIN_PATHS)
    ):
        return False
    import jax

    return bool(jax.default_backend() != "cpu")


class SkinnyProducts:
    """Products of float32 tiles with parts of `vectors` (columns of K, k)."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        # One way for the whole run, wherever its tiles lie: sums must not depend on that.
        rows = np.ascontiguousarray(vectors.T, dtype=np.float32)
        self._add = _Accelerated(rows) if on_accelerator() else _Compiled(rows)

    def add(
        self,
        values: Any,
        rows: slice,
        cols: slice,
        total: Float64,
        *,
        first: int = 0,
        mirrored: bool,
    ) -> None:
        """Add A V and, if `mirrored`, Aᵀ U to `total` (k, n) in C order, whose column 0 is row
        `first` of K V.

        `values` is A, K[rows, cols]: a NumPy or JAX array.
        """
        self._add(values, rows, cols, total, first, mirrored)


class _Compiled:
    """On a CPU (tile_kernel.py)."""

    def __init__(self, vectors: Float32) -> None:
        from workers.solves import tile_kernel  # numba takes half a second

        self._kernel, self._widest = tile_kernel, tile_kernel.widest_group()
        most = tile_kernel.MOST_VECTORS
        self._parts = [(c, vectors[c : c + most]) for c in range(0, len(vectors), most)]

    def __call__(
        self, values: Any, rows: slice, cols: slice, total: Float64, first: int, mirrored: bool
    ) -> None:
        a = np.asarray(values)
        stride, remainder = divmod(a.strides[0], a.itemsize)
        if a.strides[1] != a.itemsize or stride < a.shape[1] or remainder:
            a = np.ascontiguousarray(a)
            stride = a.shape[1]
        # Read-only and flat, so that the kernel is compiled for one type of array.
        count = (a.shape[0] - 1) * stride + a.shape[1]
        entries = np.lib.stride_tricks.as_strided(a, (count,), (a.itemsize,), writeable=False)
        for c, vectors in self._parts:
            part, n, m = total[c : c + len(vectors)], a.shape[0], a.shape[1]
            self._kernel.multiply(
                entries, stride, n, m, vectors, rows.start, cols.start, mirrored,
                self._widest, part, rows.start - first, cols.start - first,
            )  # fmt: skip


class _Accelerated:
    """By XLA, where tiles may lie already."""

    def __init__(self, vectors: Float32) -> None:
        import jax

        self._rows, self._columns = vectors, np.ascontiguousarray(vectors.T)
        self._one, self._both = jax.jit(_one_product), jax.jit(_both_products)

    def __call__(
        self, values: Any, rows: slice, cols: slice, total: Float64, first: int, mirrored: bool
    ) -> None:
        right = self._columns[cols]
        if mirrored:
            top, bottom = self._both(values, right, np.ascontiguousarray(self._rows[:, rows]))
            total[:, cols.start - first : cols.stop - first] += np.asarray(bottom)
        else:
            top = self._one(values, right)
        total[:, rows.start - first : rows.stop - first] += np.asarray(top).T


def _one_product(a: Any, right: Any) -> Any:
    import jax.numpy as jnp

    # "highest": GPUs would otherwise round float32 operands to 10 bits of mantissa.
    return jnp.matmul(a, right, precision="highest")


def _both_products(a: Any, right: Any, left: Any) -> Any:
    import jax.numpy as jnp

    return _one_product(a, right), jnp.matmul(left, a, precision="highest")
