"""SIGKILL in the middle of a job, start again on the same folder: same digest, no tile twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.client import Client
from support.server import ServiceProcess

pytestmark = pytest.mark.cluster

KERNEL = {"preset": "fc", "depth": 3}
# Enough that the job outlasts two restarts on a fast machine.
ROWS = 3000


def data() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((ROWS, 12)).astype(np.float32)


def submit(client: Client, tile_rows: int) -> str:
    train = client.upload(data()).id
    return client.gram(train, kernel=KERNEL, tile_rows=tile_rows).id


def tiles_done(client: Client, job_id: str, at_least: int) -> int:
    """Watch until this many tiles are reported."""
    for event in client.watch(job_id):
        if event.type == "progress" and event.data["tiles_done"] >= at_least:
            return int(event.data["tiles_done"])
    raise AssertionError("the job ended before it could be disturbed")


def watch(url: str, job: str) -> subprocess.Popen[str]:
    """`gramian watch`, as a user types it, through everything that follows."""
    return subprocess.Popen(
        [sys.executable, "-m", "service.cli", "watch", job, "--json", "--url", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_service_goes_on_where_it_was(tmp_path: Path) -> None:
    service = ServiceProcess(
        tmp_path,
        n_workers=1,
        compute_block_rows=64,
        event_throttle_seconds=0.0,
        batch_seconds=0.1,
    )
    with service:
        service.start()
        with service.client() as client:
            job = submit(client, tile_rows=64)
            watching = watch(service.url, job)
            seen = tiles_done(client, job, 60)
            service.kill()
            service.start()
            # An orderly stop is a restart like any other.
            more = tiles_done(client, job, seen + 30)
            assert service.stop() == 0
            service.start()
            ended = client.wait(job)
            assert ended.state == "succeeded", ended.error
            assert ended.document["attempts"] == 3
            lines, complaints = watching.communicate(timeout=60)
            assert watching.returncode == 0, complaints
            followed = [json.loads(line) for line in lines.splitlines()]
            assert [event["id"] for event in followed] == list(range(1, len(followed) + 1))
            assert followed[-1]["data"]["state"] == "succeeded"
            summary = client.result(job)["summary"]
            assert summary["computed_tiles"] <= summary["tiles"] - more
            numbers = [event.id for event in client.watch(job)]
            assert numbers == list(range(1, len(numbers) + 1))
            # The same matrix anew, undisturbed and in other tiles.
            client.delete_matrix(str(ended.matrix))
            quiet = submit(client, tile_rows=256)
            assert quiet != job
            assert client.wait(quiet).state == "succeeded"
            undisturbed = client.result(quiet)["summary"]
            assert undisturbed["digest"] == summary["digest"]
            assert undisturbed["computed_tiles"] == undisturbed["tiles"] < summary["tiles"]
