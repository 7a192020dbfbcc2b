"""Workers that hang, run out of memory, or die over pixel tiles; convolutional jobs that stop."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from storage import datasets
from storage.blobs import BlobStore, open_blobs
from support.aftermath import eventually
from support.cluster import ClusterProcesses, worker_pids
from support.gram_runs import Run, gram_task, pixel_task, random_dataset
from workers.cluster import ClusterSettings, connect, start_local
from workers.driver import DriverSettings
from workers.errors import WorkerMemoryError
from workers.pixel_gram import compute_pixel_batch
from workers.plan import Tile, TilePlan
from workers.tiles import (
    BatchResult,
    GramTask,
    TileResult,
    TileTask,
    TileWorker,
    compute_batch,
    finish_batch,
)
from workers.trials import MAX_DEATHS

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

logger = logging.getLogger(__name__)

ROWS = 700
POISON = (1, 3)
SMALL = DriverSettings(batch_seconds=0.05)


@pytest.fixture(scope="module")
def quiet(shared_client: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    blobs = open_blobs(tmp_path_factory.mktemp("quiet"))
    run = Run(gram_task(blobs, random_dataset(blobs, ROWS)))
    run.go(shared_client)
    return run.digests()


@pytest.fixture(autouse=True)
def nothing_left(blobs: BlobStore) -> Iterator[None]:
    yield
    assert list(blobs.list("stops")) == []


class Greedy(TileWorker):
    """Takes more memory than a worker has, for one tile."""

    def finish(self, tile: Tile) -> TileResult:
        if tile == POISON:
            self._blobs.put(f"starts/{secrets.token_hex(8)}", b"")
            hoard = []
            while True:
                hoard.append(np.ones(8 << 20))  # 64 MiB
                time.sleep(0.02)
        return super().finish(tile)


def greedy(task: GramTask, tiles: tuple[Tile, ...]) -> BatchResult:
    return finish_batch(Greedy, task, tiles)


@pytest.mark.parametrize(
    ("batch_tiles", "deaths"),
    [
        pytest.param(1, MAX_DEATHS, id="alone"),
        # Dask's own limit, and one, until the batch comes back to be split.
        pytest.param(256, 4 + MAX_DEATHS, id="among others"),
    ],
)
def test_a_tile_beyond_the_memory_limit_fails_the_run_by_its_name(
    tmp_path: Path,
    compilation_cache: Path,
    blobs: BlobStore,
    quiet: dict[str, str],
    batch_tiles: int,
    deaths: int,
) -> None:
    settings = ClusterSettings(
        n_workers=2,
        worker_memory_limit_bytes=900 << 20,
        scratch_dir=tmp_path / "dask",
        compilation_cache_dir=compilation_cache,
    )
    run = Run(gram_task(blobs, random_dataset(blobs, ROWS)))
    with start_local(settings) as cluster, connect(settings, cluster) as client:
        with pytest.raises(WorkerMemoryError) as caught:
            run.go(
                client,
                settings=DriverSettings(batch_seconds=0.05, max_batch_tiles=batch_tiles),
                compute=greedy,
            )
        assert len(list(blobs.list("starts"))) <= deaths
        assert caught.value.details["tile"] == list(POISON)
        assert "memory" in caught.value.advice
        assert not any(client.processing().values())
        kept = {result.tile for result in run.results}
        assert kept
        assert POISON not in kept
        again = run.go(client, settings=SMALL)
        assert again.computed_tiles + again.found_tiles == 66 - len(kept)
    assert run.digests() == quiet


def test_a_hanging_worker_loses_its_tiles_to_the_others(
    tmp_path: Path, blobs: BlobStore, quiet: dict[str, str]
) -> None:
    cluster = ClusterProcesses(
        tmp_path / "dask", scheduler_settings={"distributed.scheduler.worker-ttl": "3s"}
    )
    try:
        cluster.start(workers=2)
        with connect(ClusterSettings(scheduler_address=cluster.address)) as client:
            client.wait_for_workers(2, timeout=60)
            run = Run(gram_task(blobs, random_dataset(blobs, ROWS)))
            victim = worker_pids(client)[0]

            def hang() -> None:
                while len(run.results) < 10:
                    time.sleep(0.005)
                os.kill(victim, signal.SIGSTOP)

            thread = threading.Thread(target=hang)
            thread.start()
            try:
                outcome = run.go(client, settings=SMALL)
                thread.join()
                assert run.digests() == quiet
                assert outcome.computed_tiles + outcome.found_tiles == 66
                assert len({result.worker for result in run.results}) == 2
            finally:
                with suppress(ProcessLookupError):  # its nanny has started another one
                    os.kill(victim, signal.SIGCONT)
            # What it still writes when it wakes up is what is there already.
            eventually(lambda: cluster.tasks() == [], what="no task on the scheduler")
            time.sleep(1)
        forgetful = Run(run.task)
        with connect(ClusterSettings(scheduler_address=cluster.address)) as client:
            client.wait_for_workers(1, timeout=60)
            assert forgetful.go(client).computed_tiles == 0
        assert forgetful.digests() == quiet
    finally:
        cluster.kill()


def pixel_run(blobs: BlobStore) -> Run:
    """A run over the pixels of one image: 28 tiles of about 0.1 s each."""
    x = np.random.default_rng(0).random((1, 56, 56, 3)).astype(np.float32)
    return Run(pixel_task(blobs, datasets.ingest(blobs, x), (0, 0), outputs=("ntk",)))  # type: ignore[arg-type]


@pytest.mark.parametrize("victims", [1, 2], ids=["one worker", "all workers"])
def test_workers_killed_over_pixel_tiles(
    own_client: Client, blobs: BlobStore, tmp_path: Path, victims: int
) -> None:
    run = pixel_run(blobs)
    total = TilePlan.of(run.task.manifest).n_tiles
    pids = worker_pids(own_client)[:victims]

    def kill() -> None:
        while not run.results:
            time.sleep(0.002)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = run.go(own_client, settings=SMALL, compute=compute_pixel_batch)
    killer.join()
    assert outcome.computed_tiles + outcome.found_tiles == total == len(run.results)
    undisturbed = pixel_run(open_blobs(tmp_path / "quiet"))
    undisturbed.go(own_client, settings=SMALL, compute=compute_pixel_batch)
    assert run.digests() == undisturbed.digests()


def _convolutional(blobs: BlobStore, images: int = 256) -> tuple[Run, Callable[..., BatchResult]]:
    x = np.random.default_rng(images).random((images, 24, 24, 3)).astype(np.float32)
    kernel = {"preset": "cntk", "depth": 6}
    task = gram_task(
        blobs,
        datasets.ingest(blobs, x),
        kernel=kernel,
        block_rows=64,
        tile_rows=256,
    )
    return Run(task), compute_batch


def _pixels(blobs: BlobStore) -> tuple[Run, Callable[..., BatchResult]]:
    return pixel_run(blobs), compute_pixel_batch


@pytest.mark.parametrize("kind", [_convolutional, _pixels], ids=["cntk", "pixel_gram"])
def test_convolutional_jobs_stop_within_a_block(
    shared_client: Client,
    blobs: BlobStore,
    kind: Callable[[BlobStore], tuple[Run, Callable[..., BatchResult]]],
) -> None:
    """A tile of many seconds is left in the middle: between blocks the stop flag is seen."""
    # Compiling is not interrupted, so that it is done before.
    _convolutional(blobs, images=65)[0].go(shared_client)
    run, compute = kind(blobs)
    started = blobs.path("started")
    assert started is not None
    asked: list[float] = []

    def should_stop() -> bool:
        if started.exists() and not asked:
            asked.append(time.monotonic())
        return bool(asked)

    outcome = run.go(
        shared_client,
        settings=SMALL,
        should_stop=should_stop,
        compute=partial(_tell, str(started), compute),
        seconds_per_tile=1.0,
    )
    took = time.monotonic() - asked[0]
    logger.info("stopped %.2f s after it was asked to", took)
    assert outcome.stopped
    assert len(run.results) < TilePlan.of(run.task.manifest).n_tiles
    assert not any(shared_client.processing().values())
    if kind is _convolutional:
        assert run.results == []  # its only tile, of many blocks, was left in the middle


def _tell(
    started: str, compute: Callable[..., BatchResult], task: TileTask, tiles: tuple[Tile, ...]
) -> Any:
    """`compute`, after leaving word that a worker has begun."""
    Path(started).parent.mkdir(parents=True, exist_ok=True)
    Path(started).touch()
    return compute(task, tiles)
