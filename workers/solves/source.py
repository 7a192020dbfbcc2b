"""Where the tiles of a matrix come from, and their canonical order.

Tiles are numbered row by row over the stored ones (the upper triangle when symmetric), so a range
of numbers says everything about a worker's share: messages stay a few bytes at any matrix size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.blobs import BlobStore, open_blobs
from storage.chunks import encoded_bytes
from storage.format import ArrayLayout, MatrixManifest
from storage.matrices import read_chunk

XLA_ALIGNMENT_BYTES = 64  # arrays that start elsewhere are copied before a program reads them


@dataclass(frozen=True)
class Tile:
    """Tile (i, j) covers `rows` by `cols` of the matrix. `mirrored`: it also stands for (j, i)."""

    i: int
    j: int
    rows: slice
    cols: slice
    mirrored: bool


class TileSource(Protocol):
    """A matrix cut into tiles. Implementations are picklable: workers read through them."""

    @property
    def layout(self) -> ArrayLayout: ...

    def read(self, tile: Tile, buffer: memoryview | None = None) -> NDArray[Any]:
        """Entries of the tile, clipped to the matrix, in the dtype of the layout.

        May be a view of `buffer`, if given (see `tile_buffer`).
        """
        ...


@dataclass(frozen=True)
class StoredTiles:
    """Tiles of one array of a sealed matrix in a store."""

    store_url: str
    manifest: MatrixManifest
    array: str

    @cached_property
    def layout(self) -> ArrayLayout:
        return self.manifest.array(self.array)

    @cached_property
    def _blobs(self) -> BlobStore:
        return open_blobs(self.store_url)

    def read(self, tile: Tile, buffer: memoryview | None = None) -> NDArray[Any]:
        """Raises MissingChunkError or CorruptChunkError; never returns fill values."""
        coords = (tile.i, tile.j)
        return read_chunk(self._blobs, self.manifest, self.array, coords, buffer=buffer)

    def __getstate__(self) -> dict[str, Any]:
        return {"store_url": self.store_url, "manifest": self.manifest, "array": self.array}


@dataclass(frozen=True)
class ArrayTiles:
    """Tiles cut from an array in memory, for library users and tests."""

    matrix: NDArray[Any]
    tile_rows: int
    symmetric: bool = True

    @cached_property
    def layout(self) -> ArrayLayout:
        rows, cols = self.matrix.shape
        return ArrayLayout(
            name="matrix",
            shape=(rows, cols),
            chunk_shape=(self.tile_rows, self.tile_rows),
            dtype="float64" if self.matrix.dtype == np.float64 else "float32",
            symmetric=self.symmetric,
        )

    def read(self, tile: Tile, buffer: memoryview | None = None) -> NDArray[Any]:
        return np.ascontiguousarray(self.matrix[tile.rows, tile.cols], dtype=self.layout.dtype)


def tile_at(layout: ArrayLayout, i: int, j: int) -> Tile:
    rows, cols = layout.chunk_extent((i, j))
    return Tile(i, j, rows, cols, mirrored=layout.symmetric and i != j)


def tiles_between(layout: ArrayLayout, start: int, stop: int) -> Iterator[Tile]:
    """Tiles number `start` to `stop` (exclusive) in canonical order."""
    row, first = 0, 0  # `first`: number of the first stored tile of grid row `row`
    n_rows, n_cols = layout.grid
    while row < n_rows and first < stop:
        offset = row if layout.symmetric else 0
        count = n_cols - offset
        for number in range(max(start, first), min(stop, first + count)):
            yield tile_at(layout, row, offset + number - first)
        first += count
        row += 1


def row_panel(layout: ArrayLayout, i: int) -> Iterator[Tile]:
    """The stored tiles that hold grid row i of the matrix, in column order.

    In a symmetric matrix those left of the diagonal come as their stored mirror (j, i), j < i.
    """
    for j in range(layout.grid[1]):
        yield tile_at(layout, j, i) if layout.symmetric and j < i else tile_at(layout, i, j)


def tile_buffer(layout: ArrayLayout) -> memoryview:
    """Memory for `TileSource.read`, which XLA on a CPU uses in place."""
    size = encoded_bytes(layout.chunk_shape, layout.dtype)
    room = np.empty(size + XLA_ALIGNMENT_BYTES, np.uint8)
    start = -room.ctypes.data % XLA_ALIGNMENT_BYTES
    return room[start : start + size].data


def tile_bytes(layout: ArrayLayout) -> int:
    return layout.chunk_shape[0] * layout.chunk_shape[1] * layout.itemsize
