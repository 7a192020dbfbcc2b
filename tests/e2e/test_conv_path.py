"""The setting `conv_path` reaches the workers of a service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.server import ServiceProcess
from workers.kernels import compile_kernel

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

KERNEL = {"preset": "cntk", "depth": 2, "readout": "gap"}


def test_a_job_is_computed_by_the_path_that_is_asked_for(tmp_path: Path) -> None:
    """`fused` is interpreted: this machine has no GPU. The last bits say which path it was."""
    images = np.random.default_rng(0).random((6, 4, 4, 3)).astype(np.float32)
    values, digests = {}, {}
    for path in ("auto", "fused"):
        folder = tmp_path / path
        folder.mkdir()
        with ServiceProcess(folder, n_workers=1, reserved_disk_bytes=0, conv_path=path) as service:
            service.start()
            with service.client() as client:
                data = client.upload(images)
                job = client.wait(
                    client.gram(data.id, kernel=KERNEL, dtype="float64").id, timeout_seconds=120
                )
                assert job.state == "succeeded", job.error
                file = client.fetch(str(job.matrix), tmp_path / f"{path}.npy", array="ntk")
                values[path] = np.load(file)
                digests[path] = client.result(job.id)["summary"]["digest"]
    expected = compile_kernel(KERNEL)(images.astype(np.float64))["ntk"]
    for found in values.values():
        np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert digests["auto"] != digests["fused"]
