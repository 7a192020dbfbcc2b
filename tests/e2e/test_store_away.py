"""The object store goes away in mid-job, also in mid-upload, and comes back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import httpx2
import numpy as np
import pytest

from service.client import Client
from storage.blobs import BlobStore, open_blobs
from support.aftermath import eventually, finished_digest
from support.cluster import ClusterProcesses
from support.s3 import S3Server
from support.server import ServiceProcess
from support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROWS, TILE_ROWS = 3000, 256
TILES = 12 * 13 // 2
KERNEL = {"preset": "fc", "depth": 1500}  # seconds of tiles


@dataclass(frozen=True)
class Setup:
    service: ServiceProcess
    cluster: ClusterProcesses
    proxy: TcpProxy  # between the store and everybody who uses it
    blobs: BlobStore  # the store itself


@pytest.fixture
def setup(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("away")
    bucket = s3.bucket()
    proxy = TcpProxy(int(s3.endpoint.rpartition(":")[2]))
    cluster = ClusterProcesses(folder / "dask")
    try:
        cluster.start(workers=2)
        with ServiceProcess(
            folder / "service",
            store_url=s3.url(bucket, endpoint=f"http://127.0.0.1:{proxy.port}"),
            scheduler_address=cluster.address,
            compute_block_rows=64,
            tile_rows=TILE_ROWS,
            batch_seconds=0.1,
            event_throttle_seconds=0.0,
            cluster_retry_seconds=0.5,
        ) as service:
            service.start()
            yield Setup(service, cluster, proxy, open_blobs(s3.url(bucket)))
            proxy.mend()  # so that the service can end in order
    finally:
        cluster.kill()
        proxy.close()


def tiles_done(client: Client, job: str, at_least: int) -> int:
    for event in client.watch(job):
        if event.type == "progress" and event.data["tiles_done"] >= at_least:
            return int(event.data["tiles_done"])
    raise AssertionError("the job ended before it could be disturbed")


@pytest.mark.parametrize("how", ["between requests", "in the middle of a chunk"])
def test_a_job_outlives_its_store(setup: Setup, how: str) -> None:
    proxy, service = setup.proxy, setup.service
    with service.client() as client:
        x = np.random.default_rng(3).standard_normal((ROWS, 12)).astype(np.float32)
        data = client.upload(x).id
        job = client.gram(data, kernel=KERNEL)
        matrix = str(job.job.matrix)
        seen = tiles_done(client, job.id, 5)
        # A chunk is larger than what the proxy lets through of it.
        cut: Callable[[], None] = (
            proxy.cut
            if how == "between requests"
            else partial(proxy.cut_within, TILE_ROWS * TILE_ROWS)
        )
        cut()
        eventually(
            lambda: bool(re.search(r"Job \S+ waits: .* does not answer", service.log.read_text())),
            what="the job waits",
        )
        assert client.job(job.id).state == "running"
        assert not client.ready()["checks"]["store"]["ok"]
        answer = httpx2.get(f"{service.url}/v1/datasets/{data}/rows?rows=0:2", timeout=60)
        assert (answer.status_code, answer.json()["kind"]) == (503, "store-unavailable")
        # Half a chunk, as a store might have kept it that takes the end of a connection for that
        # of a body: it must be computed, never read.
        chunks = f"matrices/{matrix}/ntk/c"
        whole = setup.blobs.get(next(iter(setup.blobs.list(chunks))))
        last = f"{chunks}/11/11"
        assert setup.blobs.size(last) is None, "the job was nearly done"
        setup.blobs.put(last, whole[: len(whole) // 2])
        proxy.mend()

        digest = finished_digest(client, job.id)
        summary = client.result(job.id)["summary"]
        assert summary["tiles"] == TILES
        assert summary["computed_tiles"] <= TILES - seen
        assert setup.blobs.size(last) == len(whole)
        assert len(list(setup.blobs.list(chunks))) == TILES
        eventually(lambda: setup.cluster.tasks() == [], what="no task on the scheduler")
        eventually(lambda: list(setup.blobs.list("stops")) == [], what="no stop flag")
        # The same matrix anew, undisturbed and in other tiles.
        client.delete_matrix(matrix)
        quiet = client.gram(data, kernel=KERNEL, tile_rows=512)
        assert finished_digest(client, quiet.id) == digest
