"""Service and workers that share no folder: everything they share is in a bucket."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import numpy as np
import pytest

from service.client import Client
from storage.blobs import BlobStore, open_blobs
from support.cluster import ClusterProcesses
from support.matrices import flip_bit
from support.s3 import S3Server
from support.server import ServiceProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROWS = 1000
KERNEL = {"preset": "fc", "depth": 3}
SETTINGS = {
    "compute_block_rows": 64,
    "batch_seconds": 0.1,
    "event_throttle_seconds": 0.0,
    "cluster_retry_seconds": 0.5,
    "reserved_disk_bytes": 0,
}


@pytest.fixture(scope="module")
def bucket(s3: S3Server) -> str:
    return s3.bucket()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[ClusterProcesses]:
    """Two workers that know the keys of the bucket, from their environment, and nothing else."""
    assert not [name for name in os.environ if name.startswith("AWS_ENDPOINT")]
    processes = ClusterProcesses(tmp_path_factory.mktemp("elsewhere"))
    processes.start(workers=2)
    yield processes
    processes.kill()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, cluster: ClusterProcesses, s3: S3Server, bucket: str
) -> Iterator[ServiceProcess]:
    with ServiceProcess(
        tmp_path_factory.mktemp("service"),
        store_url=s3.url(bucket),
        scheduler_address=cluster.address,
        **SETTINGS,
    ) as process:
        process.start()
        yield process


@pytest.fixture(scope="module")
def blobs(s3: S3Server, bucket: str) -> BlobStore:
    return open_blobs(s3.url(bucket))


def samples() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((ROWS, 12)).astype(np.float32)


def gram(client: Client, tile_rows: int) -> str:
    data = client.upload(samples(), np.arange(ROWS) % 3).id
    return client.gram(data, kernel=KERNEL, tile_rows=tile_rows).id


def tiles_done(client: Client, job: str, at_least: int) -> int:
    """Watch until this many tiles are reported."""
    for event in client.watch(job):
        if event.type == "progress" and event.data["tiles_done"] >= at_least:
            return int(event.data["tiles_done"])
    raise AssertionError("the job ended before it could be disturbed")


@pytest.fixture(scope="module")
def local_digest(
    tmp_path_factory: pytest.TempPathFactory, cluster: ClusterProcesses
) -> Iterator[str]:
    """Of the same matrix in a folder, in other tiles."""
    with ServiceProcess(
        tmp_path_factory.mktemp("local"), scheduler_address=cluster.address, **SETTINGS
    ) as process:
        process.start()
        with process.client() as client:
            ended = client.wait(gram(client, 256), timeout_seconds=120)
            yield str(client.matrix(str(ended.matrix)).digest)


@pytest.fixture(scope="module")
def matrix(service: ServiceProcess, s3: S3Server, bucket: str) -> str:
    """Computed although the service was killed and the bucket was closed for a while."""
    with service.client() as client:
        job = gram(client, 64)
        seen = tiles_done(client, job, 30)
        service.kill()
        service.start()
        s3.deny_everything(bucket)
        deadline = time.monotonic() + 60
        while not re.search(r"Job \S+ waits: .* denies access", log := service.log.read_text()):
            assert time.monotonic() < deadline, log
            time.sleep(0.1)
        assert client.job(job).state == "running"
        assert not client.ready()["checks"]["store"]["ok"]
        s3.allow_again(bucket)
        ended = client.wait(job, timeout_seconds=120)
        assert ended.state == "succeeded", ended.error
        summary = client.result(job)["summary"]
        assert summary["computed_tiles"] <= summary["tiles"] - seen
        return str(ended.matrix)


def test_the_numbers_are_those_of_a_folder(
    service: ServiceProcess, matrix: str, local_digest: str, blobs: BlobStore
) -> None:
    with service.client() as client:
        assert client.matrix(matrix).digest == local_digest
    assert len(list(blobs.list(f"matrices/{matrix}/ntk/c"))) == 16 * 17 // 2
    assert len(list(blobs.list(f"matrices/{matrix}/_preview"))) > 0
    kept = {p.name for p in (service.folder / "data").iterdir()}
    assert "store" not in kept, kept
    assert list(blobs.list("stops")) == []


def test_readers_and_ranges(service: ServiceProcess, matrix: str, blobs: BlobStore) -> None:
    with service.client() as client:
        part = client.slice(matrix, array="ntk", rows=slice(100, 140), cols=slice(3, 9))
        np.testing.assert_array_equal(
            client.slice(matrix, array="ntk", rows=slice(3, 9), cols=slice(100, 140)), part.T
        )
    whole = blobs.get(f"matrices/{matrix}/ntk/c/0/1")
    np.testing.assert_array_equal(
        np.frombuffer(whole[:-4], np.float32).reshape(64, 64)[3:9, 36:], part[:28].T
    )


def test_damage_is_found_and_repaired(
    service: ServiceProcess, matrix: str, blobs: BlobStore
) -> None:
    chunks = [f"matrices/{matrix}/ntk/c/{name}" for name in ("0/1", "1/1", "0/2")]
    before = {key: blobs.get(key) for key in chunks}
    flip_bit(blobs, chunks[0])
    blobs.put(chunks[1], before[chunks[1]][:-7])
    blobs.delete(chunks[2])
    with service.client() as client:
        digest = client.matrix(matrix).digest
        found = client.answer(client.verify(matrix), timeout_seconds=60).summary
        assert {"/".join(map(str, p["coordinates"])): p["kind"] for p in found["problems"]} == {
            "0/1": "corrupt-chunk",
            "1/1": "corrupt-chunk",
            "0/2": "missing-chunk",
        }
        healed = client.answer(client.verify(matrix, repair=True), timeout_seconds=120).summary
        assert (healed["intact"], healed["digest"]) == (True, digest)
    assert {key: blobs.get(key) for key in chunks} == before


@pytest.mark.parametrize("method", ["cg", "tiled-cholesky"])
def test_solves_keep_what_they_need_in_the_bucket(
    service: ServiceProcess, matrix: str, blobs: BlobStore, method: str
) -> None:
    with service.client() as client:
        job = client.solve(matrix, ridge=1e-2, method=method)
        ended = client.wait(job.id, timeout_seconds=120)
        assert ended.state == "succeeded", ended.error
        assert blobs.size(f"matrices/{ended.matrix}/zarr.json") is not None
    assert list(blobs.list("solves")) == []
