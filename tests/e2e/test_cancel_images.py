"""Gram jobs of images, in blocks and tiles of the service's own choice, are cancelled."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import httpx2
import numpy as np
import pytest

from support.aftermath import check_aftermath, eventually
from support.server import ServiceProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

logger = logging.getLogger(__name__)

# Of minutes to hours each, one of every representation.
KERNELS = {
    "planes": {"preset": "cntk", "depth": 11},
    "diagonal": {"preset": "cntk", "depth": 11, "readout": "flatten"},
    "tensor": {"preset": "resnet50-preact"},
}
PATIENCE_SECONDS = 15.0  # of a busy machine: alone it takes one


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("images")
    with ServiceProcess(folder, n_workers=2, event_throttle_seconds=0.0) as process:
        process.start()
        yield process


@pytest.mark.timeout(600)
@pytest.mark.parametrize("representation", KERNELS)
def test_workers_are_idle_within_seconds(service: ServiceProcess, representation: str) -> None:
    x = np.random.default_rng(0).random((2000, 32, 32, 3)).astype(np.float32)
    with service.client() as client:
        data = client.upload(x).id
        task = {"type": "gram", "kernel": KERNELS[representation], "x1": data}
        assert client.estimate(task)["estimate"]["representation"] == representation
        job = client.submit(task)
        # Compiling is not interrupted: once there are tiles it is over.
        for event in client.watch(job.id):
            if event.type == "progress" and event.data["tiles_done"] >= 2:
                break
        time.sleep(0.5)  # the workers are in the middle of the next ones
        asked = time.monotonic()
        client.cancel(job.id)
        ended = client.wait(job.id, timeout_seconds=PATIENCE_SECONDS)
        assert ended.state == "cancelled"
        cluster = f"{service.url}/v1/cluster"
        eventually(lambda: httpx2.get(cluster).json()["tasks"] == 0, seconds=PATIENCE_SECONDS)
        logger.info("%s: idle after %.2f s", representation, time.monotonic() - asked)
        check_aftermath(client, service.folder / "data")
