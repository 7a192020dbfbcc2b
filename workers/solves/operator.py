"""K V for a symmetric or rectangular matrix in tiles: the only thing iterative solvers ask for.

`Operator` is what they see, or its `Products` alone. `LocalOperator` multiplies in this process;
`BlockOperator` (block_operator.py) on Dask workers. The ridge is not part of the operator: solvers
add λV in float64, so one set of held tiles serves any λ. A preconditioner is a separate callable
(block_cg.py); one that needs columns or the diagonal of K reads them through a TileSource.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.solves.errors import SolveInterrupted
from workers.solves.products import Gathered, HeldTiles, gather_columns, multiply_tiles
from workers.solves.solution import Float64
from workers.solves.source import TileSource, tile_at, tiles_between
from workers.solves.throughput import Throughput, read_bandwidth

# memory: the stored triangle in worker memory; stream: read at each pass.
Placement = Literal["memory", "stream"]


@dataclass
class Traffic:
    """Counts since the operator was made."""

    applications: int = 0
    precise_applications: int = 0
    seconds: float = 0.0  # wall time inside applications
    bytes_read: int = 0  # from the store
    bytes_moved: int = 0  # between processes
    bytes_multiplied: int = 0  # of K that went through products
    lost_workers: int = 0


class Products(Protocol):
    """A matrix (n, m) that multiplies blocks of vectors."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def epsilon(self) -> float:
        """Unit roundoff ×2 of the products that are not precise."""
        ...

    @property
    def placement(self) -> str: ...

    def apply(self, vectors: Float64, *, precise: bool = False) -> Float64:
        """K V: (m, k) -> (n, k) float64. `precise`: all products in float64.

        Raises SolveInterrupted when asked to stop, and the storage errors of missing or corrupt
        chunks.
        """
        ...


class Operator(Products, Protocol):
    """One that is stored in tiles."""

    @property
    def tile_rows(self) -> int:
        """Columns that lie in the same tiles: gathering one of them reads all."""
        ...

    @property
    def traffic(self) -> Traffic: ...

    def columns(self, indices: NDArray[np.int64]) -> NDArray[np.floating]:
        """K[:, indices] (n, b) in the stored dtype, for ascending distinct indices.

        Costs one pass over the stored tiles at most, and no product.
        """
        ...

    def close(self) -> None:
        """Free the tiles held. The operator cannot be used afterwards."""
        ...


class LocalOperator:
    """Multiplies in this process, holding the tiles ("memory") or re-reading them ("stream")."""

    def __init__(
        self,
        source: TileSource,
        *,
        placement: Placement = "memory",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source = source
        self._held = None if placement == "stream" else HeldTiles()
        self._should_stop = should_stop
        self.placement = f"local {placement}"
        self.traffic = Traffic()

    @property
    def shape(self) -> tuple[int, int]:
        n, m = self._source.layout.shape
        return n, m

    @property
    def tile_rows(self) -> int:
        return self._source.layout.chunk_shape[1]

    @property
    def epsilon(self) -> float:
        return float(np.finfo(self._source.layout.dtype).eps)

    def apply(self, vectors: Float64, *, precise: bool = False) -> Float64:
        layout, started = self._source.layout, time.monotonic()
        part = multiply_tiles(
            self._source,
            tiles_between(layout, 0, layout.stored_chunks),
            vectors,
            precise=precise,
            held=self._held,
            check_stop=self._check_stop,
        )
        self.traffic.applications += 1
        self.traffic.precise_applications += precise
        self.traffic.seconds += time.monotonic() - started
        self.traffic.bytes_read += part.bytes_read
        self.traffic.bytes_multiplied += part.bytes_multiplied
        return part.values

    def columns(self, indices: NDArray[np.int64]) -> NDArray[np.floating]:
        layout = self._source.layout
        tiles = tiles_between(layout, 0, layout.stored_chunks)
        gathered = gather_columns(
            self._source, tiles, indices, held=self._held, check_stop=self._check_stop
        )
        self.traffic.bytes_read += gathered.bytes_read
        result = np.empty((layout.shape[0], indices.size), dtype=layout.dtype)
        put_columns(result, [gathered])
        return result

    def close(self) -> None:
        self._held = None

    def throughput(self) -> Throughput:
        """Of all applications so far."""
        return throughput_of(self.traffic, [read_bandwidth()])

    def _check_stop(self) -> None:
        if self._should_stop():
            raise SolveInterrupted


def throughput_of(traffic: Traffic, bandwidths: list[float]) -> Throughput:
    """`bandwidths`: of the processes that multiply, bytes per second."""
    speed = traffic.bytes_multiplied / traffic.seconds if traffic.seconds else 0.0
    return Throughput(traffic.bytes_multiplied, speed, sum(bandwidths))


def put_columns(result: NDArray[np.floating], parts: Iterable[Gathered]) -> None:
    """Write what was gathered to its places in K[:, indices]."""
    for part in parts:
        for first, which, values in part.pieces:
            result[first : first + len(values), which] = values


def diagonal_part(source: TileSource, start: int, stop: int) -> Float64:
    """Diagonal entries in grid rows [start, stop) of a symmetric matrix, float64.

    Feeds the relative ridge (trace), the check that a positive definite matrix has a positive
    diagonal, and a Jacobi preconditioner.
    """
    tiles = (tile_at(source.layout, i, i) for i in range(start, stop))
    return np.concatenate([np.diagonal(source.read(tile)).astype(np.float64) for tile in tiles])
