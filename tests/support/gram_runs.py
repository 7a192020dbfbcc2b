"""Making small Gram jobs and running them to a sealed matrix, without the service."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
from distributed import Client

from storage import datasets, matrices
from storage.blobs import BlobStore
from storage.catalog.records import TileRecord
from storage.datasets import DatasetInfo
from storage.digest import array_digest
from workers.driver import DriverSettings, GramOutcome, run_gram
from workers.gram import gram_manifest
from workers.kernels.spec import parse_kernel
from workers.pixel_gram import PixelTask, pixel_manifest
from workers.plan import TilePlan
from workers.tiles import GramTask, TileResult

RELU3 = {"preset": "fc", "depth": 3, "activation": "relu", "w_std": 2**0.5}
CONV = {"op": "conv", "filter": [3, 3], "w_std": 2**0.5}
RELU = {"op": "activation", "fn": "relu"}
PIXEL_NETWORK = {"layers": [CONV, RELU, CONV]}


def random_dataset(blobs: BlobStore, rows: int, features: int = 20, seed: int = 0) -> DatasetInfo:
    x = np.random.default_rng(seed).standard_normal((rows, features)).astype(np.float32)
    return datasets.ingest(blobs, x)


def gram_task(
    blobs: BlobStore,
    x1: DatasetInfo,
    x2: DatasetInfo | None = None,
    *,
    kernel: Any = None,
    outputs: tuple[str, ...] = ("ntk",),
    block_rows: int = 64,
    tile_rows: int = 64,
) -> GramTask:
    """A task whose matrix is created (unsealed) in the store."""
    spec = parse_kernel(kernel or RELU3)
    manifest = gram_manifest(
        spec,
        x1,
        x2,
        dtype="float32",
        outputs=outputs,
        block_rows=block_rows,
        tile_rows=tile_rows,
    )
    matrices.create(blobs, manifest)
    return GramTask(
        store_url=blobs.url,
        manifest=manifest,
        kernel=spec.canonical(),
        x1=x1,
        x2=x2,
        panel_cache_bytes=64 << 20,
        run=secrets.token_hex(8),
    )


def pixel_task(
    blobs: BlobStore,
    x: DatasetInfo,
    images: tuple[int, int],
    *,
    outputs: tuple[str, ...] = ("nngp", "ntk"),
    **options: Any,
) -> PixelTask:
    """The same for the pixels of two images of `x`, by PIXEL_NETWORK."""
    spec = parse_kernel(PIXEL_NETWORK)
    manifest = pixel_manifest(spec, x, images, dtype="float32", outputs=outputs, **options)
    matrices.create(blobs, manifest)
    return PixelTask(
        store_url=blobs.url,
        manifest=manifest,
        kernel=spec.canonical(),
        x=x,
        panel_cache_bytes=1 << 20,
        run=secrets.token_hex(8),
        images=images,
    )


class Run:
    """Collects the records of one run, like the catalog does."""

    def __init__(self, task: GramTask) -> None:
        self.task = task
        self.records: dict[tuple[str, int, int], TileRecord] = {}
        self.results: list[TileResult] = []

    def on_results(self, results: list[TileResult]) -> None:
        self.results += results
        for result in results:
            for record in result.records:
                self.records[record.array, record.i, record.j] = record

    def stored(self) -> np.ndarray:
        plan = TilePlan.of(self.task.manifest)
        grid = np.zeros(plan.grid, bool)
        for _, i, j in self.records:
            grid[i, j] = True
        return grid

    def go(
        self,
        client: Client,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        settings: DriverSettings | None = None,
        seconds_per_tile: float = 0.01,
        **options: Any,
    ) -> GramOutcome:
        return run_gram(
            client,
            self.task,
            stored=self.stored(),
            on_results=self.on_results,
            should_stop=should_stop,
            seconds_per_tile=seconds_per_tile,
            settings=settings or DriverSettings(batch_seconds=0.05),
            **options,
        )

    def digests(self) -> dict[str, str]:
        """Array digests from the tile records."""
        manifest = self.task.manifest
        return {
            layout.name: array_digest(
                layout,
                (
                    ((i, j), record.digest)
                    for (name, i, j), record in self.records.items()
                    if name == layout.name
                ),
                manifest.block_rows,
            )
            for layout in manifest.arrays
        }
