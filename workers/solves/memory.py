"""Projected peak memory of solves, from sizes alone. All sizes are in bytes.

`base_bytes` is the idle worker process with NumPy, SciPy and JAX imported, the same number as for
Gram tiles. Every other term is an array that the code of the named method really allocates.
"""

from __future__ import annotations

from workers.memory import WORKER_BASE_BYTES
from workers.solves.products import COLUMN_MULTIPLE, READ_AHEAD_TILES, STRIP_ROWS

FLOAT64 = 8
# A tile in use exists as file bytes, decoded values and an XLA copy; the allocator keeps one more.
COPIES_OF_A_TILE = 4
SOLVER_BLOCKS = 14  # (m, k) float64 blocks alive in block_cg, scipy's QR and a checkpoint included


def vector_bytes(rows: int, columns: int, rhs: int) -> int:
    """Vectors of one application in a worker, K being (rows, columns).

    The message, float32 copies in both orientations (padded to 16 columns) or one in float64, the
    float64 sum, its serialised copy, and the two results of a tile.
    """
    padded = -(-rhs // COLUMN_MULTIPLE) * COLUMN_MULTIPLE
    return FLOAT64 * (2 * columns * padded + 3 * rows * padded)


def apply_worker_bytes(
    *,
    rows: int,
    columns: int,
    rhs: int,
    tile_rows: int,
    itemsize: int,
    held_bytes: int,
    base_bytes: int = WORKER_BASE_BYTES,
) -> int:
    """Peak of a worker that applies its share of K; `held_bytes` is 0 when it streams."""
    tile = tile_rows**2 * itemsize
    reading = (READ_AHEAD_TILES + COPIES_OF_A_TILE) * tile
    strips = FLOAT64 * (STRIP_ROWS * tile_rows + 4 * tile_rows * max(rhs, COLUMN_MULTIPLE))
    return base_bytes + held_bytes + reading + strips + vector_bytes(rows, columns, rhs)


def held_share_bytes(*, n_tiles: int, workers: int, tile_rows: int, itemsize: int) -> int:
    """Tiles that the fullest worker keeps under placement "memory"."""
    return -(-n_tiles // max(workers, 1)) * tile_rows**2 * itemsize


def cholesky_worker_bytes(
    *, rows: int, rhs: int, tile_rows: int, itemsize: int, base_bytes: int = WORKER_BASE_BYTES
) -> int:
    """Peak of the one worker that factors K: one float64 square, then streaming to certify."""
    streaming = apply_worker_bytes(
        rows=rows,
        columns=rows,
        rhs=rhs,
        tile_rows=tile_rows,
        itemsize=itemsize,
        held_bytes=0,
        base_bytes=base_bytes,
    )
    return streaming + FLOAT64 * rows * (rows + 4 * rhs)


def nystrom_worker_bytes(
    *, inducing: int, rhs: int, tile_rows: int, itemsize: int, base_bytes: int = WORKER_BASE_BYTES
) -> int:
    """Peak of a worker that folds panels into a triangular factor, or merges two factors.

    The old factor and the new rows are stacked, copied column-major for LAPACK's QR, and R is
    copied out of it; merging holds the two factors it was sent next to that.
    """
    width = inducing + rhs
    factor = FLOAT64 * width * width
    panel = FLOAT64 * tile_rows * width
    stacked = FLOAT64 * (width + tile_rows + max(tile_rows, width)) * width
    kernel = 3 * FLOAT64 * inducing * inducing  # K_SS of both sides, and its Cholesky factor
    tiles = (1 + COPIES_OF_A_TILE) * tile_rows**2 * itemsize
    return base_bytes + tiles + panel + 3 * stacked + 3 * factor + kernel


def coordinator_bytes(*, rows: int, rhs: int, workers: int) -> int:
    """Peak in the process that runs block CG, beyond what it used before."""
    return FLOAT64 * rows * rhs * (SOLVER_BLOCKS + 2 * workers)
