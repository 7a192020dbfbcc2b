"""Progress of a Gram job: counts finished tiles, records them, and measures their speed."""

from __future__ import annotations

import math
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.jobs.progress import Pace, Reporter
from storage.catalog import Catalog
from storage.format import MatrixManifest
from workers.plan import Tile, TilePlan
from workers.tiles import TileFailure, TileResult

TILE_FAILED = "tile-failed"  # the type of their events

# Tiles whose speed is remembered for the estimate of later jobs: enough for a median.
_MIN_SPEEDS, _MAX_SPEEDS = 8, 4096
# Failures that a run announces, and workers that its progress names: what is kept per job, and
# sent to its watchers again and again, stays small.
_MAX_FAILURES = 100
_MAX_WORKERS = 32


class TileProgress:
    """Counts finished tiles: records go to the catalog at once, news at a bounded pace."""

    def __init__(
        self,
        catalog: Catalog,
        reporter: Reporter,
        manifest: MatrixManifest,
        stored: NDArray[np.bool_],
    ) -> None:
        self.stored = stored
        self._plan = TilePlan.of(manifest)
        self.total = self._plan.n_tiles
        self._catalog = catalog
        self._reporter = reporter
        self._matrix_id = manifest.id
        self._tile_bytes = manifest.stored_bytes // self.total
        self._resumed = int(np.count_nonzero(stored))
        self._finished = 0
        self._pace = Pace()
        # Seconds per pair of computed tiles, and their pairs.
        self._speeds: list[tuple[float, int]] = []
        self._failures = 0
        # Tiles and seconds of each worker in this run, by address.
        self._workers: dict[str, tuple[int, float]] = {}

    def on_results(self, results: list[TileResult]) -> None:
        self._catalog.add_tiles(
            self._matrix_id, [record for result in results for record in result.records]
        )
        for result in results:
            if result.computed and len(self._speeds) < _MAX_SPEEDS:
                pairs = _computed_pairs(self._plan, result.tile)
                self._speeds.append((result.seconds / pairs, pairs))
            tiles, seconds = self._workers.get(result.worker, (0, 0.0))
            self._workers[result.worker] = (tiles + 1, seconds + result.seconds)
        self._finished += len(results)
        self._pace.add(self._finished)
        self._reporter.report(self.snapshot())

    def on_failure(self, failure: TileFailure) -> None:
        """Announce an attempt at a tile that failed."""
        self._failures += 1
        if self._failures <= _MAX_FAILURES:
            self._reporter.announce(TILE_FAILED, {**asdict(failure), "tile": list(failure.tile)})

    def record_rate(self, key: str) -> None:
        """Keep this run's speed for later estimates.

        The median tile: each worker's first one carries the import and compilation of JAX, which
        can be a hundred times the rest.
        """
        if len(self._speeds) >= _MIN_SPEEDS:
            pairs = sum(count for _, count in self._speeds)
            self._catalog.record_rate(key, median(speed for speed, _ in self._speeds), pairs)

    def snapshot(self, phase: str = "computing") -> dict[str, Any]:
        done = self._resumed + self._finished
        rate = self._pace.per_second()
        return {
            "phase": phase,
            "fraction": done / self.total,
            "tiles_done": done,
            "tiles_total": self.total,
            "tiles_resumed": self._resumed,
            "bytes_written": done * self._tile_bytes,
            "bytes_total": self.total * self._tile_bytes,
            "tiles_per_second": rate,
            "seconds_left": self._pace.seconds_left(self.total - done),
            "workers": self._busiest_workers(),
        }

    def _busiest_workers(self) -> list[dict[str, Any]]:
        """Who finished how many tiles in this run, in how many seconds of work."""
        busiest = sorted(self._workers.items(), key=lambda item: -item[1][0])
        return [
            {"worker": address, "tiles": tiles, "seconds": seconds}
            for address, (tiles, seconds) in busiest[:_MAX_WORKERS]
            if address
        ]


def _computed_pairs(plan: TilePlan, tile: Tile) -> int:
    """Kernel evaluations of one tile, with padded blocks and whole diagonal blocks."""
    rows, cols = plan.extent(tile)
    height = math.ceil((rows.stop - rows.start) / plan.block_rows)
    width = math.ceil((cols.stop - cols.start) / plan.block_rows)
    diagonal = plan.symmetric and tile[0] == tile[1]
    blocks = height * (height + 1) // 2 if diagonal else height * width
    return int(blocks * plan.block_rows * plan.block_rows)
