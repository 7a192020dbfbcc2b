"""Two minutes of random kills while ten jobs run; then every digest is that of a quiet run.

pytest -m slow tests/e2e/test_chaos.py -s        # GRAMIAN_CHAOS_SEED, GRAMIAN_CHAOS_SECONDS
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from service.client import ApiError, Client, ServiceUnreachableError
from support.aftermath import check_aftermath, eventually, finished_digest
from support.cluster import ClusterProcesses
from support.server import ServiceProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]

logger = logging.getLogger(__name__)

SEED = int(os.environ.get("GRAMIAN_CHAOS_SEED", "1"))
SECONDS = float(os.environ.get("GRAMIAN_CHAOS_SECONDS", "120"))

CONV = {"op": "conv", "filter": [3, 3], "w_std": 2**0.5}
PIXELS = {"layers": [CONV, {"op": "activation", "fn": "relu"}, CONV]}


def requests(client: Client) -> list[dict[str, Any]]:
    """Ten jobs of six kinds, each some seconds of work for two workers."""
    rng = np.random.default_rng(0)
    train, test = (
        client.upload(rng.standard_normal((rows, 12)).astype(np.float32)).id
        for rows in (2500, 1200)
    )
    images = client.upload(rng.random((96, 12, 12, 3)).astype(np.float32)).id
    image = client.upload(rng.random((1, 48, 48, 3)).astype(np.float32)).id
    gram = {"type": "gram", "x1": train, "tile_rows": 64}
    return [
        *({**gram, "kernel": {"preset": "fc", "depth": depth}} for depth in (1, 2, 3, 4)),
        {**gram, "kernel": {"preset": "fc", "depth": 2, "activation": "erf"}},
        {**gram, "kernel": "fc", "outputs": ["nngp", "ntk"]},
        {**gram, "kernel": "fc", "x1": test, "x2": train},
        {**gram, "kernel": "fc", "x1": test, "dtype": "float64"},
        {"type": "gram", "kernel": {"preset": "cntk", "depth": 3}, "x1": images},
        {"type": "pixel_gram", "kernel": PIXELS, "x": image, "image": 0},
    ]


class Plant:
    """Scheduler, `gramian worker` and the service: three processes that may die at any time."""

    def __init__(self, folder: Path) -> None:
        self.cluster = ClusterProcesses(folder / "dask")
        self.service = ServiceProcess(
            folder / "service",
            scheduler_address=self.cluster.address,
            compute_block_rows=64,
            batch_seconds=0.3,
            cluster_start_seconds=5.0,
            cluster_retry_seconds=0.5,
            max_running_jobs=4,
        )
        self.supervisor: subprocess.Popen[bytes] | None = None
        self._folder = folder

    def __enter__(self) -> Plant:
        self.cluster.start_scheduler()
        command = ["-m", "service.cli", "worker", self.cluster.address, "--workers", "2"]
        self.supervisor = subprocess.Popen(
            [sys.executable, *command, "--scratch-dir", str(self._folder / "scratch")],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.service.start(timeout_seconds=120)
        return self

    def __exit__(self, *_: object) -> None:
        if self.service.process.poll() is None:
            self.service.kill()
        if self.supervisor is not None:
            self.supervisor.terminate()
            self.supervisor.wait(30)
        self.cluster.kill()

    def kill(self, part: str, choose: random.Random) -> None:
        if part == "scheduler":
            self.cluster.kill_scheduler()
            time.sleep(choose.uniform(0, 2))
            self.cluster.start_scheduler()
        elif part == "service":
            self.service.kill()
            time.sleep(choose.uniform(0, 1))
            self.service.start(timeout_seconds=120)
        else:
            assert self.supervisor is not None
            below = psutil.Process(self.supervisor.pid).children(recursive=True)
            if below:
                with suppress(psutil.NoSuchProcess):
                    choose.choice(below).send_signal(signal.SIGKILL)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with Plant(tmp_path) as running:
        yield running


def test_two_minutes_of_chaos(plant: Plant) -> None:
    choose = random.Random(SEED)
    kills: Counter[str] = Counter()
    with plant.service.client() as client:
        tasks = requests(client)
        quiet = [finished_digest(client, client.submit(task).id) for task in tasks]
        jobs = submit_anew(client, tasks)
        started, rounds = time.monotonic(), 1
        while time.monotonic() - started < SECONDS:
            time.sleep(choose.uniform(1, 6))
            part = choose.choice(["worker", "worker", "scheduler", "service"])
            plant.kill(part, choose)
            kills[part] += 1
            if all_ended(client, jobs):
                check(client, jobs, quiet)
                jobs, rounds = submit_anew(client, tasks), rounds + 1
        check(client, jobs, quiet)
        check_aftermath(client, plant.service.folder / "data")
        eventually(lambda: plant.cluster.tasks() == [], what="no task on the scheduler")
        attempts = [client.job(job).document["attempts"] for job in jobs]
    logger.info("seed %d: killed %s, %d rounds, attempts %s", SEED, dict(kills), rounds, attempts)
    assert set(kills) == {"worker", "scheduler", "service"}


def submit_anew(client: Client, tasks: list[dict[str, Any]]) -> list[str]:
    """Delete all matrices and ask for them again; ids of the jobs."""
    for matrix in list(client.matrices()):
        client.delete_matrix(matrix.id)
    return [client.submit(task).id for task in tasks]


def all_ended(client: Client, jobs: list[str]) -> bool:
    try:
        return all(client.job(job).state not in ("queued", "running") for job in jobs)
    except (ServiceUnreachableError, ApiError):
        return False


def check(client: Client, jobs: list[str], quiet: list[str]) -> None:
    found = [finished_digest(client, job, timeout_seconds=300) for job in jobs]
    assert found == quiet
