"""The result of a Dask future that has ended, when the cluster may be dying around it."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TypeVar

from distributed import Future

Result = TypeVar("Result")


class ResultLostError(Exception):
    """The task may have run, but its result is nowhere: scheduler or worker went away."""


def fetch(future: Future[Result], *, timeout_seconds: float | None = None) -> Result:
    """The result of `future`, which has ended.

    Raises what the task raised (KilledWorker when it kept ending its workers). Raises
    ResultLostError when the future was cancelled or lost, also between its end and the fetching
    of its result, or when fetching takes longer than `timeout_seconds`.
    """
    try:
        return future.result(timeout=timeout_seconds)
    except (CancelledError, TimeoutError, OSError) as error:
        if future.status == "error":
            raise  # the task's own
        raise ResultLostError(str(error)) from error
