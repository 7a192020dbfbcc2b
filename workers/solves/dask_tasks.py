"""Ordinary Dask tasks of a solve (not pinned): wait for them, stop them, name what went wrong.

Dask itself re-runs these when their worker is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from distributed import Client, Future, KilledWorker

from workers.errors import ClusterUnavailableError, WorkerMemoryError
from workers.futures import ResultLostError, fetch, wait_for_one
from workers.solves.errors import SolveInterrupted

POLL_SECONDS = 0.25


def run_to_end(
    client: Client,
    futures: list[Future[Any]],
    *,
    should_stop: Callable[[], bool],
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> Any:
    """Result of the last future, once all are done; `on_done(done, total)` as they finish.

    On every other way out all of them are cancelled. Raises SolveInterrupted, the error of a
    task, WorkerMemoryError when a task keeps killing its worker, ClusterUnavailableError when the
    scheduler is gone.
    """
    reported = 0
    try:
        while True:
            finished = sum(_check(future) for future in futures)
            if finished > reported:
                reported = finished
                on_done(finished, len(futures))
            if finished == len(futures):
                return _result(futures[-1])
            if should_stop():
                raise SolveInterrupted
            try:
                pending = [future for future in futures if not future.done()]
                wait_for_one(client, pending, seconds=POLL_SECONDS)
            except (TimeoutError, CancelledError):
                continue  # `_check` tells one from the other
    finally:
        if client.status == "running":
            client.cancel(futures)


def _check(future: Future[Any]) -> bool:
    """Whether it finished; raises what its failure means."""
    if future.status == "pending":
        return False
    if future.status != "finished":
        _result(future)
    return True


def _result(future: Future[Any]) -> Any:
    try:
        return fetch(future)
    except ResultLostError as error:
        raise ClusterUnavailableError(
            "The Dask scheduler was lost during the solve.", advice="Submit the solve again."
        ) from error
    except KilledWorker as error:
        raise WorkerMemoryError(
            "A worker process died repeatedly on one task of the solve.",
            advice="It was probably out of memory: give workers more, or use method 'cg'.",
        ) from error
