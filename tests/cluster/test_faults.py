"""Processes die in mid-job; nothing finished is lost and the digest is that of a quiet run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from storage.blobs import BlobStore, open_blobs
from support.cluster import ClusterProcesses, worker_pids
from support.gram_runs import Run, gram_task, random_dataset
from workers.cluster import ClusterSettings, connect
from workers.driver import DriverSettings
from workers.futures import ResultLostError, fetch, wait_for_one
from workers.plan import TilePlan

pytestmark = pytest.mark.cluster

ROWS = 1300  # 231 tiles of 64 rows: long enough to be interrupted, short enough to wait for


@pytest.fixture(scope="module")
def quiet_digests(
    shared_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Digests of the same job, undisturbed."""
    blobs = open_blobs(tmp_path_factory.mktemp("quiet"))
    run = Run(gram_task(blobs, random_dataset(blobs, ROWS)))
    run.go(shared_client)
    return run.digests()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ClusterProcesses]:
    """Not running yet; ended afterwards."""
    found = ClusterProcesses(tmp_path / "dask")
    yield found
    found.kill()


def kill_at(run: Run, tiles: int, pids: list[int]) -> threading.Thread:
    """SIGKILL the processes once `tiles` tiles have been recorded."""

    def wait_and_kill() -> None:
        while len(run.results) < tiles:
            time.sleep(0.005)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "victims",
    [pytest.param(1, id="one worker", marks=pytest.mark.slow), pytest.param(2, id="all workers")],
)
def test_killed_workers_cost_only_what_was_in_flight(
    own_client: Client, blobs: BlobStore, quiet_digests: dict[str, str], victims: int
) -> None:
    run = Run(gram_task(blobs, random_dataset(blobs, ROWS)))
    total = TilePlan.of(run.task.manifest).n_tiles
    killer = kill_at(run, total // 3, worker_pids(own_client)[:victims])
    outcome = run.go(own_client, settings=DriverSettings(batch_seconds=0.05))
    killer.join()
    assert run.digests() == quiet_digests
    # Tiles whose chunk was on disk when the worker died are found there, never computed again.
    assert outcome.computed_tiles + outcome.found_tiles == total
    assert len(run.results) == total


def test_a_killed_scheduler_is_waited_for_and_only_missing_tiles_are_sent_again(
    processes: ClusterProcesses, blobs: BlobStore, quiet_digests: dict[str, str]
) -> None:
    processes.start()
    with connect(ClusterSettings(scheduler_address=processes.address)) as client:
        client.wait_for_workers(1, timeout=60)
        run = Run(gram_task(blobs, random_dataset(blobs, ROWS)))
        total = TilePlan.of(run.task.manifest).n_tiles

        def disaster() -> None:
            while len(run.results) < total // 3:
                time.sleep(0.005)
            processes.kill()
            processes.start()

        thread = threading.Thread(target=disaster)
        thread.start()
        outcome = run.go(client)
        thread.join()
        assert run.digests() == quiet_digests
        assert len(run.results) == total
        assert outcome.computed_tiles + outcome.found_tiles == total


def test_a_result_whose_scheduler_died_before_it_was_fetched_is_lost_not_an_error(
    processes: ClusterProcesses,
) -> None:
    processes.start()
    with connect(ClusterSettings(scheduler_address=processes.address)) as client:
        client.wait_for_workers(1, timeout=60)
        finished = client.submit(abs, -1)
        failed = client.submit(int, "no number")
        for future in (finished, failed):
            wait_for_one(client, [future], seconds=60)
        assert fetch(finished) == 1
        with pytest.raises(ValueError, match="no number"):
            fetch(failed)
        processes.kill()
        with pytest.raises(ResultLostError):
            fetch(finished, timeout_seconds=30)


@pytest.fixture(autouse=True)
def no_leftover_stop_flags(blobs: BlobStore) -> Iterator[None]:
    yield
    assert list(blobs.list("stops")) == []
