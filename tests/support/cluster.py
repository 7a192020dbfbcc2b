"""A Dask scheduler and workers as processes of their own, to be killed, stopped and cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from distributed import Client

from support.server import free_port
from workers.cluster import ClusterSettings, connect, worker_environment


class ClusterProcesses:
    """One scheduler on a fixed port of the loopback, and any number of workers (with nannies).

    `workers_connect_to`: the address that workers are given, when it is not the scheduler's own.
    `scheduler_settings`: Dask's settings of the scheduler, such as
    {"distributed.scheduler.worker-ttl": "2s"}. `scheme`, `scheduler_options`: for TLS.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers_connect_to: str | None = None,
        scheduler_settings: Mapping[str, str] | None = None,
        scheme: str = "tcp",
        scheduler_options: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.address = f"{scheme}://127.0.0.1:{self.port}"
        self._scheduler_options = ("--protocol", scheme, *scheduler_options)
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self._workers_connect_to = workers_connect_to or self.address
        cache = os.environ.get("GRAMIAN_COMPILATION_CACHE_DIR")
        given = {
            f"DASK_{name.replace('-', '_').replace('.', '__').upper()}": value
            for name, value in (scheduler_settings or {}).items()
        }
        self._environment = os.environ | worker_environment(Path(cache) if cache else None) | given

    def start(self, workers: int = 1, **options: str) -> None:
        self.start_scheduler()
        for _ in range(workers):
            self.start_worker(**options)

    def start_scheduler(self) -> None:
        self.scheduler = self._run(
            *("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"),
            *self._scheduler_options,
        )

    def start_worker(self, *, memory_limit: str = "auto") -> subprocess.Popen[bytes]:
        worker = self._run(
            *("worker", self._workers_connect_to, "--nthreads", "1", "--no-dashboard"),
            *("--host", "127.0.0.1", "--memory-limit", memory_limit),
            *("--local-directory", str(self._folder)),
        )
        self.workers.append(worker)
        return worker

    def kill(self) -> None:
        """SIGKILL to everything at once."""
        self.kill_scheduler()
        for worker in self.workers:
            kill_group(worker)
        self.workers.clear()

    def kill_scheduler(self) -> None:
        if self.scheduler is not None:
            kill_group(self.scheduler)
            self.scheduler = None

    def tasks(self) -> list[str]:
        """Keys of all tasks that the scheduler knows, in whatever state."""
        with connect(ClusterSettings(scheduler_address=self.address)) as client:
            return list(client.who_has())

    def worker_pids(self) -> list[int]:
        """Of the processes that compute (not of their nannies)."""
        with connect(ClusterSettings(scheduler_address=self.address)) as client:
            return worker_pids(client)

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            env=self._environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def worker_pids(client: Client) -> list[int]:
    return list(client.run(os.getpid).values())


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process that leads a session, and to all in it: a nanny and its worker."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
