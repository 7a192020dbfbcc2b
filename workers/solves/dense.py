"""Whole matrices in one process, from their tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.memory import WORKER_BASE_BYTES
from workers.solves.source import TileSource, tile_bytes, tiles_between

# A tile being read exists as file bytes and as decoded values.
_COPIES_OF_A_TILE = 2


def load_dense(
    source: TileSource,
    check_stop: Callable[[], None] = lambda: None,
    *,
    dtype: str | None = None,
) -> NDArray[Any]:
    """The matrix (n, m), both triangles when symmetric, in `dtype` or that of the source.

    Raises MissingChunkError, CorruptChunkError, and whatever `check_stop` raises before a tile.
    """
    layout = source.layout
    values = np.empty(layout.shape, dtype or layout.dtype)
    for tile in tiles_between(layout, 0, layout.stored_chunks):
        check_stop()
        part = source.read(tile)
        values[tile.rows, tile.cols] = part
        if tile.mirrored:
            values[tile.cols, tile.rows] = part.T
    return values


def dense_worker_bytes(
    source: TileSource, float64_numbers: int, base_bytes: int = WORKER_BASE_BYTES
) -> int:
    """Peak of a worker that reads `source` and keeps `float64_numbers` at once."""
    return base_bytes + _COPIES_OF_A_TILE * tile_bytes(source.layout) + 8 * float64_numbers
