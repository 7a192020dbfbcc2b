"""Products of stored tiles with skinny blocks of vectors: the inner loop of every solve.

Each tile is read once and used for itself and, above the diagonal of a symmetric matrix, for its
transpose. Products of float32 tiles run in float32 (skinny.py) and are summed over tiles in
float64; `precise` products convert the tile to float64 first. JAX and numba are imported only when
a float32 product is made, which happens in workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.solves.skinny import SkinnyProducts, on_accelerator
from workers.solves.solution import Float64
from workers.solves.source import Tile, TileSource, tile_buffer

STRIP_ROWS = 256  # rows converted to float64 at a time in precise products
READ_AHEAD_TILES = 2  # tiles in memory beyond the one in use, when streaming


@dataclass(frozen=True)
class Partial:
    """Rows [row_start, row_start + len(values)) of a share's part of K V, in float64."""

    row_start: int
    values: Float64  # (rows, k)
    bytes_read: int  # from the store, 0 when the tiles were held
    bytes_multiplied: int  # of tiles


class HeldTiles:
    """Tiles kept in memory between applications: float32 on the accelerator if there is one, else
    in NumPy."""

    def __init__(self) -> None:
        self._tiles: dict[tuple[int, int], Any] = {}

    def get(self, tile: Tile) -> Any | None:
        """A NumPy or JAX array."""
        return self._tiles.get((tile.i, tile.j))

    def put(self, tile: Tile, values: NDArray[Any]) -> Any:
        """Keep `values` and return the kept object."""
        kept: Any = values
        if values.dtype == np.float32 and on_accelerator():
            import jax.numpy as jnp

            kept = jnp.asarray(values)
        self._tiles[(tile.i, tile.j)] = kept
        return kept

    def __len__(self) -> int:
        return len(self._tiles)


def multiply_tiles(
    source: TileSource,
    tiles: Iterable[Tile],
    vectors: NDArray[Any],
    *,
    precise: bool,
    held: HeldTiles | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> Partial:
    """The part of K V that these tiles contribute. `vectors`: (columns of K, k).

    With `held`, tiles are kept there after the first use; without, they are read ahead and
    dropped: the bits are the same. `check_stop` is called before each tile and may raise.
    """
    listed = list(tiles)
    if not listed:
        return Partial(0, np.zeros((0, vectors.shape[1])), 0, 0)
    reach = [t.rows for t in listed] + [t.cols for t in listed if t.mirrored]
    first, last = min(s.start for s in reach), max(s.stop for s in reach)
    total = np.zeros((vectors.shape[1], last - first))  # a row per vector, as tile_kernel adds
    float32 = source.layout.dtype == "float32" and not precise
    products = SkinnyProducts(vectors) if float32 else _PreciseProducts(vectors)
    bytes_read = bytes_multiplied = 0
    for tile, values, fresh in _supply(source, listed, held):
        check_stop()
        bytes_read += fresh
        bytes_multiplied += values.nbytes
        products.add(values, tile.rows, tile.cols, total, first=first, mirrored=tile.mirrored)
    return Partial(first, np.ascontiguousarray(total.T), bytes_read, bytes_multiplied)


@dataclass(frozen=True)
class Gathered:
    """Entries of some columns: (first row, which of the columns, values (rows, c)), and so on."""

    pieces: list[tuple[int, NDArray[np.int64], NDArray[Any]]]
    bytes_read: int


def gather_columns(
    source: TileSource,
    tiles: Iterable[Tile],
    indices: NDArray[np.int64],
    *,
    held: HeldTiles | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> Gathered:
    """What these tiles hold of K[:, indices], `indices` ascending. Other tiles are not read."""

    def inside(extent: slice) -> NDArray[np.int64]:
        low, high = np.searchsorted(indices, [extent.start, extent.stop])
        return np.arange(low, high)

    wanted = [t for t in tiles if inside(t.cols).size or (t.mirrored and inside(t.rows).size)]
    pieces, bytes_read = [], 0
    for tile, kept, fresh in _supply(source, wanted, held):
        check_stop()
        bytes_read += fresh
        values = np.asarray(kept)
        right = inside(tile.cols)
        if right.size:
            local = indices[right] - tile.cols.start
            pieces.append((tile.rows.start, right, np.ascontiguousarray(values[:, local])))
        below = inside(tile.rows) if tile.mirrored else right[:0]
        if below.size:
            local = indices[below] - tile.rows.start
            pieces.append((tile.cols.start, below, np.ascontiguousarray(values[local].T)))
    return Gathered(pieces, bytes_read)


def _supply(
    source: TileSource, tiles: list[Tile], held: HeldTiles | None
) -> Iterator[tuple[Tile, Any, int]]:
    """Each tile with its values and the bytes read for it, reading ahead of the consumer.

    Values that are not held are good until the next tile is asked for: their memory is used again.
    """
    ring: list[memoryview] = []

    def buffer(number: int) -> memoryview:
        """Of tiles held: new memory. Otherwise: that of a tile which the consumer is done with."""
        if held is not None:
            return tile_buffer(source.layout)
        if len(ring) <= READ_AHEAD_TILES:
            ring.append(tile_buffer(source.layout))
        return ring[number % len(ring)]

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        waiting: list[tuple[Tile, Any]] = []

        def finish(tile: Tile, pending: Any) -> tuple[Tile, Any, int]:
            if pending is None:
                there = held.get(tile) if held is not None else None
                assert there is not None
                return tile, there, 0
            values: NDArray[Any] = pending.result()
            return tile, values if held is None else held.put(tile, values), values.nbytes

        try:
            for number, tile in enumerate(tiles):
                there = held is not None and held.get(tile) is not None
                pending = None if there else reader.submit(source.read, tile, buffer(number))
                waiting.append((tile, pending))
                if len(waiting) > READ_AHEAD_TILES:
                    yield finish(*waiting.pop(0))
            while waiting:
                yield finish(*waiting.pop(0))
        finally:
            for _, pending in waiting:
                if pending is not None:
                    pending.cancel()


class _PreciseProducts:
    """float64 products of float32 or float64 tiles, a strip of rows at a time."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        self._vectors = np.ascontiguousarray(vectors, dtype=np.float64)

    def add(
        self,
        values: Any,
        rows: slice,
        cols: slice,
        total: Float64,
        *,
        first: int,
        mirrored: bool,
    ) -> None:
        """As `SkinnyProducts.add`."""
        entries = np.asarray(values)
        right, left = self._vectors[cols], self._vectors[rows] if mirrored else None
        bottom = np.zeros((entries.shape[1], right.shape[1]))
        for start in range(0, entries.shape[0], STRIP_ROWS):
            strip = entries[start : start + STRIP_ROWS].astype(np.float64, copy=False)
            above = rows.start - first + start
            total[:, above : above + len(strip)] += (strip @ right).T
            if left is not None:
                bottom += strip.T @ left[start : start + STRIP_ROWS]
        if left is not None:
            total[:, cols.start - first : cols.stop - first] += bottom.T
