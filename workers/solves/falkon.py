"""Inducing points as the model, by preconditioned conjugate gradients: FALKON.

Rudi, Carratino, Rosasco, FALKON: an optimal large scale kernel method, NeurIPS 2017, algorithm 1.
The normal equations of nystrom.py, (CᵀC + λ K_SS) α = Cᵀy with C = K[:, S], are solved without
forming CᵀC. With TᵀT = K_SS and AᵀA = (m/M) T Tᵀ + λI (which replaces CᵀC by its expectation under
uniform sampling, (m/M) K_SS²), block CG runs on

    W β = A⁻ᵀT⁻ᵀ Cᵀy,   W = A⁻ᵀ(T⁻ᵀ CᵀC T⁻¹ + λI) A⁻¹,   α = T⁻¹A⁻¹β.

The columns C are gathered from the stored tiles once, into panels in the scratch folder of the
solve; an iteration streams those, M/m of the bytes of K. T and A stay in the process that runs CG.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from distributed import Client
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from workers.solves.dask_tasks import run_to_end
from workers.solves.errors import SolveInterrupted
from workers.solves.holder import cancellation_check
from workers.solves.nystrom import panel, rounded_root
from workers.solves.operator import Traffic
from workers.solves.scratch import Scratch, ahead
from workers.solves.shares import cut
from workers.solves.solution import Float64
from workers.solves.source import TileSource

STRIP_ROWS = 1024  # of a panel, converted to float64 at a time

Wanted = Literal["normal", "fit", "targets"]


@dataclass(frozen=True)
class Panels:
    """C = K[:, columns] in panels of one grid row of K each, in the scratch folder."""

    source: TileSource
    scratch: Scratch
    columns: NDArray[np.int64]  # (M,) sorted

    @property
    def count(self) -> int:
        return self.source.layout.grid[0]

    def extent(self, i: int) -> slice:
        width = self.source.layout.chunk_shape[0]
        return slice(i * width, min((i + 1) * width, self.source.layout.shape[0]))

    def read(self, i: int) -> NDArray[Any]:
        rows = self.extent(i)
        shape = (rows.stop - rows.start, self.columns.size)
        return self.scratch.read(f"panel-{i}", shape, self.source.layout.dtype)

    def gather(self, i: int) -> tuple[NDArray[Any], int]:
        """The panel, written unless it is there, and the bytes of K that were read for it."""
        rows, dtype = self.extent(i), self.source.layout.dtype
        if self.scratch.has(f"panel-{i}", (rows.stop - rows.start, self.columns.size), dtype):
            return self.read(i), 0
        values, bytes_read = panel(self.source, i, self.columns)
        narrow = values.astype(dtype)
        self.scratch.write(f"panel-{i}", narrow)
        return narrow, bytes_read


@dataclass(frozen=True)
class Gathered:
    """Rows of K_SS found in some panels: `index` says which."""

    kernel_rows: Float64
    index: NDArray[np.int64]
    bytes_read: int
    finite: bool


def gather_panels(
    panels: Panels, start: int, stop: int, check_stop: Callable[[], None] | None = None
) -> Gathered:
    """Write panels [start, stop). Runs in a worker or in this process."""
    check_stop = check_stop or cancellation_check()
    rows, index, bytes_read, finite = [], [], 0, True
    for i in range(start, stop):
        check_stop()
        values, read = panels.gather(i)
        bytes_read += read
        finite = finite and bool(np.isfinite(values).all())
        extent = panels.extent(i)
        low, high = np.searchsorted(panels.columns, [extent.start, extent.stop])
        rows.append(values[panels.columns[low:high] - extent.start].astype(np.float64))
        index.append(np.arange(low, high))
    return Gathered(np.vstack(rows), np.concatenate(index), bytes_read, finite)


def multiply_panels(
    panels: Panels,
    start: int,
    stop: int,
    vectors: Float64,
    wanted: Wanted,
    check_stop: Callable[[], None] | None = None,
) -> Float64:
    """Over panels [start, stop), in float64: "normal" CᵀC V and "targets" CᵀV, both (M, k), summed;
    "fit" C V (rows, k). For "targets", V (rows, k) holds the rows of these panels only."""
    check_stop = check_stop or cancellation_check()
    first = panels.extent(start).start
    inner: list[Float64] = []
    total = np.zeros((panels.columns.size, vectors.shape[1]))
    for i, values in ahead(panels.read, range(start, stop)):
        check_stop()
        at = panels.extent(i).start - first
        for top in range(0, len(values), STRIP_ROWS):
            strip = values[top : top + STRIP_ROWS].astype(np.float64)
            if wanted == "targets":
                total += strip.T @ vectors[at + top : at + top + len(strip)]
                continue
            product = strip @ vectors
            if wanted == "fit":
                inner.append(product)
            else:
                total += strip.T @ product
    return np.vstack(inner) if wanted == "fit" else total


class FalkonOperator:
    """W as an `Operator` of block CG, with C in panels on the workers of `client` or here."""

    def __init__(
        self,
        client: Client | None,
        panels: Panels,
        kernel: Float64,
        ridge: float,
        *,
        workers: int,
        should_stop: Callable[[], bool],
    ) -> None:
        """`kernel`: K_SS (M, M). Raises LinAlgError if it is indefinite beyond its rounding."""
        self.placement = "stream"
        self.traffic = Traffic()
        self.epsilon = float(np.finfo(np.float64).eps)  # all products are float64
        self._client, self._panels, self._ridge = client, panels, ridge
        self._should_stop = should_stop
        self._shares = cut(panels.count, workers)
        m_s, rows = len(kernel), panels.source.layout.shape[0]
        stored = float(np.finfo(panels.source.layout.dtype).eps)
        self._root, self.jitter = rounded_root(kernel, stored)
        inner = (rows / m_s) * (self._root @ self._root.T)
        inner[np.diag_indices(m_s)] += ridge
        # With a ridge of 0 rounding may have left the product semi-definite.
        inner[np.diag_indices(m_s)] += m_s * self.epsilon * float(np.trace(inner)) / m_s
        self._outer = cholesky(inner, overwrite_a=True, check_finite=False)

    @property
    def shape(self) -> tuple[int, int]:
        return (self._panels.columns.size,) * 2

    @property
    def tile_rows(self) -> int:
        return self._panels.columns.size

    def right_hand_sides(self, rhs: Float64) -> tuple[Float64, Float64]:
        """Cᵀy and A⁻ᵀT⁻ᵀCᵀy."""
        targets = self._over_panels(rhs, "targets")
        return targets, self._left(targets)

    def coefficients(self, beta: Float64) -> Float64:
        """α = T⁻¹A⁻¹β."""
        return _back(self._root, _back(self._outer, beta))

    def normal(self, alpha: Float64) -> Float64:
        """CᵀC α."""
        return self._over_panels(alpha, "normal")

    def fit(self, alpha: Float64) -> Float64:
        """C α, the values on the training set (m, k)."""
        return self._over_panels(alpha, "fit")

    def apply(self, vectors: Float64, *, precise: bool = False) -> Float64:
        inner = _back(self._outer, vectors)
        product = self.normal(_back(self._root, inner))
        self.traffic.applications += 1
        self.traffic.precise_applications += 1
        through = _forward(self._root, product) + self._ridge * inner
        return _forward(self._outer, through)

    def columns(self, indices: NDArray[np.int64]) -> NDArray[np.floating]:
        unit = np.zeros((self.shape[0], indices.size))
        unit[indices, np.arange(indices.size)] = 1.0
        return self.apply(unit)

    def close(self) -> None:
        """The panels belong to the solve."""

    def _left(self, vectors: Float64) -> Float64:
        return _forward(self._outer, _forward(self._root, vectors))

    def _over_panels(self, vectors: Float64, wanted: Wanted) -> Float64:
        calls = []
        for share in self._shares:
            rows = slice(
                self._panels.extent(share.start).start, self._panels.extent(share.stop - 1).stop
            )
            sent = vectors[rows] if wanted == "targets" else vectors
            calls.append((self._panels, share.start, share.stop, sent, wanted))
        itemsize = self._panels.source.layout.itemsize
        size = self._panels.source.layout.shape[0] * self._panels.columns.size * itemsize
        self.traffic.bytes_read += size
        if self._client is None:
            parts = [multiply_panels(*call, self._check) for call in calls]
        else:
            futures: list[Any] = [
                self._client.submit(multiply_panels, *call, pure=False) for call in calls
            ]
            joined: Any = self._client.submit(list, futures, pure=False)
            parts = run_to_end(self._client, [*futures, joined], should_stop=self._should_stop)
            self.traffic.bytes_moved += sum(call[3].nbytes for call in calls)
            self.traffic.bytes_moved += sum(part.nbytes for part in parts)
        if wanted == "fit":
            return np.vstack(parts)
        summed: Float64 = np.sum(parts, axis=0)
        return summed

    def _check(self) -> None:
        if self._should_stop():
            raise SolveInterrupted


def _back(upper: Float64, vectors: Float64) -> Float64:
    solved: Float64 = solve_triangular(upper, vectors, check_finite=False)
    return solved


def _forward(upper: Float64, vectors: Float64) -> Float64:
    solved: Float64 = solve_triangular(upper, vectors, trans="T", check_finite=False)
    return solved
