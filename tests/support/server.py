"""Real servers for tests: uvicorn on a socket, in a thread or in a process of its own."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI

from service.client import Client, ServiceUnreachableError
from service.deps import Services
from service.server import Server
from service.settings import ServiceSettings

# Nothing listens on port 1, so jobs are accepted and stay queued.
NO_SCHEDULER = "tcp://127.0.0.1:1"


def offline_settings(folder: Path, **changes: Any) -> ServiceSettings:
    """Settings of a service that has no cluster: everything but computing works."""
    given = {
        "data_dir": folder / "data",
        "port": 0,
        "scheduler_address": NO_SCHEDULER,
        "cluster_start_seconds": 0.2,
        "reserved_disk_bytes": 0,
        "shutdown_seconds": 5.0,
        **changes,
    }
    return ServiceSettings(**given)


@dataclass(frozen=True)
class LiveServer:
    """A server in a thread of the test process; its insides can be looked at."""

    url: str
    app: FastAPI

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    def http(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=30.0, **options)

    def client(self, **options: Any) -> Client:
        return Client(self.url, **options)


@contextmanager
def live_server(settings: ServiceSettings) -> Iterator[LiveServer]:
    """Serve until the block ends; the shutdown is the real one."""
    server = Server(settings, log_level="error")

    def run() -> None:
        # uvicorn leaves this way when the application does not start.
        with suppress(SystemExit):
            server.run()

    thread = threading.Thread(target=run, name="test-server")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start; see the captured log")
            time.sleep(0.01)
        yield LiveServer(f"http://127.0.0.1:{server.bound_port}", server.app)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not shut down within a minute"


def raw_request(
    server: LiveServer, method: str, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a path sent exactly as written.

    HTTP libraries resolve `..` and re-encode what they think is wrong; attackers do not.
    """
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()
    finally:
        connection.close()


class ServiceProcess:
    """A service in a process of its own, to be killed and started again on the same data."""

    def __init__(self, folder: Path, *, launcher: Sequence[str] = (), **settings: Any) -> None:
        """`launcher`: a command that the service is started with, such as one that mounts."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._launcher = launcher
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {"data_dir": folder / "data", "port": self.port, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "service.log"

    def start(self, *, timeout_seconds: float = 60.0) -> None:
        """Start, and wait until the service is ready to compute."""
        code = (
            "from service.server import serve\n"
            "from service.settings import ServiceSettings\n"
            "import sys\n"
            "sys.exit(0 if serve(ServiceSettings()) else 3)\n"
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._launcher, sys.executable, "-c", code],
                env={**os.environ, **_environment(self._settings)},
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own group, so that killing it takes its workers along.
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_seconds
        with self.client() as client:
            while not _is_ready(client):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the service did not start:\n{self.log.read_text()}")
                time.sleep(0.05)

    def client(self, **options: Any) -> Client:
        return Client(self.url, **options)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def kill(self) -> None:
        """SIGKILL to the service and its workers: no clean-up of any kind."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self, *, timeout_seconds: float = 60.0) -> int:
        """SIGTERM, as a supervisor would; the exit status."""
        self.process.terminate()
        return self.process.wait(timeout_seconds)

    def __enter__(self) -> ServiceProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(settings: Mapping[str, Any]) -> dict[str, str]:
    return {f"GRAMIAN_{name.upper()}": str(value) for name, value in settings.items()}


def _is_ready(client: Client) -> bool:
    try:
        return bool(client.ready()["ready"])
    except ServiceUnreachableError:
        return False
