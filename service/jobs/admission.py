"""Whether a planned job may start: limits of memory, disk and quotas, refused with numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.access.identity import LOCAL, Caller
from service.errors import ExceedsMemoryError, InsufficientStorageError, TooManyJobsError
from service.jobs.context import JobContext
from service.jobs.plans import Plan
from service.jobs.quotas import check_quota
from storage.catalog import Catalog
from storage.errors import TooLargeError

# Of each open job: the matrix that it builds, and its estimate.
OpenResults = Sequence[tuple[str | None, Mapping[str, Any]]]


def admit(context: JobContext, plan: Plan, caller: Caller = LOCAL) -> None:
    """Raises TooLargeError, ExceedsMemoryError, InsufficientStorageError or TooManyJobsError, and
    QuotaExceededError for what `caller` in particular may not have.

    What does not depend on the moment is checked first, so that a request that can never work
    says so, also on a busy day.
    """
    _check_rows(context, plan)
    _check_memory(context, plan)
    open_results = context.catalog.open_results()
    _check_storage(context, plan, open_results)
    check_quota(context.catalog, caller, plan)
    _check_jobs(context, len(open_results))


def _check_rows(context: JobContext, plan: Plan) -> None:
    if plan.manifest is None:
        return
    limit = context.settings.max_matrix_rows
    rows = max(max(layout.shape) for layout in plan.manifest.arrays)
    if rows > limit:
        raise TooLargeError(
            f"The matrix has an edge of {rows} rows; the limit is {limit}.",
            advice="Use a part of the data set, or raise the setting max_matrix_rows.",
            rows=rows,
            limit_rows=limit,
        )


def _check_memory(context: JobContext, plan: Plan) -> None:
    needed = int(plan.estimate["peak_bytes_per_worker"])
    limit = context.compute.limit_bytes()
    if needed > limit:
        raise ExceedsMemoryError(
            f"One task is projected to need {needed} bytes; a worker may use {limit}.",
            advice=plan.memory_advice,
            peak_bytes_per_worker=needed,
            worker_limit_bytes=limit,
        )


def _check_storage(context: JobContext, plan: Plan, open_results: OpenResults) -> None:
    whole = sum(disk_bytes(estimate) for _, estimate in open_results)
    try:
        _check_room(context, plan, whole)
    except InsufficientStorageError:
        # Some of it is on the disk already. How much tells only a look at every tile, which a
        # disk with room for all of it need not wait for.
        _check_room(context, plan, _pledged_bytes(context.catalog, open_results))


def _check_room(context: JobContext, plan: Plan, pledged: int) -> None:
    needed, scratch = disk_bytes(plan.estimate), int(plan.estimate.get("scratch_bytes", 0))
    free = context.blobs.free_bytes()
    reserve = context.settings.reserved_disk_bytes
    if free is not None and needed + scratch + pledged > free - reserve:
        working = f", and {scratch} while it is worked out" if scratch else ""
        without = "ask for a method or selection that keeps no factor" if scratch else "use float32"
        raise InsufficientStorageError(
            f"The result needs {needed} bytes{working}. {free} are free, of which {reserve} stay"
            f" reserved and open jobs have yet to write up to {pledged}.",
            advice=f"Delete matrices that are no longer needed, or {without}.",
            needed_bytes=needed,
            scratch_bytes=scratch,
            free_bytes=free,
            reserved_disk_bytes=reserve,
            pledged_bytes=pledged,
        )
    quota = context.settings.max_store_bytes
    if quota:
        stored = context.catalog.stored_bytes()
        if needed + pledged + stored > quota:
            raise InsufficientStorageError(
                f"The result needs {needed} bytes. The store holds {stored} and open jobs have yet"
                f" to write up to {pledged}; its limit is {quota}.",
                advice="Delete matrices and data sets that are no longer needed, or raise the"
                " setting max_store_bytes.",
                needed_bytes=needed,
                stored_bytes=stored,
                pledged_bytes=pledged,
                max_store_bytes=quota,
            )


def _check_jobs(context: JobContext, count: int) -> None:
    limit = context.settings.max_open_jobs
    if count >= limit:
        raise TooManyJobsError(
            f"{count} jobs are open; the limit is {limit}.",
            advice="Wait until one ends, or cancel one.",
            open_jobs=count,
            max_open_jobs=limit,
        )


def disk_bytes(estimate: Mapping[str, Any]) -> int:
    """What a whole result takes on the disk: its chunks, and the previews beside them."""
    return int(estimate.get("bytes_written", 0)) + int(estimate.get("preview_bytes", 0))


def _pledged_bytes(catalog: Catalog, open_results: OpenResults) -> int:
    """What open jobs may still write: their whole results, less the tiles that are there."""
    pledged = 0
    for matrix_id, estimate in open_results:
        whole = int(estimate.get("bytes_written", 0))
        written = catalog.tile_summary(matrix_id).stored_bytes if matrix_id else 0
        if whole > written:
            pledged += disk_bytes(estimate) * (whole - written) // whole
    return pledged
