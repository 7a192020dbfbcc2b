"""From a valid body to a job: plan, look for an answer that is there, admit, record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from service.access.identity import LOCAL, Caller
from service.access.ownership import check_readable
from service.errors import error_document
from service.jobs.admission import admit
from service.jobs.context import JobContext
from service.jobs.plans import JobKind, Plan
from service.jobs.registry import JobRequest
from storage.catalog import Catalog, JobRecord, referenced_ids
from storage.errors import GramianError, NotFoundError
from storage.keys import new_job_id


def submit(
    context: JobContext,
    kinds: Mapping[str, JobKind],
    request: JobRequest,
    idempotency_key: str | None,
    caller: Caller,
) -> tuple[JobRecord, bool]:
    """The job that answers `request`, and whether this call created it.

    Raises what planning and admission raise, NotFoundError for inputs that `caller` may not read,
    and IdempotencyConflictError.
    """
    task = request.task.model_dump(mode="json")
    check_readable(context.catalog, caller, referenced_ids(task))
    plan = kinds[request.task.type].plan(context, task)
    digest = _digest(task)
    if not _is_answered(context.catalog, plan):
        admit(context, plan, caller)
    return context.catalog.create_job(
        id=new_job_id(),
        task=task,
        request_digest=plan.request_digest,
        body_digest=digest,
        idempotency_key=idempotency_key and _private(idempotency_key, caller),
        estimate=plan.estimate,
        matrix_id=None if plan.manifest is None else plan.manifest.id,
        announce=("state", {"state": "queued"}),
        owner=caller.owner,
    )


def estimate(
    context: JobContext,
    kinds: Mapping[str, JobKind],
    request: JobRequest,
    instance: str,
    caller: Caller,
) -> tuple[Plan, dict[str, Any] | None]:
    """The plan of `request`, and the problem document that would refuse it now, if any."""
    task = request.task.model_dump(mode="json")
    check_readable(context.catalog, caller, referenced_ids(task))
    plan = kinds[request.task.type].plan(context, task)
    try:
        if not _is_answered(context.catalog, plan):
            admit(context, plan, caller)
    except GramianError as refusal:
        return plan, error_document(refusal, instance)
    return plan, None


def _is_answered(catalog: Catalog, plan: Plan) -> bool:
    """Whether the result exists or is being made: a repeat costs nothing, whatever the limits."""
    if catalog.has_answer(plan.request_digest):
        return True
    if plan.manifest is None:
        return False
    try:
        return catalog.get_matrix(plan.manifest.id).sealed
    except NotFoundError:
        return False


def _private(idempotency_key: str, caller: Caller) -> str:
    """The key as it is stored: two owners who choose the same one must not meet."""
    if caller is LOCAL:
        return idempotency_key
    return hashlib.sha256(f"{caller.owner} {idempotency_key}".encode()).hexdigest()


def _digest(task: dict[str, Any]) -> str:
    text = json.dumps(task, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
