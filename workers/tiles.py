"""The one task of a Gram job: compute a batch of tiles and write each as one whole chunk.

Idempotent: a tile whose chunks are already stored and pass their checksums is not computed again,
so a retried, duplicated or resumed batch costs one read. Tiles return a few numbers, never data.
"""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import datasets, matrices
from storage.blobs import BlobStore, open_blobs
from storage.catalog.records import TileRecord
from storage.datasets import DatasetInfo
from storage.digest import tile_digest
from storage.errors import CorruptChunkError, GramianError, MissingChunkError
from storage.format import MatrixManifest
from workers.kernels import cost
from workers.panels import PreparedPanel
from workers.plan import Tile, TilePlan
from workers.worker_state import WorkerState, worker_state

STOP_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class GramTask:
    """What all batches of one run share; a few kilobytes, sent along with each batch."""

    store_url: str
    manifest: MatrixManifest
    kernel: dict[str, Any]  # canonical kernel spec
    x1: DatasetInfo
    x2: DatasetInfo | None  # None: symmetric
    panel_cache_bytes: int
    run: str  # names this run's stop flag

    @property
    def plan(self) -> TilePlan:
        return TilePlan.of(self.manifest)

    @property
    def stop_key(self) -> str:
        """The run is asked to stop by writing this key: seen by every worker that can write
        tiles, including one that the scheduler has lost."""
        return f"stops/{self.run}"


@dataclass(frozen=True)
class TileResult:
    """One finished tile: a record per output array; `computed` is False if it was found stored."""

    tile: Tile
    records: tuple[TileRecord, ...]
    computed: bool
    seconds: float


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


def compute_batch(task: GramTask, tiles: tuple[Tile, ...]) -> BatchResult:
    """Compute `tiles` of the task's matrix, in the given order. Runs in a Dask worker.

    Never raises for a fault of one tile: it becomes a `TileFailure` and the next tile follows.
    """
    blobs = open_blobs(task.store_url)
    state = worker_state()
    state.panels.limit_bytes = task.panel_cache_bytes
    check_stop = _stop_check(blobs, task.stop_key)
    done: list[TileResult] = []
    failed: list[TileFailure] = []
    for tile in tiles:
        try:
            check_stop()
            done.append(_finish_tile(task, tile, blobs, state, check_stop))
        except _StopSeenError:
            return BatchResult(tuple(done), tuple(failed), stopped=True)
        except Exception as error:  # noqa: BLE001 - the boundary: any fault is reported as data
            failed.append(_describe(tile, error))
    return BatchResult(tuple(done), tuple(failed), stopped=False)


def _finish_tile(
    task: GramTask,
    tile: Tile,
    blobs: BlobStore,
    state: WorkerState,
    check_stop: Callable[[], None],
) -> TileResult:
    start = time.perf_counter()
    stored = _read_stored(task, tile, blobs)
    computed = stored is None
    values = _compute_tile(task, tile, blobs, state, check_stop) if stored is None else stored
    seconds = time.perf_counter() - start
    records = []
    for name, array in values.items():
        if computed:
            matrices.write_chunk(blobs, task.manifest, name, tile, array)
        records.append(_record(task, tile, name, array, seconds))
    return TileResult(tile, tuple(records), computed, time.perf_counter() - start)


def _read_stored(
    task: GramTask, tile: Tile, blobs: BlobStore
) -> dict[str, NDArray[np.floating]] | None:
    """The tile's arrays if every one is stored and intact, else None."""
    names = [layout.name for layout in task.manifest.arrays]
    if not all(matrices.has_chunk(blobs, task.manifest, name, tile) for name in names):
        return None
    try:
        return {name: matrices.read_chunk(blobs, task.manifest, name, tile) for name in names}
    except (CorruptChunkError, MissingChunkError):
        return None  # damaged: computing it again replaces it


def _compute_tile(
    task: GramTask,
    tile: Tile,
    blobs: BlobStore,
    state: WorkerState,
    check_stop: Callable[[], None],
) -> dict[str, NDArray[np.floating]]:
    kernel = _compiled(task, state)
    rows, cols = task.plan.extent(tile)
    layout = task.manifest.arrays[0]
    on_diagonal = layout.symmetric and tile[0] == tile[1]
    x1 = _panel(task, task.x1, rows, kernel, blobs, state)
    x2 = x1 if on_diagonal else _panel(task, task.x2 or task.x1, cols, kernel, blobs, state)
    names = tuple(array.name for array in task.manifest.arrays)
    values = {name: np.empty((x1.rows, x2.rows), layout.dtype) for name in names}
    step = task.manifest.block_rows
    for r, left in enumerate(x1.blocks):
        # In a diagonal tile only blocks on and above the diagonal are computed, exactly those
        # that a smaller tile size would compute; the others are their transposes.
        for c, right in enumerate(x2.blocks):
            if on_diagonal and c < r:
                continue
            check_stop()
            block = kernel.block(
                left, right, symmetric=on_diagonal and r == c, outputs=names, block_rows=step
            )
            here = (slice(r * step, (r + 1) * step), slice(c * step, (c + 1) * step))
            for name in names:
                target = values[name][here]
                target[...] = block[name][: target.shape[0], : target.shape[1]]
                if on_diagonal and r != c:
                    values[name][here[::-1]] = target.T
    return values


def _compiled(task: GramTask, state: WorkerState) -> Any:
    from workers.kernels import compile_kernel, parse_kernel  # imports JAX, only in workers

    spec = parse_kernel(task.kernel)
    if spec.digest not in state.kernels:
        state.kernels[spec.digest] = compile_kernel(spec)
    return state.kernels[spec.digest]


def _panel(
    task: GramTask,
    info: DatasetInfo,
    rows: slice,
    kernel: Any,
    blobs: BlobStore,
    state: WorkerState,
) -> PreparedPanel:
    """Samples `rows` in the kernel's dtype, prepared block by block."""
    dtype = task.manifest.arrays[0].dtype
    step = task.manifest.block_rows

    def read() -> PreparedPanel:
        samples = datasets.read_rows(blobs, info, rows.start, rows.stop)
        flat = np.ascontiguousarray(samples.reshape(len(samples), -1), dtype=dtype)
        blocks = tuple(
            kernel.panel(flat[start : start + step], block_rows=step)
            for start in range(0, len(flat), step)
        )
        per_number = cost.panel_bytes_per_number(kernel.spec, dtype)
        return PreparedPanel(len(flat), blocks, len(blocks) * step * flat.shape[1] * per_number)

    key = (info.id, rows.start, rows.stop, dtype, kernel.spec.digest)
    return state.panels.get(key, read)


def _record(
    task: GramTask, tile: Tile, name: str, values: NDArray[np.floating], seconds: float
) -> TileRecord:
    layout = task.manifest.array(name)
    diagonal = layout.symmetric and tile[0] == tile[1]
    low, high = float(values.min()), float(values.max())
    finite = bool(np.isfinite(low) and np.isfinite(high))  # NaN and Inf both reach min or max
    return TileRecord(
        array=name,
        i=tile[0],
        j=tile[1],
        digest=tile_digest(values, block_rows=task.manifest.block_rows, diagonal=diagonal),
        seconds=seconds,
        minimum=low if np.isfinite(low) else 0.0,
        maximum=high if np.isfinite(high) else 0.0,
        nonfinite=0 if finite else int(values.size - np.count_nonzero(np.isfinite(values))),
        stored_bytes=int(np.prod(layout.chunk_shape)) * layout.itemsize + 4,
    )


def _stop_check(blobs: BlobStore, key: str) -> Callable[[], None]:
    """A check that asks the store at most every STOP_POLL_SECONDS and raises when told to stop."""
    last = -STOP_POLL_SECONDS

    def check() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= STOP_POLL_SECONDS:
            last = now
            if blobs.size(key) is not None:
                raise _StopSeenError

    return check


def _describe(tile: Tile, error: Exception) -> TileFailure:
    if isinstance(error, GramianError):
        # Damaged data may be repaired meanwhile; a spec or an overflow does not get better.
        damaged = isinstance(error, CorruptChunkError | MissingChunkError)
        return TileFailure(tile, error.kind, error.message, error.advice, fatal=not damaged)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return TileFailure(
            tile,
            "disk-full",
            f"The store cannot be written: {error.strerror}.",
            "Free space in the store, then submit the same job again: stored tiles are kept.",
            fatal=True,
        )
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return TileFailure(
        tile,
        "tile-failed",
        f"{type(error).__name__}: {error}{where}",
        "Read the worker's log; submit the same job again to retry: stored tiles are kept.",
        fatal=False,
    )
