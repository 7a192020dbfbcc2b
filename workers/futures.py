"""Waiting for Dask futures and fetching their results while the cluster may be dying."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from distributed import Client, Future, wait

Result = TypeVar("Result")


class ResultLostError(Exception):
    """The task may have run, but its result is nowhere: scheduler or worker went away."""


def wait_for_one(client: Client, futures: Collection[Future[Any]], *, seconds: float) -> None:
    """Return when one of `futures` of `client` has ended.

    Raises TimeoutError after `seconds`, CancelledError when one was cancelled or its scheduler
    went away.
    """
    with client.as_current():  # `wait` knows no other way to be told whose futures these are
        wait(list(futures), timeout=seconds, return_when="FIRST_COMPLETED")


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
