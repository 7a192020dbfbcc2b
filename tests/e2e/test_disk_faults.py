"""The disk is full or read-only in the middle of a job: a small tmpfs of the service's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.client import Client
from support.aftermath import check_aftermath, eventually, finished_digest
from support.server import ServiceProcess
from support.service_state import npy

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DISK_MIB = 24
KERNEL = {"preset": "fc", "depth": 3}
ROWS = 1800  # 13 MB of tiles, 435 of them
TASK = {"type": "gram", "kernel": KERNEL, "tile_rows": 64}

# Root mounts in a mount namespace, others in a user namespace of their own.
_UNSHARE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]


class SmallDisk:
    """A tmpfs at `folder` that only the service and its workers see."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        mount = f'mount -t tmpfs -o size={DISK_MIB}m tmpfs "$0" && exec "$@"'
        self.launcher = [*_UNSHARE, "sh", "-c", mount, str(folder)]
        self._service: ServiceProcess | None = None

    def of(self, service: ServiceProcess) -> SmallDisk:
        self._service = service
        return self

    @property
    def seen(self) -> Path:
        """The disk as the service sees it, from outside of its namespace."""
        assert self._service is not None
        return Path(f"/proc/{self._service.process.pid}/root{self.folder}")

    def fill(self) -> None:
        with (self.seen / "ballast").open("ab", buffering=0) as file:
            for piece in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * piece)
                except OSError:
                    continue

    def empty(self) -> None:
        (self.seen / "ballast").unlink()

    def remount(self, mode: str) -> bool:
        assert self._service is not None
        command = ["nsenter", "-t", str(self._service.process.pid), "-m"]
        if os.geteuid() != 0:
            command += ["-U", "--preserve-credentials"]
        done = subprocess.run(
            [*command, "mount", "-o", f"remount,{mode}", str(self.folder)], capture_output=True
        )
        return done.returncode == 0


@pytest.fixture(params=["store", "everything"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> SmallDisk:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare(1)")
    if subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode != 0:
        pytest.skip("this system lets us make no mount namespace")
    data = tmp_path / "service" / "data"
    return SmallDisk({"store": data / "store", "everything": data}[request.param])


@pytest.fixture
def service(tmp_path: Path, disk: SmallDisk) -> Iterator[ServiceProcess]:
    with ServiceProcess(
        tmp_path / "service",
        launcher=disk.launcher,
        compute_block_rows=64,
        batch_seconds=0.1,
        event_throttle_seconds=0.0,
        reserved_disk_bytes=0,
        cluster_retry_seconds=0.2,
    ) as running:
        running.start()
        disk.of(running)
        yield running


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[Client]:
    with service.client() as opened:
        yield opened


def samples() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((ROWS, 8)).astype(np.float32)


def seen_data(service: ServiceProcess) -> Path:
    return Path(f"/proc/{service.process.pid}/root{service.folder / 'data'}")


def tiles_done(client: Client, job: str, at_least: int) -> int:
    for event in client.watch(job):
        if event.type == "progress" and event.data["tiles_done"] >= at_least:
            return int(event.data["tiles_done"])
    raise AssertionError("the job ended before it could be disturbed")


@pytest.mark.parametrize("disk", ["store"], indirect=True)
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_the_store_cannot_be_written(
    service: ServiceProcess, client: Client, disk: SmallDisk, fault: str
) -> None:
    data = client.upload(samples()).id
    job = client.submit({**TASK, "x1": data})
    kept = tiles_done(client, job.id, 100)
    if fault == "full":
        disk.fill()
    else:
        eventually(lambda: disk.remount("ro"), what="remounting while no file is open")
    ended = client.wait(job.id, timeout_seconds=60)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["cause"] == "disk-full"
    assert "Free space" in ended.error["advice"]
    assert client.ready()["checks"]["store"]["ok"] is False
    if fault == "full":
        disk.empty()
    else:
        assert disk.remount("rw")
    assert client.ready()["ready"]
    again = client.submit({**TASK, "x1": data})
    assert again.id != job.id
    digest = finished_digest(client, again.id)
    summary = client.result(again.id)["summary"]
    assert summary["computed_tiles"] <= summary["tiles"] - kept
    check_aftermath(client, seen_data(service))
    client.delete_matrix(str(again.matrix))
    undisturbed = client.submit({**TASK, "x1": data, "tile_rows": 128})
    assert finished_digest(client, undisturbed.id) == digest


@pytest.mark.parametrize("disk", ["everything"], indirect=True)
def test_store_and_catalog_are_full(
    service: ServiceProcess, client: Client, disk: SmallDisk
) -> None:
    """What cannot even be written down is not forgotten: the job goes on when there is space."""
    data = client.upload(samples()).id
    job = client.submit({**TASK, "x1": data})
    kept = tiles_done(client, job.id, 100)
    disk.fill()
    eventually(lambda: not client.ready()["checks"]["store"]["ok"], what="/readyz tells")
    refused = httpx2.post(f"{service.url}/v1/datasets", files={"x": ("x.npy", npy(samples()[::2]))})
    assert refused.status_code in (503, 507), refused.text
    assert refused.json()["kind"] in ("catalog-unavailable", "disk-full", "insufficient-storage")
    assert client.job(job.id).state in ("running", "failed")  # reading goes on
    disk.empty()
    ended = client.wait(job.id, timeout_seconds=120)
    if ended.state == "failed":  # the failure could be recorded: there is always a little space
        assert ended.error is not None
        assert ended.error["cause"] == "disk-full"
        ended = client.wait(client.submit({**TASK, "x1": data}).id, timeout_seconds=120)
    assert ended.state == "succeeded", ended.error
    summary = client.result(ended.id)["summary"]
    assert summary["computed_tiles"] <= summary["tiles"] - kept
    finished_digest(client, ended.id)
    check_aftermath(client, seen_data(service))
