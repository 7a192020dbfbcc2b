"""A real server without a cluster, and the state that a refused request must leave alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import numpy as np
import pytest

from support.server import LiveServer, live_server, offline_settings
from support.service_state import snapshot

MAX_UPLOAD_BYTES = 2 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One service per test module, with small limits."""
    settings = offline_settings(
        tmp_path_factory.mktemp("service"),
        max_upload_bytes=MAX_UPLOAD_BYTES,
        max_dataset_bytes=4 << 20,
        max_json_bytes=64 << 10,
        max_slice_bytes=1 << 20,
        max_json_numbers=1000,
        compute_block_rows=64,
        heartbeat_seconds=0.2,
    )
    with live_server(settings) as running:
        yield running


@pytest.fixture
def http(server: LiveServer) -> Iterator[httpx2.Client]:
    with server.http() as client:
        yield client


@pytest.fixture
def unchanged(server: LiveServer) -> Iterator[None]:
    """Nothing may be written to the store, the upload folder or the catalog by the test."""
    before = snapshot(server)
    yield
    assert snapshot(server) == before


@pytest.fixture(scope="module")
def upload(server: LiveServer) -> Callable[..., str]:
    """Uploads arrays and returns the id of the data set."""

    def put(x: np.ndarray, y: np.ndarray | None = None) -> str:
        with server.client() as client:
            return client.upload(x, y).id

    return put
