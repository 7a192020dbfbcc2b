"""A service of our own in a child process, for as long as a `with` block lasts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.client import Client, ServiceUnreachableError
from storage.errors import GramianError

# A start takes a few seconds on an idle machine; on one with all cores busy, many times that.
START_SECONDS = 180.0
STOP_SECONDS = 40.0


class ServiceStartError(GramianError):
    """The service did not come up."""

    kind = "service-start"


@dataclass(frozen=True)
class EmbeddedService:
    url: str
    process: subprocess.Popen[bytes]
    log: Path
    ready_seconds: float  # from the start of the process to all readiness checks passing


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    data_dir: Path, *, port: int, options: Sequence[str], environment: Mapping[str, str]
) -> EmbeddedService:
    """`gramian serve` on a loopback port, ready to work. Raises ServiceStartError."""
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "service.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "service.cli", "serve"),
                *("--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir)),
                *options,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            # Ctrl-C is for the demonstration, which then stops the service in order.
            start_new_session=True,
        )
    service = EmbeddedService(f"http://127.0.0.1:{port}", process, log, 0.0)
    try:
        _wait_ready(service)
    except BaseException:
        stop(service)
        raise
    return EmbeddedService(service.url, process, log, time.monotonic() - started)


def stop(service: EmbeddedService) -> None:
    """SIGTERM, and SIGKILL for what does not end; returns when the process is gone."""
    service.process.terminate()
    try:
        service.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        service.process.kill()
        service.process.wait()


@contextmanager
def embedded_service(
    data_dir: Path,
    *,
    port: int = 0,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[EmbeddedService]:
    """`start` and `stop` around a block; port 0 chooses a free one."""
    service = start(
        data_dir, port=port or free_port(), options=options, environment=environment or {}
    )
    try:
        yield service
    finally:
        stop(service)


def _wait_ready(service: EmbeddedService) -> None:
    deadline = time.monotonic() + START_SECONDS
    reason = "it does not answer"
    with Client(service.url, timeout_seconds=5) as client:
        while time.monotonic() < deadline:
            code = service.process.poll()
            if code is not None:
                reason = f"it ended with exit code {code}"
                break
            try:
                readiness = client.ready()
            except ServiceUnreachableError:
                time.sleep(0.1)
                continue
            if readiness["ready"]:
                return
            reason = f"not ready: {readiness['checks']}"
            time.sleep(0.1)
    tail = "\n".join(service.log.read_text(errors="replace").splitlines()[-15:])
    raise ServiceStartError(
        f"The service did not start: {reason}.\n{tail}", advice=f"The whole log is {service.log}."
    )
