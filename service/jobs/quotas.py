"""What one key may have: jobs, bytes, and the size of a matrix."""

from __future__ import annotations

from service.access.identity import Caller
from service.errors import QuotaExceededError, TooManyJobsError
from service.jobs.plans import Plan
from storage.catalog import Catalog


def check_quota(catalog: Catalog, caller: Caller, plan: Plan) -> None:
    """Raises QuotaExceededError, or TooManyJobsError when waiting helps."""
    _check_rows(caller, plan)
    check_stored_bytes(catalog, caller, int(plan.estimate["bytes_written"]))
    _check_jobs(catalog, caller)


def check_stored_bytes(catalog: Catalog, caller: Caller, needed: int) -> None:
    """Raises QuotaExceededError if `needed` more bytes are more than the caller may own."""
    limit = caller.quota.max_stored_bytes
    if limit is None:
        return
    usage = catalog.usage(caller.owner)
    owned = usage.stored_bytes + sum(_unwritten(catalog, job) for job in usage.open_jobs)
    if owned + needed > limit:
        raise QuotaExceededError(
            f"{caller.owner} owns {owned} bytes, with what open jobs have yet to write, and this"
            f" needs {needed}; the key {caller.key_id} allows {limit}.",
            advice="Delete what is no longer needed, or ask an administrator for more.",
            stored_bytes=owned,
            needed_bytes=needed,
            max_stored_bytes=limit,
        )


def _check_rows(caller: Caller, plan: Plan) -> None:
    limit = caller.quota.max_matrix_rows
    if limit is None or plan.manifest is None:
        return
    rows = max(max(layout.shape) for layout in plan.manifest.arrays)
    if rows > limit:
        raise QuotaExceededError(
            f"The matrix has an edge of {rows} rows; the key {caller.key_id} allows {limit}.",
            advice="Use a part of the data set, or ask an administrator for more.",
            rows=rows,
            max_matrix_rows=limit,
        )


def _check_jobs(catalog: Catalog, caller: Caller) -> None:
    limit = caller.quota.max_open_jobs
    if limit is None:
        return
    count = len(catalog.usage(caller.owner).open_jobs)
    if count >= limit:
        raise TooManyJobsError(
            f"{caller.owner} has {count} open jobs; the key {caller.key_id} allows {limit}.",
            advice="Wait until one ends, or cancel one.",
            open_jobs=count,
            max_open_jobs=limit,
        )


def _unwritten(catalog: Catalog, job_id: str) -> int:
    """Bytes that an open job may still write."""
    job = catalog.get_job(job_id)
    whole = int((job.estimate or {}).get("bytes_written", 0))
    written = catalog.tile_summary(job.matrix_id).stored_bytes if job.matrix_id else 0
    return max(0, whole - written)
