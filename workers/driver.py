"""Keeps Dask fed with tiles of one Gram matrix, and survives what happens to Dask.

Dask holds no truth: what is done is what is stored, and results reach the caller at once. The
driver keeps a small window of batches in flight. A killed worker's batch is run again by Dask; a
lost scheduler cancels every future, and the driver waits for it to come back and sends the
missing tiles again.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client, Future
from distributed.scheduler import KilledWorker
from numpy.typing import NDArray

from storage.blobs import open_blobs
from storage.errors import GramianError, StoreRefusedError, StoreUnavailableError
from workers.cluster import worker_count
from workers.errors import NonFiniteKernelError, TileFailedError, WorkerMemoryError
from workers.futures import ResultLostError, fetch
from workers.plan import Tile
from workers.schedule import TileSchedule
from workers.tiles import BatchResult, TileFailure, TileResult, TileTask, compute_batch
from workers.trials import trials_folder

logger = logging.getLogger(__name__)

# How often the driver looks at the stop request and at the cluster while nothing finishes.
_POLL_SECONDS = 0.1
_WORKER_COUNT_SECONDS = 2.0


@dataclass(frozen=True)
class DriverSettings:
    batch_seconds: float = 2.0  # aimed-at length of one Dask task
    max_batch_tiles: int = 256
    window_per_worker: int = 3  # batches in flight per worker: one running, the others queued
    max_attempts: int = 3  # failures of one tile before the job fails


@dataclass(frozen=True)
class GramOutcome:
    """How a run ended. `stopped`: it was asked to stop; nothing of it is still running."""

    stopped: bool
    computed_tiles: int
    found_tiles: int  # were stored already, with no record of it
    wall_seconds: float
    tile_seconds: float  # summed over workers


ComputeBatch = Callable[[TileTask, tuple[Tile, ...]], BatchResult]


class _Counts:
    def __init__(self) -> None:
        self.computed = 0
        self.found = 0
        self.tile_seconds = 0.0

    def add(self, results: Iterable[TileResult]) -> None:
        for result in results:
            self.computed += result.computed
            self.found += not result.computed
            self.tile_seconds += result.seconds


def run_gram(
    client: Client,
    task: TileTask,
    *,
    stored: NDArray[np.bool_],
    on_results: Callable[[list[TileResult]], None],
    should_stop: Callable[[], bool],
    seconds_per_tile: float,
    settings: DriverSettings,
    compute: ComputeBatch = compute_batch,
    priority: Callable[[], int] = lambda: 0,
    on_failure: Callable[[TileFailure], None] = lambda failure: None,
) -> GramOutcome:
    """Compute all tiles of `task.manifest` that `stored` (grid-shaped booleans) does not name.

    Blocking; call it from a thread. `on_results` gets each batch's finished tiles as they arrive,
    also when the run later fails. Returns after the last running batch has ended, on success, on
    a stop request and on failure alike. `on_failure` hears of every attempt at a tile that failed,
    whether it is tried again or not. `compute` is what runs in the workers; `priority` is asked
    for the Dask priority of each batch when it is sent (higher runs earlier).

    Raises TileFailedError, NonFiniteKernelError, WorkerMemoryError or StoreUnavailableError; the
    finished tiles are kept.
    """
    schedule = TileSchedule(
        task.plan,
        stored,
        seconds_per_tile=seconds_per_tile,
        batch_seconds=settings.batch_seconds,
        max_batch_tiles=settings.max_batch_tiles,
        max_attempts=settings.max_attempts,
    )
    run = _Run(client, task, schedule, on_results, settings, compute, priority, on_failure)
    start = time.perf_counter()
    try:
        stopped = run.loop(should_stop)
    finally:
        run.drain()
    return GramOutcome(
        stopped=stopped,
        computed_tiles=run.counts.computed,
        found_tiles=run.counts.found,
        wall_seconds=time.perf_counter() - start,
        tile_seconds=run.counts.tile_seconds,
    )


class _Run:
    def __init__(
        self,
        client: Client,
        task: TileTask,
        schedule: TileSchedule,
        on_results: Callable[[list[TileResult]], None],
        settings: DriverSettings,
        compute: ComputeBatch,
        priority: Callable[[], int],
        on_failure: Callable[[TileFailure], None],
    ) -> None:
        self.client = client
        self.task = task
        self.schedule = schedule
        self.on_results = on_results
        self.settings = settings
        self.compute = compute
        self.priority = priority
        self.on_failure = on_failure
        self.counts = _Counts()
        self.in_flight: dict[Future[BatchResult], tuple[Tile, ...]] = {}
        self.ended: queue.SimpleQueue[Future[BatchResult]] = queue.SimpleQueue()
        self._workers = 0
        self._workers_at = -_WORKER_COUNT_SECONDS

    def loop(self, should_stop: Callable[[], bool]) -> bool:
        """True if stopped on request, False when every tile is stored."""
        while self.schedule.remaining:
            if should_stop():
                return True
            self._fill_window()
            future = self._next_ended()
            if future is not None:
                self._take(future)
        return False

    def drain(self) -> None:
        """Wait until no batch of this run is running, collecting what they still finish."""
        blobs = open_blobs(self.task.store_url)
        if self.in_flight:
            _try(lambda: blobs.put(self.task.stop_key, b"stop"))
        while self.in_flight:
            if worker_count(self.client) == 0:
                # Nothing can be running; what is queued must not start later.
                self.client.cancel(list(self.in_flight))
                self.in_flight.clear()
            future = self._next_ended()
            if future is not None:
                # The outcome is decided; a further failure must not hide the first one.
                with suppress(GramianError):
                    self._take(future)
        _try(lambda: blobs.delete(self.task.stop_key))
        self._forget_trials()

    def _forget_trials(self) -> None:
        blobs = open_blobs(self.task.store_url)
        _try(lambda: blobs.delete_prefix(trials_folder(self.task.run)))

    def _fill_window(self) -> None:
        now = time.monotonic()
        if now - self._workers_at >= _WORKER_COUNT_SECONDS or not self._workers:
            self._workers, self._workers_at = worker_count(self.client), now
        while len(self.in_flight) < self._workers * self.settings.window_per_worker:
            batch = self.schedule.next_batch(self._workers)
            if not batch:
                return
            future = self.client.submit(
                self.compute, self.task, batch, pure=False, priority=self.priority()
            )
            self.in_flight[future] = batch
            future.add_done_callback(self.ended.put)

    def _next_ended(self) -> Future[BatchResult] | None:
        try:
            return self.ended.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return None

    def _take(self, future: Future[BatchResult]) -> None:
        tiles = self.in_flight.pop(future, None)
        if tiles is None:
            return  # cancelled by `drain`
        try:
            result = fetch(future)
        except ResultLostError:
            # The scheduler went away. Dask reconnects by itself; `_fill_window` sends nothing
            # until there are workers again.
            self._workers = 0
            self._forget_trials()  # its workers ended with it: not the doing of the tiles
            self.schedule.returned(tiles)
        except Exception as error:  # noqa: BLE001 - whatever a task can raise
            self._take_error(tiles, error)
        else:
            self._take_result(tiles, result)
        finally:
            future.release()

    def _take_result(self, tiles: tuple[Tile, ...], result: BatchResult) -> None:
        self.counts.add(result.done)
        if result.done:
            self.on_results(list(result.done))
        for done in result.done:
            self.schedule.finished(done.tile, done.seconds, computed=done.computed)
        _raise_if_nonfinite(result.done)
        settled = {done.tile for done in result.done} | {bad.tile for bad in result.failed}
        self.schedule.returned(tuple(tile for tile in tiles if tile not in settled))
        for failure in result.failed:
            self.on_failure(failure)
            if failure.fatal or not self.schedule.failed(failure.tile):
                raise _tile_error(failure)

    def _take_error(self, tiles: tuple[Tile, ...], error: Exception) -> None:
        if isinstance(error, GramianError):
            raise error  # the store cannot be opened there
        if not isinstance(error, KilledWorker):
            # compute_batch reports faults of tiles as data, so this is a fault around it: the
            # worker cannot import or unpickle what it was sent.
            raise TileFailedError(
                f"A worker could not run a batch of tiles: {type(error).__name__}: {error}",
                advice="Check that workers run the same Gramian version as the service.",
            ) from error
        culprit = self.schedule.killed_worker(tiles)
        if culprit is not None:
            deaths = WorkerMemoryError(
                f"Tile {culprit} ended its worker process {self.settings.max_attempts} times.",
                advice=WorkerMemoryError.ADVICE,
                tile=list(culprit),
            )
            self.on_failure(
                TileFailure(culprit, deaths.kind, deaths.message, deaths.advice, fatal=True)
            )
            raise deaths from error


def _try(change: Callable[[], None]) -> None:
    """Change flags of the run if the store lets us: when it is full, read-only or away, batches end
    by themselves, and why the run ended must not be hidden."""
    try:
        change()
    except (OSError, StoreUnavailableError) as error:
        logger.warning("The flags of a run could not be changed: %s", error)


def _raise_if_nonfinite(results: Iterable[TileResult]) -> None:
    for result in results:
        count = sum(record.nonfinite for record in result.records)
        if count:
            raise NonFiniteKernelError(
                f"Tile {result.tile} has {count} entries that are not finite.",
                advice="Delete the matrix and submit the job again; if it happens again, use "
                "float64 or normalised inputs and report the kernel spec.",
                tile=list(result.tile),
            )


def _tile_error(failure: TileFailure) -> GramianError:
    if failure.kind in (StoreUnavailableError.kind, StoreRefusedError.kind):
        # Nothing is wrong with the tile, and the job can go on when the store is back.
        return StoreUnavailableError(failure.message, advice=failure.advice)
    if failure.kind == WorkerMemoryError.kind:
        return WorkerMemoryError(failure.message, advice=failure.advice, tile=list(failure.tile))
    details: dict[str, Any] = {"tile": list(failure.tile), "cause": failure.kind}
    return TileFailedError(
        f"Tile {failure.tile} failed: {failure.message}", advice=failure.advice, **details
    )
