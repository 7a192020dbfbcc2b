"""A scheduler that is away for longer than Dask waits: jobs stay, and go on when it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.cluster import ClusterProcesses
from support.server import live_server, offline_settings

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    processes = ClusterProcesses(tmp_path / "dask")
    yield processes
    processes.kill()


def test_jobs_outlive_a_scheduler_that_stays_away(
    tmp_path: Path, cluster: ClusterProcesses
) -> None:
    settings = offline_settings(
        tmp_path,
        scheduler_address=cluster.address,
        cluster_start_seconds=3.0,  # after this Dask closes a client that lost its scheduler
        cluster_retry_seconds=0.2,
        compute_block_rows=64,
        batch_seconds=0.1,
        event_throttle_seconds=0.0,
    )
    with live_server(settings) as server, server.client() as client:
        data = np.random.default_rng(0).standard_normal((2000, 10)).astype(np.float32)
        job = client.gram(client.upload(data).id, kernel={"preset": "fc", "depth": 3}, tile_rows=64)
        assert not client.ready()["checks"]["scheduler"]["ok"]
        assert client.job(job.id).state == "queued"
        cluster.start()
        events = client.watch(job.id)
        seen = next(e.data["tiles_done"] for e in events if e.data.get("tiles_done", 0) > 50)
        lost = server.services.compute.client()
        cluster.kill()
        for _ in range(600):
            if lost.status == "closed":
                break
            client.about()  # the service answers meanwhile
            time.sleep(0.05)
        assert lost.status == "closed"
        assert client.job(job.id).state == "running"
        cluster.start()
        ended = client.wait(job.id, timeout_seconds=120)
        assert ended.state == "succeeded", ended.error
        assert server.services.compute.client() is not lost
        summary = client.result(job.id)["summary"]
        assert summary["computed_tiles"] <= summary["tiles"] - seen
