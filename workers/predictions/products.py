"""The worker's side: compute the tiles of a cross-Gram and keep only their products.

A tile (rows, columns) of K(X*, X) becomes the numbers K A (rows, k) with the dual coefficients A of
its columns, in float64, and these are stored beside the result until it is complete. So a run that
was killed goes on from the tiles that were finished.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from storage.blobs import BlobStore
from storage.errors import NotFoundError
from storage.format import MatrixManifest
from storage.matrices import read_slice
from workers.errors import NonFiniteKernelError
from workers.plan import Tile
from workers.solves.solution import Float64
from workers.tiles import (
    BatchResult,
    GramTask,
    TileResult,
    TileTask,
    TileWorker,
    finish_batch,
)


@dataclass(frozen=True, kw_only=True)
class ProductTask(GramTask):
    """`manifest`: of the cross-Gram K(X*, X), which is in no store. `solution`: of the sealed
    result whose array `dual` is (m, k). `parts`: key under which the products are kept."""

    solution: MatrixManifest
    dual: str
    parts: str

    def key(self, tile: Tile) -> str:
        """Where the product of a tile is kept; other tile sizes have other keys."""
        return f"{self.parts}/{self.plan.tile_rows}/{tile[0]}-{tile[1]}"

    def product_shape(self, tile: Tile) -> tuple[int, int]:
        rows, _ = self.plan.extent(tile)
        return rows.stop - rows.start, self.solution.array(self.dual).shape[1]


def compute_products(task: TileTask, tiles: tuple[Tile, ...]) -> BatchResult:
    """Finish `tiles` of a ProductTask. Runs in a Dask worker; never raises for one tile."""
    return finish_batch(_ProductWorker, task, tiles)


class _ProductWorker(TileWorker):
    def finish(self, tile: Tile) -> TileResult:
        task = self._task
        assert isinstance(task, ProductTask)
        start = time.perf_counter()
        found = load_product(self._blobs, task, tile) is not None
        if not found:
            save_product(self._blobs, task, tile, self._product(task, tile))
        return TileResult(tile, (), not found, time.perf_counter() - start)

    def _product(self, task: ProductTask, tile: Tile) -> Float64:
        _, cols = task.plan.extent(tile)
        dual = read_slice(self._blobs, task.solution, task.dual, cols).astype(np.float64)
        height, step = task.product_shape(tile)[0], self._block_rows
        name = task.manifest.arrays[0].name
        strips: dict[int, list[Float64]] = {}
        for r, c, values in self.blocks(tile):
            weights = dual[c * step : (c + 1) * step]
            block = values[name][: min(step, height - r * step), : len(weights)]
            strips.setdefault(r, []).append(block.astype(np.float64) @ weights)
        product = np.concatenate([pairwise_sum(strips[r]) for r in sorted(strips)])
        if not np.isfinite(product).all():
            raise NonFiniteKernelError(
                f"The product of tile {tile} with the dual coefficients is not finite.",
                advice="Look at the dual coefficients and at the scale of the new inputs.",
            )
        return product


def pairwise_sum(terms: Sequence[Float64]) -> Float64:
    """Sum of equally shaped arrays by a balanced tree over aligned pairs.

    Tiles are aligned runs of 2^n compute blocks, so summing the blocks of each tile and then the
    tiles gives the same bits for every tile size.
    """
    level = list(terms)
    while len(level) > 1:
        pairs = [level[i] + level[i + 1] for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def save_product(blobs: BlobStore, task: ProductTask, tile: Tile, product: Float64) -> None:
    """Keep the product (rows, k) of a tile; atomic."""
    buffer = io.BytesIO()
    np.savez(buffer, product=product)
    blobs.put(task.key(tile), buffer.getbuffer())


def load_product(blobs: BlobStore, task: ProductTask, tile: Tile) -> Float64 | None:
    """The product (rows, k) of a tile; None if it is not there or fails its checksum."""
    try:
        data = blobs.get(task.key(tile))
        with np.load(io.BytesIO(data), allow_pickle=False) as members:
            product: Float64 = members["product"]
    except (NotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # damaged: computing it again replaces it
    return product if product.shape == task.product_shape(tile) else None
