"""Processes die in mid-job; nothing finished is lost and the digest is that of a quiet run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from storage.blobs import BlobStore, open_blobs
from support.gram_runs import Run, gram_task, random_dataset
from workers.cluster import ClusterSettings, connect, worker_environment
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


def worker_pids(client: Client) -> list[int]:
    return list(client.run(os.getpid).values())


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


@pytest.mark.parametrize("victims", [1, 2], ids=["one worker", "all workers"])
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
    tmp_path: Path, blobs: BlobStore, quiet_digests: dict[str, str], compilation_cache: Path
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    processes = Processes(address, tmp_path, compilation_cache)
    try:
        processes.start_scheduler()
        processes.start_worker()
        with connect(ClusterSettings(scheduler_address=address)) as client:
            client.wait_for_workers(1, timeout=60)
            run = Run(gram_task(blobs, random_dataset(blobs, ROWS)))
            total = TilePlan.of(run.task.manifest).n_tiles

            def disaster() -> None:
                while len(run.results) < total // 3:
                    time.sleep(0.005)
                processes.kill_all()
                processes.start_scheduler()
                processes.start_worker()

            thread = threading.Thread(target=disaster)
            thread.start()
            outcome = run.go(client)
            thread.join()
            assert run.digests() == quiet_digests
            assert len(run.results) == total
            assert outcome.computed_tiles + outcome.found_tiles == total
    finally:
        processes.kill_all()


def test_a_result_whose_scheduler_died_before_it_was_fetched_is_lost_not_an_error(
    tmp_path: Path, compilation_cache: Path
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    processes = Processes(address, tmp_path, compilation_cache)
    try:
        processes.start_scheduler()
        processes.start_worker()
        with connect(ClusterSettings(scheduler_address=address)) as client:
            client.wait_for_workers(1, timeout=60)
            finished = client.submit(abs, -1)
            failed = client.submit(int, "no number")
            for future in (finished, failed):
                wait_for_one(client, [future], seconds=60)
            assert fetch(finished) == 1
            with pytest.raises(ValueError, match="no number"):
                fetch(failed)
            processes.kill_all()
            with pytest.raises(ResultLostError):
                fetch(finished, timeout_seconds=30)
    finally:
        processes.kill_all()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Processes:
    """A scheduler and a worker as processes of their own."""

    def __init__(self, address: str, folder: Path, compilation_cache: Path) -> None:
        self.address = address
        self.folder = folder
        self.environment = os.environ | worker_environment(compilation_cache)
        self.running: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self) -> None:
        port = self.address.rsplit(":", 1)[1]
        self._start("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")

    def start_worker(self) -> None:
        self._start(
            "worker", self.address, "--nthreads", "1", "--no-dashboard",
            "--local-directory", str(self.folder / "dask"),
        )  # fmt: skip

    def _start(self, *command: str) -> None:
        self.running.append(
            subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                env=self.environment,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def kill_all(self) -> None:
        for process in self.running:
            # The whole session: the nanny and its worker process.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()
        self.running.clear()


@pytest.fixture(autouse=True)
def no_leftover_stop_flags(blobs: BlobStore) -> Iterator[None]:
    yield
    assert list(blobs.list("stops")) == []
