"""The network between service and scheduler is cut, or swallows everything for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.client import Client
from support.aftermath import check_aftermath, eventually, finished_digest
from support.cluster import ClusterProcesses
from support.server import live_server, offline_settings
from support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

KERNEL = {"preset": "fc", "depth": 3}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    processes = ClusterProcesses(tmp_path / "dask")
    yield processes
    processes.kill()


@pytest.mark.parametrize("fault", ["cut", "cut for longer than Dask waits", "silence"])
def test_a_job_survives_a_network_that_fails(
    tmp_path: Path, cluster: ClusterProcesses, fault: str
) -> None:
    proxy = TcpProxy(cluster.port)
    settings = offline_settings(
        tmp_path,
        scheduler_address=f"tcp://127.0.0.1:{proxy.port}",
        cluster_start_seconds=3.0,
        cluster_retry_seconds=0.2,
        compute_block_rows=64,
        batch_seconds=0.1,
        event_throttle_seconds=0.0,
    )
    away = {"cut": 0.5, "cut for longer than Dask waits": 8.0, "silence": 5.0}[fault]
    try:
        cluster.start(workers=2)
        with live_server(settings) as server, server.client() as client:
            eventually(lambda: client.ready()["ready"], what="the cluster")
            data = np.random.default_rng(0).standard_normal((2500, 10)).astype(np.float32)
            dataset = client.upload(data).id
            job = client.gram(dataset, kernel=KERNEL, tile_rows=64)
            seen = _tiles_done(client, job.id, 60)
            (proxy.silence if fault == "silence" else proxy.cut)()
            mending = threading.Timer(away, proxy.speak if fault == "silence" else proxy.mend)
            mending.start()
            while mending.is_alive():
                assert client.job(job.id).state == "running"  # and the service answers
                time.sleep(0.1)
            digest = finished_digest(client, job.id)
            summary = client.result(job.id)["summary"]
            # The summary counts the last attempt: a connection that was given up began another.
            attempts = client.job(job.id).document["attempts"]
            assert summary["computed_tiles"] <= summary["tiles"] - (seen if attempts > 1 else 0)
            check_aftermath(client, settings.data_dir)
            eventually(lambda: cluster.tasks() == [], what="no task on the scheduler")
            client.delete_matrix(str(job.job.matrix))
            quiet = client.gram(dataset, kernel=KERNEL, tile_rows=256)
            assert finished_digest(client, quiet.id) == digest
    finally:
        proxy.close()


def _tiles_done(client: Client, job: str, at_least: int) -> int:
    for event in client.watch(job):
        if event.type == "progress" and event.data["tiles_done"] >= at_least:
            return int(event.data["tiles_done"])
    raise AssertionError("the job ended before it could be disturbed")
