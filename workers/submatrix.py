"""Chosen rows and columns of a stored symmetric matrix, as a matrix of their own.

A tile of the result is put together from the stored tiles that its rows and columns lie in, so no
process holds more than a tile of each.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.format import FORMAT_VERSION, ArrayLayout, MatrixManifest
from storage.keys import matrix_id
from workers.estimate import Estimate
from workers.gram import request_digest, software_versions
from workers.plan import Tile, TilePlan, choose_block_rows, choose_tile_rows
from workers.solves.errors import InvalidSolveError
from workers.solves.source import StoredTiles, tile_at
from workers.tiles import BatchResult, TileTask, TileWorker, finish_batch

Indices = NDArray[np.int64]

READ_SECONDS_PER_BYTE = 2e-9
"""Reading a stored tile, checking it and picking entries from it, one core."""


@dataclass(frozen=True, kw_only=True)
class SubmatrixTask(TileTask):
    """Tiles of the entries `rows` by `columns` (ascending) of `source`; columns None: as rows."""

    source: StoredTiles
    rows: Indices
    columns: Indices | None


def submatrix_manifest(
    source: StoredTiles,
    rows: Indices,
    columns: Indices | None,
    *,
    compute_block_rows: int,
    max_chunk_bytes: int,
    workers: int,
) -> MatrixManifest:
    """Manifest of the chosen entries of `source` (symmetric); columns None: those of the rows.

    Which ones is written down as `pack_indices` does. Raises InvalidSolveError for indices that
    are not ascending or beyond the edge.
    """
    edge = source.layout.shape[0]
    for name, chosen in (("rows", rows), ("columns", columns)):
        if chosen is not None:
            _check(name, chosen, edge)
    second = rows if columns is None else columns
    shape = len(rows), len(second)
    block_rows = choose_block_rows(max(shape), compute_block_rows)
    tile_rows = choose_tile_rows(
        shape,
        symmetric=columns is None,
        block_rows=block_rows,
        itemsize=source.layout.itemsize,
        seconds_per_pair=0.0,
        workers=workers,
        max_chunk_bytes=max_chunk_bytes,
        max_tile_seconds=math.inf,
    )
    base = source.manifest.provenance.get("request", {})
    request = {
        "format": FORMAT_VERSION,
        "task": "submatrix",
        "matrix": source.manifest.id,
        "array": source.array,
        "rows": pack_indices(rows, edge),
        "columns": None if columns is None else pack_indices(columns, edge),
        "block_rows": block_rows,
        # As in the request of a gram job, so that a cross-Gram can be told to belong to its Gram.
        "kernel": base.get("kernel"),
        "x1": selection_name(source, rows),
        "x2": None if columns is None else selection_name(source, columns),
    }
    layout = ArrayLayout(
        source.array, shape, (tile_rows, tile_rows), source.layout.dtype, symmetric=columns is None
    )
    return MatrixManifest(
        id=matrix_id(request_digest(request)),
        kind="gram",
        arrays=(layout,),
        block_rows=block_rows,
        provenance={"request": request, "software": software_versions()},
    )


def selection_name(source: StoredTiles, chosen: Indices) -> str:
    """Names chosen rows of a matrix; no data set has such a name."""
    packed = pack_indices(chosen, source.layout.shape[0])
    return f"{source.manifest.id}/{hashlib.sha256(packed.encode()).hexdigest()[:32]}"


def pack_indices(chosen: Indices, edge: int) -> str:
    """Ascending indices below `edge` as base64 of one bit each, the first in the highest bit."""
    present = np.zeros(edge, bool)
    present[chosen] = True
    return base64.b64encode(np.packbits(present).tobytes()).decode()


def unpack_indices(text: str) -> Indices:
    """Inverse of `pack_indices`."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))
    return np.flatnonzero(bits)


def estimate_submatrix(
    source: StoredTiles, manifest: MatrixManifest, *, workers: int, worker_base_bytes: int
) -> Estimate:
    """Cost of all tiles. Each needs the stored tiles that its rows and columns lie in."""
    layout, stored = manifest.arrays[0], source.layout
    plan = TilePlan.of(manifest)
    request = manifest.provenance["request"]
    rows = unpack_indices(request["rows"])
    columns = rows if request["columns"] is None else unpack_indices(request["columns"])
    tile_bytes = math.prod(stored.chunk_shape) * stored.itemsize
    down, across = (
        sum(
            len(np.unique(chosen[start : start + plan.tile_rows] // stored.chunk_shape[0]))
            for start in range(0, len(chosen), plan.tile_rows)
        )
        for chosen in (rows, columns)
    )
    reads = down * across / (2 if layout.symmetric else 1)
    seconds = reads * tile_bytes * READ_SECONDS_PER_BYTE
    chunk = math.prod(layout.chunk_shape) * layout.itemsize
    return Estimate(
        tiles=plan.n_tiles,
        tile_rows=plan.tile_rows,
        pairs=plan.pairs,
        flops=0.0,
        bytes_written=manifest.stored_bytes,
        peak_bytes_per_worker=worker_base_bytes + 4 * chunk + 3 * tile_bytes,
        seconds_per_tile=seconds / plan.n_tiles,
        seconds=seconds / max(1, min(workers, plan.n_tiles)),
        workers=workers,
        representation="stored",
        basis="model",
    )


def compute_submatrix_batch(task: TileTask, tiles: tuple[Tile, ...]) -> BatchResult:
    """`compute_batch` for a SubmatrixTask. Runs in a Dask worker."""
    return finish_batch(SubmatrixWorker, task, tiles)


class SubmatrixWorker(TileWorker):
    """Picks the entries of tiles from stored tiles."""

    def blocks(self, tile: Tile) -> Iterator[tuple[int, int, dict[str, Any]]]:
        task = self._task
        assert isinstance(task, SubmatrixTask)
        extent = task.plan.extent(tile)
        rows = task.rows[extent[0]]
        cols = (task.rows if task.columns is None else task.columns)[extent[1]]
        values = self._picked(task.source, rows, cols)
        name, step = task.manifest.arrays[0].name, self._block_rows
        for r, top in enumerate(range(0, len(rows), step)):
            for c, left in enumerate(range(0, len(cols), step)):
                if not (self._on_diagonal(tile) and c < r):
                    block = values[top : top + step, left : left + step]
                    yield r, c, {name: np.ascontiguousarray(block)}

    def _picked(self, source: StoredTiles, rows: Indices, cols: Indices) -> NDArray[Any]:
        edge = source.layout.chunk_shape[0]
        values = np.empty((len(rows), len(cols)), source.layout.dtype)
        down, across = rows // edge, cols // edge
        for i in np.unique(down):
            for j in np.unique(across):
                self.check_stop()
                mirrored = i > j  # the stored tile is the transpose
                stored = source.read(tile_at(source.layout, *sorted((int(i), int(j)))))
                part = stored.T if mirrored else stored
                here, there = np.flatnonzero(down == i), np.flatnonzero(across == j)
                picked = part[np.ix_(rows[here] - i * edge, cols[there] - j * edge)]
                values[here[0] : here[-1] + 1, there[0] : there[-1] + 1] = picked
        return values


def _check(name: str, chosen: Indices, edge: int) -> None:
    if len(chosen) == 0 or (np.diff(chosen) <= 0).any() or chosen[0] < 0 or chosen[-1] >= edge:
        raise InvalidSolveError(
            f"{name} must be ascending numbers from 0 to {edge - 1}, each at most once.",
            advice="Sort them; the matrix says how many rows it has.",
        )
