"""One output array of the tile being computed: values in the memory that is written, and record.

Compute blocks are hashed and looked through right after they were computed, while the processor
still has them in cache, and copied once, to where they stand in the chunk's file.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from storage.catalog.records import TileRecord
from storage.chunks import ChunkBuffer
from storage.digest import Node, empty_leaves, leaf, root
from storage.format import ArrayLayout
from workers.plan import Tile


class TileStatistics:
    """Digest, range and count of non-finite entries of one tile, gathered block by block."""

    def __init__(self, shape: tuple[int, int], block_rows: int) -> None:
        self._leaves: Node = empty_leaves(
            (math.ceil(shape[0] / block_rows), math.ceil(shape[1] / block_rows))
        )
        self._low, self._high = math.inf, -math.inf
        self._nonfinite = 0

    def add(self, r: int, c: int, block: NDArray[np.floating]) -> None:
        """Take in compute block (r, c) of the tile, clipped to it."""
        self._leaves[r, c] = leaf(block)
        low, high = float(block.min()), float(block.max())
        if math.isfinite(low) and math.isfinite(high):  # NaN and Inf both reach min or max
            self._low, self._high = min(self._low, low), max(self._high, high)
        else:
            self._nonfinite += int(block.size - np.count_nonzero(np.isfinite(block)))

    def digest(self) -> bytes:
        """The chunk digest (32 bytes) of what was added."""
        return root(self._leaves)

    def record(self, layout: ArrayLayout, tile: Tile, seconds: float) -> TileRecord:
        return TileRecord(
            array=layout.name,
            i=tile[0],
            j=tile[1],
            digest=self.digest(),
            seconds=seconds,
            minimum=self._low if math.isfinite(self._low) else 0.0,
            maximum=self._high if math.isfinite(self._high) else 0.0,
            nonfinite=self._nonfinite,
            stored_bytes=math.prod(layout.chunk_shape) * layout.itemsize + 4,
        )


class TileArray:
    """Values of one output of one tile, in `chunk`, and their statistics.

    `shape`: that of the tile, clipped to the matrix. On the diagonal of a symmetric matrix only
    blocks (r, c) with r <= c are put; the others are their transposes.
    """

    def __init__(
        self, chunk: ChunkBuffer, shape: tuple[int, int], *, block_rows: int, diagonal: bool
    ) -> None:
        self.chunk = chunk
        self.statistics = TileStatistics(shape, block_rows)
        self.values = chunk.values[: shape[0], : shape[1]]
        self._block_rows = block_rows
        self._diagonal = diagonal

    def put(self, r: int, c: int, block: NDArray[np.floating]) -> None:
        """Compute block (r, c), padded or clipped."""
        b = self._block_rows
        target = self.values[r * b : (r + 1) * b, c * b : (c + 1) * b]
        clipped = block[: target.shape[0], : target.shape[1]]
        self.statistics.add(r, c, clipped)
        target[...] = clipped
        if self._diagonal and r != c:
            self.values[c * b : (c + 1) * b, r * b : (r + 1) * b] = clipped.T


def stored_statistics(
    values: NDArray[np.floating], *, block_rows: int, diagonal: bool
) -> TileStatistics:
    """Statistics of a tile that was found stored; `values` clipped to the matrix."""
    statistics = TileStatistics((values.shape[0], values.shape[1]), block_rows)
    for r, top in enumerate(range(0, values.shape[0], block_rows)):
        for c, left in enumerate(range(0, values.shape[1], block_rows)):
            if not (diagonal and c < r):
                block = values[top : top + block_rows, left : left + block_rows]
                statistics.add(r, c, block)
    return statistics
