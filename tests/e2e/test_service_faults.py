"""SIGKILL of the service at its worst moments: sealing, an upload, a solve; and of it alone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.client import Client
from support.aftermath import check_aftermath, eventually, finished_digest, leftovers
from support.cluster import ClusterProcesses, worker_pids
from support.server import ServiceProcess
from support.service_state import npy
from workers.cluster import ClusterSettings, connect

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

KERNEL = {"preset": "fc", "depth": 2}
ROWS = 1300


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(
        tmp_path,
        compute_block_rows=64,
        tile_rows=64,
        batch_seconds=0.1,
        event_throttle_seconds=0.0,
        retention_leftover_days=0,
    ) as running:
        running.start()
        yield running


def samples(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)


def quiet_digest(client: Client, matrix: str) -> str:
    """Digest of the same matrix anew, undisturbed and in other tiles."""
    request = client.matrix(matrix).document["provenance"]["request"]
    client.delete_matrix(matrix)
    job = client.gram(request["x1"], kernel=KERNEL, tile_rows=256)
    return finished_digest(client, job.id)


@pytest.mark.parametrize("moment", ["sealing begins", "the matrix is published"])
def test_killed_while_it_seals(service: ServiceProcess, moment: str) -> None:
    with service.client() as client:
        job = client.gram(client.upload(samples()).id, kernel=KERNEL)
        matrix = str(job.job.matrix)
        published = service.folder / "data" / "store" / "matrices" / matrix / "zarr.json"
        for event in client.watch(job.id):
            if event.type == "progress" and event.data.get("phase") == "sealing":
                break
            if event.type == "progress" and event.data["tiles_done"] == event.data["tiles_total"]:
                break
        if moment == "the matrix is published":
            eventually(published.exists)
        service.kill()
        service.start()
        digest = finished_digest(client, job.id)
        summary = client.result(job.id)["summary"]
        # 231 tiles were stored before; none of them was computed by the second service.
        assert summary["tiles"] == 231
        attempts = client.job(job.id).document["attempts"]
        assert attempts == 1 or summary["computed_tiles"] == 0
        check_aftermath(client, service.folder / "data")
        assert quiet_digest(client, matrix) == digest


def test_killed_while_an_upload_comes_in(service: ServiceProcess) -> None:
    data = service.folder / "data"
    body = b'--zz\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\n'
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(
            b"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n"
            b"Content-Type: multipart/form-data; boundary=zz\r\n\r\n" + body + b"\0" * (4 << 20)
        )
        eventually(lambda: any((data / "uploads").rglob("x.bin")), what="the file begins")
        service.kill()
    assert leftovers(data) != []
    service.start()
    assert leftovers(data) == []
    with service.client() as client:
        assert list(client.datasets()) == []
        x = samples()
        np.testing.assert_array_equal(_rows(service, client.upload(x).id), x[:2])


def test_killed_while_an_upload_is_stored(service: ServiceProcess) -> None:
    """The body is there; the chunks of the data set are being written."""
    data, x = service.folder / "data", samples(400_000)
    body = npy(np.repeat(x, 8, axis=1))

    def send() -> None:
        with suppress(httpx2.HTTPError):
            httpx2.post(f"{service.url}/v1/datasets", files={"x": ("x.npy", body)}, timeout=60)

    sender = threading.Thread(target=send)
    sender.start()
    stored = data / "store" / "datasets"
    eventually(lambda: any(stored.rglob("*")), what="the first chunk")
    service.kill()
    sender.join()
    service.start()
    with service.client() as client:
        assert list(client.datasets()) == []
        found = client.upload(np.repeat(x, 8, axis=1))
        assert found.document["shape"] == [400_000, 64]
        check_aftermath(client, data)
        assert client.garbage()["items"] == []


def test_killed_in_a_solve_it_goes_on_to_the_same_answer(service: ServiceProcess) -> None:
    with service.client() as client:
        x = samples()
        train = client.upload(x, np.sin(x[:, :3].astype(np.float64))).id
        gram = client.wait(client.gram(train, kernel=KERNEL).id)
        task = {
            "type": "solve",
            "matrix": gram.matrix,
            "method": "cg",
            "placement": "stream",
            "preconditioner": "none",
            "ridge": 1e-7,
            "tolerance": 1e-8,
            "max_applications": 400,
        }
        job = client.submit(task)
        for event in client.watch(job.id):
            if event.data.get("iteration", 0) >= 10:
                break
        service.kill()
        assert client_is_gone(service)
        service.start()
        ended = client.wait(job.id, timeout_seconds=240)
        assert ended.state == "succeeded", ended.error
        assert ended.document["attempts"] == 2
        dual = client.slice(str(ended.matrix), array="dual")
        check_aftermath(client, service.folder / "data")
        client.delete_matrix(str(ended.matrix))
        again = client.wait(client.submit(task).id, timeout_seconds=240)
        assert again.state == "succeeded", again.error
        quiet = client.slice(str(again.matrix), array="dual")
        np.testing.assert_allclose(dual, quiet, rtol=0, atol=1e-3 * np.abs(quiet).max())


def client_is_gone(service: ServiceProcess) -> bool:
    return service.process.poll() is not None


def test_killed_alone_it_leaves_no_task_on_a_scheduler_of_others(tmp_path: Path) -> None:
    cluster = ClusterProcesses(tmp_path / "dask")
    service = ServiceProcess(
        tmp_path / "service",
        scheduler_address=cluster.address,
        compute_block_rows=64,
        batch_seconds=0.2,
        event_throttle_seconds=0.0,
    )
    try:
        cluster.start(workers=2)
        with service:
            service.start()
            with service.client() as client:
                data = client.upload(samples(2500)).id
                job = client.gram(data, kernel=KERNEL, tile_rows=64)
                for event in client.watch(job.id):
                    if event.type == "progress" and event.data["tiles_done"] >= 50:
                        break
                service.kill()
                eventually(lambda: cluster.tasks() == [], what="the scheduler forgets")
                with connect(ClusterSettings(scheduler_address=cluster.address)) as dask:
                    assert len(worker_pids(dask)) == 2
                time.sleep(0.5)  # whatever still ran has ended
                service.start()
                digest = finished_digest(client, job.id)
                check_aftermath(client, service.folder / "data")
                eventually(lambda: cluster.tasks() == [])
                assert quiet_digest(client, str(job.job.matrix)) == digest
    finally:
        cluster.kill()


def _rows(service: ServiceProcess, dataset: str) -> np.ndarray:
    answer = httpx2.get(
        f"{service.url}/v1/datasets/{dataset}/rows?rows=0:2",
        headers={"Accept": "application/json"},
    )
    found = answer.raise_for_status().json()
    return np.array(found["values"], np.float32)
