"""K V for a symmetric or rectangular matrix in tiles: the only thing iterative solvers ask for.

`Operator` is what they see. `LocalOperator` multiplies in this process; `BlockOperator`
(block_operator.py) on Dask workers. The ridge is not part of the operator: solvers add λV in
float64, so one set of held tiles serves any λ. A preconditioner is a separate callable
(block_cg.py); one that needs columns or the diagonal of K reads them through a TileSource.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from workers.solves.errors import SolveInterrupted
from workers.solves.products import HeldTiles, multiply_tiles
from workers.solves.solution import Float64
from workers.solves.source import TileSource, tile_at, tiles_between

Placement = Literal["memory", "stream"]


@dataclass
class Traffic:
    """Counts since the operator was made."""

    applications: int = 0
    precise_applications: int = 0
    bytes_read: int = 0  # from the store
    bytes_moved: int = 0  # between processes
    lost_workers: int = 0


class Operator(Protocol):
    """A matrix (n, m) that multiplies blocks of vectors."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def epsilon(self) -> float:
        """Unit roundoff ×2 of the products that are not precise."""
        ...

    @property
    def placement(self) -> str: ...

    @property
    def traffic(self) -> Traffic: ...

    def apply(self, vectors: Float64, *, precise: bool = False) -> Float64:
        """K V: (m, k) -> (n, k) float64. `precise`: all products in float64.

        Raises SolveInterrupted when asked to stop, and the storage errors of missing or corrupt
        chunks.
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
        self._held: HeldTiles | None = HeldTiles() if placement == "memory" else None
        self._should_stop = should_stop
        self.placement = f"local {placement}"
        self.traffic = Traffic()

    @property
    def shape(self) -> tuple[int, int]:
        n, m = self._source.layout.shape
        return n, m

    @property
    def epsilon(self) -> float:
        return float(np.finfo(self._source.layout.dtype).eps)

    def apply(self, vectors: Float64, *, precise: bool = False) -> Float64:
        layout = self._source.layout
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
        self.traffic.bytes_read += part.bytes_read
        return part.values

    def close(self) -> None:
        self._held = None

    def _check_stop(self) -> None:
        if self._should_stop():
            raise SolveInterrupted


def diagonal_part(source: TileSource, start: int, stop: int) -> Float64:
    """Diagonal entries in grid rows [start, stop) of a symmetric matrix, float64.

    Feeds the relative ridge (trace), the check that a positive definite matrix has a positive
    diagonal, and a Jacobi preconditioner.
    """
    tiles = (tile_at(source.layout, i, i) for i in range(start, stop))
    return np.concatenate([np.diagonal(source.read(tile)).astype(np.float64) for tile in tiles])
