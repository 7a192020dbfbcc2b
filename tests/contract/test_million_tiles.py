"""A matrix of a million tiles is being built: the service answers as if it had ten."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import httpx2
import numpy as np
import pytest

from storage.catalog.records import TileRecord
from support.server import LiveServer
from support.service_state import register

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EDGE = 1414  # tiles along the edge
BATCH = 20_000


@pytest.fixture(scope="module")
def job(server: LiveServer, upload: Callable[..., str]) -> str:
    """A queued job, and the tiles that an earlier attempt at it has left."""
    data = upload(np.zeros((EDGE * 64, 1), np.float32) + np.arange(EDGE * 64)[:, None])
    with server.client() as client:
        found = client.submit({"type": "gram", "kernel": "fc", "x1": data, "tile_rows": 64})
    services = server.services
    manifest = services.runner.kinds["gram"].plan(services.context, found.document["task"]).manifest
    assert manifest is not None
    register(server, manifest)
    tiles = [(i, j) for i in range(EDGE) for j in range(i, EDGE)]
    assert len(tiles) > 1_000_000
    for start in range(0, len(tiles), BATCH):
        services.catalog.add_tiles(
            manifest.id,
            [
                TileRecord("ntk", i, j, bytes(32), 0.01, 0.0, 1.0, 0, 16388)
                for i, j in tiles[start : start + BATCH]
            ],
        )
    return found.id


def milliseconds(ask: Callable[[], httpx2.Response]) -> float:
    found = []
    for _ in range(7):
        started = time.perf_counter()
        assert ask().status_code in (200, 503)
        found.append(1000 * (time.perf_counter() - started))
    return median(found)


@pytest.mark.parametrize(
    ("path", "limit_ms"),
    [
        ("/v1/jobs/{job}", 100),
        ("/v1/jobs", 100),
        ("/v1/jobs?state=queued&type=gram", 100),
        ("/v1/matrices", 100),
        ("/readyz", 100),
        # These sum the tiles of matrices that are not sealed yet.
        ("/v1/cluster", 1000),
        ("/metrics", 1000),
    ],
)
def test_status_stays_instant(
    server: LiveServer, http: httpx2.Client, job: str, path: str, limit_ms: float
) -> None:
    assert milliseconds(lambda: http.get(path.format(job=job))) < limit_ms


def test_other_jobs_are_accepted_meanwhile(
    http: httpx2.Client, job: str, upload: Callable[..., str]
) -> None:
    data = upload(np.eye(5, dtype=np.float32))
    started = time.perf_counter()
    answer = http.post("/v1/jobs", json={"task": {"type": "gram", "kernel": "fc", "x1": data}})
    assert answer.status_code == 202, answer.text
    assert time.perf_counter() - started < 2
