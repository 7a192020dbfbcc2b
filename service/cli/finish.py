"""Submit a task and stay until it has succeeded, with a live bar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from service.client.progress import JobBar
from storage.errors import GramianError

if TYPE_CHECKING:
    from service.client import Client, Job


class JobUnsuccessfulError(GramianError):
    """A job that others build on failed or was cancelled."""

    kind = "job-unsuccessful"


def finish(client: Client, task: Mapping[str, Any], *, console: Console, label: str) -> Job:
    """The job of `task` once it has succeeded; at once if an earlier run has stored its result.

    Raises JobUnsuccessfulError, and what `Client.submit` and `Client.wait` raise.
    """
    job = client.submit(task)
    if job.ended and job.state == "succeeded":
        console.print(f"{label}: stored by an earlier run ({job.id})", markup=False)
        return job
    with JobBar(console, label) as bar:
        job = client.wait(job.id, on_event=lambda event: bar.update(event.type, event.data))
    if job.state != "succeeded":
        error = job.error or {"message": f"it was {job.state}", "advice": ""}
        raise JobUnsuccessfulError(f"{label}: {error['message']}", advice=error["advice"])
    return job
