"""Predictions from the first tile to the sum, resumed from the products that are kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from storage.blobs import BlobStore, open_blobs
from workers.driver import DriverSettings, run_gram
from workers.errors import ClusterUnavailableError, TileFailedError
from workers.predictions.products import (
    ProductTask,
    compute_products,
    load_product,
    pairwise_sum,
)
from workers.solves.solution import Float64
from workers.tiles import TileResult

OnTiles = Callable[[list[TileResult], int, int], None]  # new results, tiles done, tiles in all

_MAX_ROUNDS = 3  # products found damaged when they are summed are computed again this often


def begun_tile_rows(blobs: BlobStore, parts: str) -> int | None:
    """Tile edge of a run that left products under `parts`, or None. The largest if several did."""
    edges = [int(name) for name in blobs.folders(parts) if name.isdecimal()]
    return max(edges, default=None)


def kept_tiles(blobs: BlobStore, task: ProductTask) -> NDArray[np.bool_]:
    """Grid-shaped booleans: which products are stored. Reads names only."""
    kept = np.zeros(task.plan.grid, dtype=np.bool_)
    for key in blobs.list(f"{task.parts}/{task.plan.tile_rows}"):
        i, _, j = key.rpartition("/")[2].partition("-")
        if i.isdecimal() and j.isdecimal():
            kept[int(i), int(j)] = True
    return kept


def run_predictions(
    client: Client,
    task: ProductTask,
    *,
    on_tiles: OnTiles,
    should_stop: Callable[[], bool],
    seconds_per_tile: float,
    settings: DriverSettings,
) -> Float64 | None:
    """K(X*, X) A (n, k) float64; None when told to stop.

    Blocking; call it from a thread. A product found damaged at the end is computed again. Raises
    TileFailedError, NonFiniteKernelError, WorkerMemoryError, ClusterUnavailableError; finished
    products are kept.
    """
    blobs = open_blobs(task.store_url)
    kept = kept_tiles(blobs, task)
    for _ in range(_MAX_ROUNDS):
        counter = _Counter(on_tiles, int(np.count_nonzero(kept)), task.plan.n_tiles)
        counter([])
        outcome = run_gram(
            client,
            task,
            stored=kept,
            on_results=counter,
            should_stop=lambda: should_stop() or client.status == "closed",
            seconds_per_tile=seconds_per_tile,
            settings=settings,
            compute=compute_products,
        )
        if outcome.stopped:
            if not should_stop():
                raise ClusterUnavailableError(
                    "The scheduler stayed away, so the connection was given up.",
                    advice="The job goes on when a scheduler answers again.",
                )
            return None
        summed, kept = sum_products(blobs, task)
        if summed is not None:
            return summed
    raise TileFailedError(
        f"{np.count_nonzero(~kept)} products of tiles were damaged right after they were written.",
        advice="Check the disk of the store, then submit the same job again.",
    )


class _Counter:
    def __init__(self, on_tiles: OnTiles, done: int, total: int) -> None:
        self._on_tiles, self._done, self._total = on_tiles, done, total

    def __call__(self, results: list[TileResult]) -> None:
        self._done += len(results)
        self._on_tiles(results, self._done, self._total)


def sum_products(blobs: BlobStore, task: ProductTask) -> tuple[Float64 | None, NDArray[np.bool_]]:
    """The predictions (n, k), or None with the grid of the products that could be read."""
    plan = task.plan
    readable = np.ones(plan.grid, dtype=np.bool_)
    strips: list[Float64] = []
    for i in range(plan.grid[0]):
        row = [load_product(blobs, task, (i, j)) for j in range(plan.grid[1])]
        readable[i] = [product is not None for product in row]
        if readable[i].all():
            strips.append(pairwise_sum([product for product in row if product is not None]))
    return (np.concatenate(strips) if readable.all() else None), readable
