"""What every fault must leave behind: nothing, and the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from service.client import Client


def eventually(condition: Callable[[], bool], *, seconds: float = 60, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {what or condition}"
        time.sleep(0.05)


def leftovers(data: Path) -> list[str]:
    """Temporary files, stop flags and uploads in flight in the data folder of a service."""
    store, uploads = data / "store", data / "uploads"
    return sorted(
        str(path.relative_to(data))
        for folder in (store, uploads)
        for path in folder.rglob("*")
        if path.is_file()
        and (path.name.startswith(".tmp-") or folder == uploads or path.parent.name == "stops")
    )


def check_aftermath(client: Client, data: Path) -> None:
    """No job looks alive, no worker holds a task, and no file is left half written."""
    open_jobs = [job for job in client.jobs() if job.state in ("queued", "running")]
    assert open_jobs == []
    cluster = f"{client.base_url}/v1/cluster"
    eventually(lambda: httpx2.get(cluster).json()["tasks"] == 0, what="tasks on workers")
    assert leftovers(data) == []


def finished_digest(client: Client, job_id: str, *, timeout_seconds: float = 180) -> str:
    """Wait for a job to succeed; the digest of its matrix, which `verify` confirms."""
    ended = client.wait(job_id, timeout_seconds=timeout_seconds)
    assert ended.state == "succeeded", ended.error
    found = client.answer(client.verify(str(ended.matrix)), timeout_seconds=timeout_seconds)
    assert found.summary["intact"], found.summary
    return str(client.result(job_id)["summary"]["digest"])
