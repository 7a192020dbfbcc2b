"""Which tiles a Gram matrix is made of, and in which order they are computed.

A plan is arithmetic on the shape: it holds no list of tiles, so a plan of 10^6 tiles costs the
same as a plan of ten. Tiles come in Morton (Z) order, in which any run of consecutive tiles lies
in a small square of the grid: a batch of 64 tiles touches about 16 row panels of the data, not 65.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from storage.format import MatrixManifest

Tile = tuple[int, int]


@dataclass(frozen=True)
class TilePlan:
    """The tile grid of an (n1, n2) Gram matrix.

    `tile_rows` (the edge of a tile, in rows) is `block_rows * 2**k`, where `block_rows` is the
    edge of the compute blocks: every value is computed in the same aligned block whatever the
    tile, so the numbers do not depend on the tile size. Symmetric plans hold the tiles i <= j.
    """

    shape: tuple[int, int]
    symmetric: bool
    tile_rows: int
    block_rows: int

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"a Gram matrix needs at least one row and column, not {self.shape}")
        if self.symmetric and self.shape[0] != self.shape[1]:
            raise ValueError(f"a symmetric Gram matrix is square, not {self.shape}")
        if not is_tile_edge(self.tile_rows, self.block_rows):
            raise ValueError(
                f"tile_rows={self.tile_rows} is not block_rows={self.block_rows} times a power of 2"
            )

    @classmethod
    def of(cls, manifest: MatrixManifest) -> TilePlan:
        """The plan of a stored Gram matrix (all its arrays share one grid)."""
        layout = manifest.arrays[0]
        return cls(
            shape=(layout.shape[0], layout.shape[1]),
            symmetric=layout.symmetric,
            tile_rows=layout.chunk_shape[0],
            block_rows=manifest.block_rows,
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Number of tiles along rows and columns."""
        return math.ceil(self.shape[0] / self.tile_rows), math.ceil(self.shape[1] / self.tile_rows)

    @property
    def n_tiles(self) -> int:
        g1, g2 = self.grid
        return g1 * (g1 + 1) // 2 if self.symmetric else g1 * g2

    @property
    def pairs(self) -> int:
        """Number of kernel evaluations: entries of the upper triangle with diagonal, or all."""
        n1, n2 = self.shape
        return n1 * (n1 + 1) // 2 if self.symmetric else n1 * n2

    @property
    def computed_pairs(self) -> int:
        """Kernel evaluations including what padding and whole diagonal blocks add."""
        b1 = math.ceil(self.shape[0] / self.block_rows)
        b2 = math.ceil(self.shape[1] / self.block_rows)
        blocks = b1 * (b1 + 1) // 2 if self.symmetric else b1 * b2
        return blocks * self.block_rows**2

    def extent(self, tile: Tile) -> tuple[slice, slice]:
        """Rows and columns of the matrix that a tile covers (ragged at the edges)."""
        i, j = tile
        t = self.tile_rows
        return (
            slice(i * t, min((i + 1) * t, self.shape[0])),
            slice(j * t, min((j + 1) * t, self.shape[1])),
        )

    def tiles(self) -> Iterator[Tile]:
        """All tiles in Morton order, lazily."""
        g1, g2 = self.grid
        size = 1 << (max(g1, g2) - 1).bit_length()
        # Depth-first walk over the quadtree of the grid; squares that are outside the grid or
        # wholly below the diagonal are dropped without being entered.
        stack = [(0, 0, size)]
        while stack:
            i, j, size = stack.pop()
            if i >= g1 or j >= g2 or (self.symmetric and i >= j + size):
                continue
            if size == 1:
                yield i, j
                continue
            half = size // 2
            stack += [
                (i + half, j + half, half),
                (i + half, j, half),
                (i, j + half, half),
                (i, j, half),
            ]


def is_tile_edge(tile_rows: int, block_rows: int) -> bool:
    """Whether `tile_rows` is `block_rows` times a power of two."""
    factor, remainder = divmod(tile_rows, block_rows)
    return remainder == 0 and factor > 0 and factor & (factor - 1) == 0


def choose_block_rows(rows: int, block_rows: int) -> int:
    """Edge of the compute blocks for a matrix whose longer side is `rows`.

    Small matrices get a smaller block (the next multiple of 64) so that padding does not dominate.
    Depends on the matrix and the setting only, never on the tile size or the cluster.
    """
    return min(block_rows, math.ceil(rows / 64) * 64)


MAX_BLOCK_FLOPS = float(1 << 34)
"""Arithmetic of one compute block of an expensive kernel: seconds of one core, between which a
worker looks at its stop flag. Counted from the spec, never timed: the edge of the blocks is part
of the identity of a matrix."""


def choose_costly_block_rows(rows: int, block_rows: int, flops_per_pair: float) -> int:
    """Edge of the compute blocks for kernels that cost much per entry: a power of two.

    At most `block_rows`, at most what covers `rows`, and small enough for MAX_BLOCK_FLOPS (or 1).
    """
    affordable = math.isqrt(max(1, int(MAX_BLOCK_FLOPS / max(flops_per_pair, 1.0))))
    covering = 1 << (rows - 1).bit_length()
    return int(min(_power_below(block_rows), covering, _power_below(affordable)))


def _power_below(number: int) -> int:
    """The largest power of two that is at most `number` >= 1."""
    return 1 << (number.bit_length() - 1)


def choose_tile_rows(
    shape: tuple[int, int],
    *,
    symmetric: bool,
    block_rows: int,
    itemsize: int,
    seconds_per_pair: float,
    workers: int,
    max_chunk_bytes: int,
    max_tile_seconds: float,
) -> int:
    """Largest tile edge that keeps chunks, tasks and parallelism reasonable.

    A tile is one Zarr chunk of at most `max_chunk_bytes` (mechanics: 4-16 MiB chunks are fastest),
    takes at most `max_tile_seconds` (so progress moves and cancelling is quick; a single compute
    block may exceed it), and there are at least four tiles per worker when the matrix allows it.
    """
    edge = block_rows
    while True:
        candidate = edge * 2
        plan = TilePlan(shape, symmetric, candidate, block_rows)
        if (
            candidate**2 * itemsize > max_chunk_bytes
            or candidate**2 * seconds_per_pair > max_tile_seconds
            or plan.n_tiles < 4 * workers
        ):
            return edge
        edge = candidate
