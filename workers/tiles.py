"""The one task of a Gram job: compute a batch of tiles and write each as one whole chunk.

Idempotent: a tile whose chunks are already stored and pass their checksums is not computed again,
so a retried, duplicated or resumed batch costs one read. Tiles return a few numbers, never data.

Each chunk is followed by its preview (storage.previews), made while its values are in memory. A
preview that cannot be written costs the tile nothing: it is logged and counted, and made again
from the chunk by whoever wants to look at it.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import datasets, matrices, previews
from storage.blobs import BlobStore, open_blobs
from storage.catalog.records import TileRecord
from storage.chunks import ChunkBuffer
from storage.datasets import DatasetInfo
from storage.errors import (
    CorruptChunkError,
    DiskFullError,
    GramianError,
    MissingChunkError,
    StoreUnavailableError,
)
from storage.format import MatrixManifest
from workers.errors import RepairMismatchError, WorkerMemoryError
from workers.kernels import cost
from workers.logs import about_job
from workers.panels import PreparedPanel
from workers.plan import Tile, TilePlan
from workers.relief import relieve
from workers.stops import stop_key
from workers.tile_arrays import TileArray, TileStatistics, stored_statistics
from workers.trials import MAX_DEATHS, trial
from workers.worker_state import WorkerState, own_address, worker_state

logger = logging.getLogger(__name__)

STOP_POLL_SECONDS = 0.2
# A request to a store elsewhere takes milliseconds, and may cost money.
REMOTE_STOP_POLL_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class TileTask:
    """What all batches of one run share; a few kilobytes, sent along with each batch. What the
    tiles are computed from is up to subclasses."""

    store_url: str
    manifest: MatrixManifest
    panel_cache_bytes: int
    run: str  # names this run's stop flag (workers.stops)
    job: str = ""  # what log lines of the workers name
    # Set for a repair: tiles are computed although they are stored, and written, also to a sealed
    # matrix, only if they have these digests again.
    repair: Mapping[tuple[str, Tile], bytes] | None = None

    @property
    def plan(self) -> TilePlan:
        return TilePlan.of(self.manifest)

    @property
    def stop_key(self) -> str:
        """The run is asked to stop by writing this key: seen by every worker that can write
        tiles, including one that the scheduler has lost."""
        return stop_key(self.run)


@dataclass(frozen=True, kw_only=True)
class GramTask(TileTask):
    """Tiles of the kernel of samples."""

    kernel: dict[str, Any]  # canonical kernel spec
    x1: DatasetInfo
    x2: DatasetInfo | None  # None: symmetric


@dataclass(frozen=True)
class TileResult:
    """One finished tile: a record per output array; `computed` is False if it was found stored.

    `worker`: the address of the process that did it. `missing_previews`: of how many of its
    arrays the preview could not be written."""

    tile: Tile
    records: tuple[TileRecord, ...]
    computed: bool
    seconds: float
    worker: str = ""
    missing_previews: int = 0


@dataclass(frozen=True)
class TileFailure:
    """One tile that raised. `fatal`: trying again cannot help."""

    tile: Tile
    kind: str
    message: str
    advice: str
    fatal: bool


@dataclass(frozen=True)
class BatchResult:
    done: tuple[TileResult, ...]
    failed: tuple[TileFailure, ...]
    stopped: bool  # the stop flag was seen; tiles after it were not touched


class _StopSeenError(Exception):
    """The stop flag was seen between two compute blocks."""


def compute_batch(task: TileTask, tiles: tuple[Tile, ...]) -> BatchResult:
    """Compute `tiles` of a GramTask, in the given order. Runs in a Dask worker.

    Never raises for a fault of one tile: it becomes a `TileFailure` and the next tile follows.
    """
    return finish_batch(TileWorker, task, tiles)


def finish_batch(worker: type[TileWorker], task: TileTask, tiles: tuple[Tile, ...]) -> BatchResult:
    """`compute_batch` with another idea of what to do with the values of a tile."""
    with about_job(task.job):
        started = time.perf_counter()
        state = worker_state()
        try:
            result = _finish_batch(worker, task, tiles, state)
        finally:
            relieve(state)
        seconds = time.perf_counter() - started
        logger.info("%d tiles of %s in %.2f s.", len(result.done), task.manifest.id, seconds)
        return result


def _finish_batch(
    kind: type[TileWorker], task: TileTask, tiles: tuple[Tile, ...], state: WorkerState
) -> BatchResult:
    blobs = open_blobs(task.store_url)
    state.panels.limit_bytes = task.panel_cache_bytes
    worker = kind(task, blobs, state, _stop_check(blobs, task.stop_key))
    if len(tiles) > 1:
        return _finish_tiles(worker, task, tiles)
    with trial(blobs, task.run, tiles[0]) as deaths:
        if deaths >= MAX_DEATHS:
            return BatchResult((), (_deadly(tiles[0]),), stopped=False)
        return _finish_tiles(worker, task, tiles)


def _finish_tiles(worker: TileWorker, task: TileTask, tiles: tuple[Tile, ...]) -> BatchResult:
    done: list[TileResult] = []
    failed: list[TileFailure] = []
    for tile in tiles:
        try:
            worker.check_stop()
            done.append(worker.finish(tile))
        except _StopSeenError:
            return BatchResult(tuple(done), tuple(failed), stopped=True)
        except Exception as error:
            logger.warning("Tile %s of %s failed.", tile, task.manifest.id, exc_info=error)
            failed.append(_describe(tile, error))
    return BatchResult(tuple(done), tuple(failed), stopped=False)


def _deadly(tile: Tile) -> TileFailure:
    return TileFailure(
        tile,
        WorkerMemoryError.kind,
        f"Tile {tile} ended its worker process {MAX_DEATHS} times.",
        WorkerMemoryError.ADVICE,
        fatal=True,
    )


class TileWorker:
    """Finishes the tiles of one batch, one after the other in the same buffers: writes each as a
    chunk. A subclass may take `blocks` from elsewhere, or do something else with them."""

    def __init__(
        self, task: TileTask, blobs: BlobStore, state: WorkerState, check_stop: Callable[[], None]
    ) -> None:
        self.check_stop = check_stop
        self._task = task
        self._blobs = blobs
        self._state = state
        self._block_rows = task.manifest.block_rows
        self._chunks: dict[str, ChunkBuffer] = {}  # by array, made for the first tile computed
        self._missing_previews = 0  # of the tile at hand

    def finish(self, tile: Tile) -> TileResult:
        start = time.perf_counter()
        self._missing_previews = 0
        found = self._found(tile) if self._task.repair is None else None
        statistics = self._compute_and_write(tile) if found is None else found
        seconds = time.perf_counter() - start
        records = tuple(
            statistics[layout.name].record(layout, tile, seconds)
            for layout in self._task.manifest.arrays
        )
        return TileResult(
            tile,
            records,
            found is None,
            seconds,
            worker=own_address(),
            missing_previews=self._missing_previews,
        )

    def _on_diagonal(self, tile: Tile) -> bool:
        return self._task.manifest.arrays[0].symmetric and tile[0] == tile[1]

    def _found(self, tile: Tile) -> dict[str, TileStatistics] | None:
        """Statistics of the tile's arrays if every one is stored and intact, else None."""
        manifest = self._task.manifest
        names = [layout.name for layout in manifest.arrays]
        if not all(matrices.has_chunk(self._blobs, manifest, name, tile) for name in names):
            return None
        diagonal = self._on_diagonal(tile)
        found = {}
        for name in names:
            try:
                values = matrices.read_chunk(self._blobs, manifest, name, tile)
            except (CorruptChunkError, MissingChunkError):
                return None  # damaged: computing it again replaces it
            found[name] = stored_statistics(values, block_rows=self._block_rows, diagonal=diagonal)
            if not previews.is_there(self._blobs, manifest, name, tile):
                self._keep_preview(name, tile, values)
        return found

    def _keep_preview(self, name: str, tile: Tile, values: NDArray[np.floating]) -> None:
        kept = previews.write(self._blobs, self._task.manifest, name, tile, values)
        self._missing_previews += not kept

    def _compute_and_write(self, tile: Tile) -> dict[str, TileStatistics]:
        manifest, diagonal = self._task.manifest, self._on_diagonal(tile)
        rows, cols = self._task.plan.extent(tile)
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        if not self._chunks:
            for layout in manifest.arrays:
                self._chunks[layout.name] = ChunkBuffer(layout.chunk_shape, layout.dtype)
        arrays = {
            name: TileArray(chunk, shape, block_rows=self._block_rows, diagonal=diagonal)
            for name, chunk in self._chunks.items()
        }
        for r, c, block in self.blocks(tile):
            for name, array in arrays.items():
                array.put(r, c, block[name])
        expected = self._task.repair
        if expected is not None:
            _check_same(tile, {n: a.statistics.digest() for n, a in arrays.items()}, expected)
        for name, array in arrays.items():
            matrices.write_chunk(
                self._blobs, manifest, name, tile, array.chunk, repair=expected is not None
            )
            self._keep_preview(name, tile, array.values)
        return {name: array.statistics for name, array in arrays.items()}

    def blocks(self, tile: Tile) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Compute blocks (r, c) of a tile, row by row: values by output, padded or clipped."""
        task = self._task
        assert isinstance(task, GramTask)
        step, diagonal = self._block_rows, self._on_diagonal(tile)
        names = tuple(layout.name for layout in task.manifest.arrays)
        kernel = self._kernel(task)
        # Within a block of images, too, where it takes many seconds.
        within = {"check_stop": self.check_stop} if kernel.spec.spatial else {}
        rows, cols = task.plan.extent(tile)
        x1 = self._panel(task.x1, rows, kernel)
        x2 = x1 if diagonal else self._panel(task.x2 or task.x1, cols, kernel)
        for r, left in enumerate(x1.blocks):
            # In a diagonal tile only blocks on and above the diagonal are computed, exactly those
            # that a smaller tile size would compute; the others are their transposes.
            for c, right in enumerate(x2.blocks):
                if diagonal and c < r:
                    continue
                self.check_stop()
                block = kernel.block(
                    left,
                    right,
                    symmetric=diagonal and r == c,
                    outputs=names,
                    block_rows=step,
                    **within,
                )
                yield r, c, block

    def _kernel(self, task: GramTask) -> Any:
        from workers.kernels import compile_kernel, parse_kernel  # imports JAX, only in workers

        spec = parse_kernel(task.kernel)
        return self._state.kernel(spec.digest, lambda: compile_kernel(spec))

    def _panel(self, info: DatasetInfo, rows: slice, kernel: Any) -> PreparedPanel:
        """Samples `rows` in the kernel's dtype, prepared block by block."""
        dtype, step = self._task.manifest.arrays[0].dtype, self._block_rows

        def read() -> PreparedPanel:
            samples = datasets.read_rows(self._blobs, info, rows.start, rows.stop)
            if not kernel.spec.spatial:
                samples = samples.reshape(len(samples), -1)
            values = np.ascontiguousarray(samples, dtype=dtype)
            blocks = tuple(
                kernel.panel(values[start : start + step], block_rows=step)
                for start in range(0, len(values), step)
            )
            per_sample = cost.kernel_cost(kernel.spec, info.shape[1:], dtype).panel_bytes_per_sample
            return PreparedPanel(len(values), blocks, len(blocks) * step * per_sample)

        key = (info.id, rows.start, rows.stop, dtype, kernel.spec.digest)
        return self._state.panels.get(key, read)


def _check_same(
    tile: Tile, found: Mapping[str, bytes], expected: Mapping[tuple[str, Tile], bytes]
) -> None:
    """Raises RepairMismatchError. A digest that was never noted is left to the final check."""
    for name, digest in found.items():
        if expected.get((name, tile), digest) != digest:
            raise RepairMismatchError(
                f"Tile {tile} of {name} comes out with other numbers than it was sealed with.",
                advice="Repair it with the library versions and on the kind of processor in its"
                " provenance, or delete the matrix and submit its request again.",
            )


def _stop_check(blobs: BlobStore, key: str) -> Callable[[], None]:
    """A check that asks the store now and then, and raises when told to stop."""
    pause = STOP_POLL_SECONDS if blobs.path(key) is not None else REMOTE_STOP_POLL_SECONDS
    last = -pause

    def check() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= pause:
            last = now
            if blobs.size(key) is not None:
                raise _StopSeenError

    return check


def _describe(tile: Tile, error: Exception) -> TileFailure:
    if isinstance(error, GramianError):
        # Damaged data may be repaired meanwhile, and a store may come back; a spec or an overflow
        # does not get better.
        passing = isinstance(error, CorruptChunkError | MissingChunkError | StoreUnavailableError)
        return TileFailure(tile, error.kind, error.message, error.advice, fatal=not passing)
    if isinstance(error, OSError) and (full := DiskFullError.of(error)):
        return TileFailure(tile, full.kind, full.message, full.advice, fatal=True)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return TileFailure(
        tile,
        "tile-failed",
        f"{type(error).__name__}: {error}{where}",
        "Read the worker's log; submit the same job again to retry: stored tiles are kept.",
        fatal=False,
    )
