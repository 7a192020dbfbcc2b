"""Projected peak memory of solves, from sizes alone. All sizes are in bytes.

`base_bytes` is the idle worker process with NumPy, SciPy and JAX imported, the same number as for
Gram tiles. Every other term is an array that the code of the named method really allocates.
"""

from __future__ import annotations

from storage.format import ArrayLayout
from workers.memory import WORKER_BASE_BYTES
from workers.solves.falkon import STRIP_ROWS as PANEL_STRIP_ROWS
from workers.solves.inverse_diagonal import panel_columns
from workers.solves.operator import Placement
from workers.solves.products import READ_AHEAD_TILES, STRIP_ROWS
from workers.solves.scratch import READ_AHEAD_BLOCKS
from workers.solves.throughput import BUFFER_BYTES
from workers.solves.tiled_cholesky import GROUP_BLOCKS

FLOAT64 = 8
GATHER_BYTES = 64 << 20  # of columns that one worker gathers before it sends them
# A tile in use exists as file bytes, decoded values and an XLA copy; the allocator keeps one more.
COPIES_OF_A_TILE = 4
SOLVER_BLOCKS = 14  # (m, k) float64 blocks alive in block_cg, scipy's QR and a checkpoint included


def vector_bytes(rows: int, columns: int, rhs: int) -> int:
    """Vectors of one application in a worker, K being (rows, columns).

    The message, float32 copies in both orientations or one in float64, the float64 sum in both
    orientations, and its serialised copy.
    """
    return FLOAT64 * rhs * (2 * columns + 3 * rows)


def apply_worker_bytes(
    *,
    rows: int,
    columns: int,
    rhs: int,
    tile_rows: int,
    itemsize: int,
    held_bytes: int,
    gathered_bytes: int = 0,
    base_bytes: int = WORKER_BASE_BYTES,
) -> int:
    """Peak of a worker that applies its share of K; `held_bytes` is 0 when it streams.

    `gathered_bytes`: of columns for a preconditioner, which are never there next to vectors.
    """
    tile = tile_rows**2 * itemsize
    reading = (READ_AHEAD_TILES + COPIES_OF_A_TILE) * tile
    strips = FLOAT64 * (STRIP_ROWS * tile_rows + 4 * tile_rows * rhs)
    working = max(strips + vector_bytes(rows, columns, rhs), gathered_bytes)
    # The bandwidth is measured last, when the allocator may still hold all of the above.
    return base_bytes + held_bytes + reading + working + BUFFER_BYTES


def placement_bytes(
    layout: ArrayLayout, *, rhs: int, rank: int, workers: int, base_bytes: int = WORKER_BASE_BYTES
) -> dict[Placement, int]:
    """Peak of a worker under each placement, `rank` columns being gathered before CG starts."""
    tile = {"tile_rows": layout.chunk_shape[0], "itemsize": layout.itemsize}
    triangle = held_share_bytes(n_tiles=layout.stored_chunks, workers=workers, **tile)
    held: dict[Placement, int] = {"memory": triangle, "stream": 0}
    return {
        placement: apply_worker_bytes(
            rows=layout.shape[0],
            columns=layout.shape[1],
            rhs=rhs,
            held_bytes=held_bytes,
            gathered_bytes=gather_bytes(
                rank=rank, rows=layout.shape[0], itemsize=layout.itemsize, workers=workers
            ),
            base_bytes=base_bytes,
            **tile,
        )
        for placement, held_bytes in held.items()
    }


def held_share_bytes(*, n_tiles: int, workers: int, tile_rows: int, itemsize: int) -> int:
    """Tiles that the fullest worker keeps under placement "memory"."""
    return -(-n_tiles // max(workers, 1)) * tile_rows**2 * itemsize


def gather_bytes(*, rank: int, rows: int, itemsize: int, workers: int) -> int:
    """Columns that a worker gathers before it sends them, and their serialised copy."""
    share = -(-rows * rank * itemsize // max(workers, 1))
    return 2 * min(share, GATHER_BYTES)


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


def tiled_worker_bytes(
    *,
    rows: int,
    rhs: int,
    tile_rows: int,
    itemsize: int,
    block: int,
    factor_itemsize: int = FLOAT64,
    base_bytes: int = WORKER_BASE_BYTES,
) -> int:
    """Peak of a worker of method "tiled-cholesky", whatever m is but for the vectors.

    It makes the blocks of one task next to the two it multiplies and one being written, solves
    with blocks read ahead, and streams tiles to certify (never at the same time).
    """
    edge = min(block, rows)
    making = (GROUP_BLOCKS + 4) * edge**2 * factor_itemsize + 2 * tile_rows**2 * itemsize
    solving = (READ_AHEAD_BLOCKS + 2) * edge**2 * factor_itemsize + 4 * FLOAT64 * rows * rhs
    streaming = apply_worker_bytes(
        rows=rows,
        columns=rows,
        rhs=rhs,
        tile_rows=tile_rows,
        itemsize=itemsize,
        held_bytes=0,
        base_bytes=0,
    )
    return base_bytes + max(making, solving, streaming)


def inverse_worker_bytes(*, rows: int, block: int, base_bytes: int = WORKER_BASE_BYTES) -> int:
    """Peak of a worker that makes entries of the diagonal of an inverse (inverse_diagonal.py).

    Columns of R⁻ᵀ, next to blocks of R read ahead, the one that is used and its transposed copy,
    and three strips of the columns.
    """
    edge, width = min(block, rows), panel_columns(rows, block)
    blocks = (READ_AHEAD_BLOCKS + 4) * edge**2
    return base_bytes + FLOAT64 * (blocks + (rows + 3 * edge) * width)


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
    # Two passes over all tiles follow, which say how far the model is from the exact solution.
    tiles = (READ_AHEAD_TILES + COPIES_OF_A_TILE) * tile_rows**2 * itemsize
    strips = FLOAT64 * tile_rows * (STRIP_ROWS + 8 * rhs)
    return base_bytes + tiles + strips + panel + 3 * stacked + 3 * factor + kernel


def falkon_worker_bytes(
    *,
    inducing: int,
    rhs: int,
    tile_rows: int,
    itemsize: int,
    base_bytes: int = WORKER_BASE_BYTES,
) -> int:
    """Peak of a worker that gathers panels of FALKON or multiplies with them.

    Gathering: a panel in float64, in the stored dtype and encoded, next to two tiles. Multiplying:
    panels read ahead, a strip in float64, and vectors.
    """
    panel = tile_rows * inducing
    gathering = panel * (FLOAT64 + 2 * itemsize) + 2 * tile_rows**2 * itemsize
    multiplying = (READ_AHEAD_BLOCKS + 2) * panel * itemsize + FLOAT64 * inducing * (
        PANEL_STRIP_ROWS + 4 * rhs
    )
    kernel_rows = FLOAT64 * inducing**2  # of all panels at most
    # The allocator may keep what gathering freed.
    return base_bytes + gathering + multiplying + kernel_rows


def falkon_coordinator_bytes(*, inducing: int) -> int:
    """Peak in the process that runs FALKON: K_SS, its symmetric part with jitter, and two factors
    next to what LAPACK copies."""
    return 5 * FLOAT64 * inducing**2


def coordinator_bytes(*, rows: int, rhs: int, workers: int) -> int:
    """Peak in the process that runs block CG, beyond what it used before."""
    return FLOAT64 * rows * rhs * (SOLVER_BLOCKS + 2 * workers)


def preconditioner_bytes(*, rows: int, rank: int) -> int:
    """Peak of building a low-rank preconditioner in the coordinator.

    The factor in float64; while half of it is added, those columns as they came and in float64;
    afterwards the basis in float32 next to the factor.
    """
    return rows * rank * (FLOAT64 + (4 + FLOAT64) // 2)
