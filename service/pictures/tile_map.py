"""Which tiles of a matrix are there, as a grid of bounded size however many there are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.plan import TilePlan

Group = tuple[int, int, int, float]  # row, column, number of tiles, seconds


@dataclass(frozen=True)
class TileMap:
    """Cells of `tiles_per_cell` x `tiles_per_cell` tiles: tiles there are (of a symmetric matrix
    those on and above the diagonal), tiles done, and their seconds; (rows, columns) each."""

    tiles_per_cell: int
    total: NDArray[np.int64]
    done: NDArray[np.int64]
    seconds: NDArray[np.float64]


def tiles_per_cell(plan: TilePlan, cells: int) -> int:
    """So that there are at most `cells` cells along each side."""
    return math.ceil(max(plan.grid) / cells)


def tile_map(plan: TilePlan, edge: int, groups: Iterable[Group]) -> TileMap:
    """`groups`: the tiles that are done, in cells of `edge` tiles (`Catalog.tile_groups`)."""
    total = _total(plan, edge)
    done, seconds = np.zeros_like(total), np.zeros(total.shape)
    for i, j, count, spent in groups:
        done[i, j], seconds[i, j] = count, spent
    return TileMap(edge, total, done, seconds)


def _total(plan: TilePlan, edge: int) -> NDArray[np.int64]:
    rows, cols = plan.grid
    starts = np.arange(0, cols, edge)
    stops = np.minimum(starts + edge, cols)
    # Tiles of each row of tiles within each cell; a symmetric plan's row i begins in column i.
    first = np.arange(rows)[:, None] if plan.symmetric else np.zeros((rows, 1), np.int64)
    per_row = np.clip(stops - np.maximum(starts, first), 0, None)
    return np.add.reduceat(per_row, np.arange(0, rows, edge), axis=0).astype(np.int64)
