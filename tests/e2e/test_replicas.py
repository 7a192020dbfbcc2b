"""Two services, one PostgreSQL catalog, one scheduler, one folder or bucket; one of them dies, or
sleeps."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.client import Client
from storage.blobs import open_blobs
from storage.catalog import Catalog, open_catalog
from support.cluster import ClusterProcesses
from support.postgres import postgres_server
from support.s3 import S3Server
from support.server import ServiceProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

KERNEL = {"preset": "fc", "depth": 3}
LEASE_SECONDS = 2.0
TILE_ROWS = 64


@dataclass
class Replicas:
    services: list[ServiceProcess]
    catalog: Catalog

    def runner_of(self, job: str) -> tuple[ServiceProcess, ServiceProcess]:
        """The service that has the job, and the other one."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            holder = self.catalog.live_leases().get(job, "")
            for service in self.services:
                if f"-{service.process.pid}-" in holder:
                    return service, next(s for s in self.services if s is not service)
            time.sleep(0.02)
        raise AssertionError("nobody takes the job")


@contextmanager
def running_replicas(folder: Path, **settings: Any) -> Iterator[Replicas]:
    """Two services on one catalog, with a scheduler and a worker."""
    with postgres_server() as postgres, ExitStack() as stack:
        url = postgres.create_database()
        cluster = ClusterProcesses(folder / "dask")
        stack.callback(cluster.kill)
        cluster.start()
        services = [
            ServiceProcess(
                folder / name,
                catalog_url=url,
                scheduler_address=cluster.address,
                job_lease_seconds=LEASE_SECONDS,
                catalog_poll_seconds=0.2,
                compute_block_rows=64,
                batch_seconds=0.1,
                event_throttle_seconds=0.0,
                max_running_jobs=1,
                **settings,
            )
            for name in ("a", "b")
        ]
        for service in services:
            stack.enter_context(service)
            service.start()
        yield Replicas(services, stack.enter_context(open_catalog(url, migrate=False)))


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with running_replicas(folder, data_dir=folder / "data") as running:
        yield running


def submit(client: Client, *, seed: int, rows: int = 2500, tile_rows: int = TILE_ROWS) -> str:
    data = np.random.default_rng(seed).standard_normal((rows, 12)).astype(np.float32)
    return client.gram(client.upload(data).id, kernel=KERNEL, tile_rows=tile_rows).id


def tiles_done(client: Client, job: str, at_least: int) -> int:
    for event in client.watch(job):
        if event.type == "progress" and event.data["tiles_done"] >= at_least:
            return int(event.data["tiles_done"])
    raise AssertionError("the job ended before it could be disturbed")


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing happened for {seconds} seconds"
        time.sleep(0.02)


def check_undisturbed(client: Client, job: str, seed: int) -> None:
    """The digest of a disturbed job is that of the same matrix, made anew in other tiles."""
    ended = client.job(job)
    digest = client.result(job)["summary"]["digest"]
    events = list(client.watch(job))
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    states = [event.data["state"] for event in events if event.type == "state"]
    assert states == ["queued", "running", "running", "succeeded"]
    intact = client.wait(client.verify(str(ended.matrix)).id)
    assert client.result(intact.id)["summary"]["intact"]
    client.delete_matrix(str(ended.matrix))
    quiet = client.wait(submit(client, seed=seed, tile_rows=4 * TILE_ROWS))
    assert client.result(quiet.id)["summary"]["digest"] == digest


def kill_the_runner(replicas: Replicas) -> ServiceProcess:
    """Kill the service that runs a job; the other one finishes it. Returns the one killed."""
    with replicas.services[0].client() as client:
        job = submit(client, seed=1)
    killed, other = replicas.runner_of(job)
    with other.client() as client:
        seen = tiles_done(client, job, 100)  # events of a job that runs elsewhere
        killed.kill()
        ended = client.wait(job, timeout_seconds=120)
        assert ended.state == "succeeded", ended.error
        assert ended.document["attempts"] == 2
        summary = client.result(job)["summary"]
        assert summary["computed_tiles"] <= summary["tiles"] - seen
        check_undisturbed(client, job, seed=1)
    return killed


def test_when_the_service_that_runs_a_job_is_killed_the_other_one_goes_on(
    replicas: Replicas,
) -> None:
    kill_the_runner(replicas).start()


def test_the_same_where_they_share_nothing_but_a_catalog_and_a_bucket(
    tmp_path: Path, s3: S3Server
) -> None:
    url = s3.store_url()
    blobs = open_blobs(url)
    with running_replicas(tmp_path, store_url=url) as replicas:
        killed = kill_the_runner(replicas)
        killed.start()
        # What one service has, the other one shows; and nothing of it is in either's folder.
        with ExitStack() as stack:
            a, b = (stack.enter_context(each.client()) for each in replicas.services)
            (matrix,) = (each.id for each in a.matrices() if each.state == "sealed")
            np.testing.assert_array_equal(a.slice(matrix)[:70, :70], b.slice(matrix)[:70, :70])
            a.delete_matrix(matrix)
            assert not [each for each in b.matrices() if each.state == "sealed"]
        assert list(blobs.list(f"matrices/{matrix}")) == []
        assert list(blobs.list("stops")) == []
    for service in replicas.services:
        assert not (service.folder / "data" / "store").exists()


def test_a_service_that_slept_longer_than_its_lease_changes_nothing(replicas: Replicas) -> None:
    with replicas.services[0].client() as client:
        job = submit(client, seed=2)
    sleeper, other = replicas.runner_of(job)
    with other.client() as client:
        tiles_done(client, job, 100)
        os.kill(sleeper.process.pid, signal.SIGSTOP)
        try:
            until(lambda: replicas.catalog.get_job(job).attempts == 2)
            assert replicas.runner_of(job)[0] is other
        finally:
            os.kill(sleeper.process.pid, signal.SIGCONT)
        ended = client.wait(job, timeout_seconds=120)
        assert ended.state == "succeeded", ended.error
        assert ended.document["attempts"] == 2
        check_undisturbed(client, job, seed=2)
    until(lambda: "this one leaves it" in sleeper.log.read_text())
    with sleeper.client() as client:
        assert client.ready()["ready"]
        assert client.job(job).document["attempts"] == 2


def test_a_job_is_cancelled_through_the_service_that_does_not_run_it(replicas: Replicas) -> None:
    with replicas.services[0].client() as client:
        job = submit(client, seed=3)
        runner, other = replicas.runner_of(job)
        tiles_done(client, job, 10)
    with other.client() as client:
        client.cancel(job)
        assert client.wait(job, timeout_seconds=60).state == "cancelled"
    with runner.client() as client:
        assert client.job(job).state == "cancelled"


def test_limits_of_an_owner_count_over_both(replicas: Replicas) -> None:
    jobs = []
    for number, service in enumerate(replicas.services):
        with service.client() as client:
            jobs.append(submit(client, seed=4 + number))
    most = 0
    with replicas.services[0].client() as client:
        while not all(client.job(job).ended for job in jobs):
            states = [job.state for job in replicas.catalog.open_jobs()]
            most = max(most, states.count("running"))
        assert [client.job(job).state for job in jobs] == ["succeeded"] * 2
    assert most == 1
