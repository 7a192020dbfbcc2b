"""Jobs: ask for work, watch it, cancel it, get its result; and estimates of what it would cost."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Response
from starlette.responses import StreamingResponse

from service.access.ownership import give_up
from service.deps import CallerDep, JsonBody, PageDep, Services, ServicesDep
from service.errors import JobFailedError
from service.events import job_events
from service.jobs.registry import JobRequest, task_examples
from service.jobs.submission import estimate as estimate_request
from service.jobs.submission import submit
from service.schemas.common import EXAMPLE_JOB, MatrixId, Page, error_responses, link
from service.schemas.jobs import EstimateOut, JobOut, JobResult, StateName
from service.views import job_view, next_link, result_view
from storage.catalog import JobRecord, JobState, Target
from storage.errors import NotReadyError
from storage.keys import check_job_id
from workers.logs import about_job

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["jobs"])

JobIdPath = Annotated[
    str,
    Path(alias="id", max_length=100, openapi_examples={"id": {"value": EXAMPLE_JOB}}),
]
RequestBody = Annotated[JobRequest, Body(openapi_examples=task_examples())]

_REFUSALS = (
    "not-found",
    "not-ready",
    "invalid-request",
    "invalid-kernel",
    "invalid-gram",
    "invalid-solve",
    "invalid-analysis",
    "unsupported-media-type",
)
_LIMITS = (
    *("too-large", "exceeds-memory", "insufficient-storage"),
    *("too-many-jobs", "quota-exceeded"),
)

_LOCATION: dict[str, Any] = {
    "Location": {"description": "Path of the job.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which asking again makes sense; absent once it ended.",
        "schema": {"type": "integer"},
    },
}


_ID, _MATRIX = "$response.body#/id", "$response.body#/matrix"
_LINKS = {
    "job": link("get_job", id=_ID),
    "events": link("follow_job", id=_ID),
    "result": link("get_result", id=_ID),
    "cancel": link("cancel_job", id=_ID),
    "tiles": link("get_tiles", id=_ID),
    "matrix": link("get_matrix", id=_MATRIX),
    "delete": link("delete_matrix", id=_MATRIX),
}


@router.post(
    "/jobs",
    summary="Submit a job",
    status_code=202,
    dependencies=[JsonBody],
    response_model=JobOut,
    responses={
        200: {
            "model": JobOut,
            "description": "This request was made before; this is the job that answers it.",
            "headers": _LOCATION,
            "links": _LINKS,
        },
        202: {"description": "The job is in the queue.", "headers": _LOCATION, "links": _LINKS},
        **error_responses(*_REFUSALS, *_LIMITS, "idempotency-conflict"),
    },
)
def submit_job(
    services: ServicesDep,
    caller: CallerDep,
    body: RequestBody,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[!-~]+$",
            description="Makes a retry safe: the same key and body give the same job.",
        ),
    ] = None,
) -> JobOut:
    """Checked, estimated and admitted before it is accepted; refusals come with numbers.

    A request whose result exists, or is being made, is answered with that job (200), and whoever
    makes it becomes one of its owners. Inputs that the caller may not read do not exist (404).
    """
    record, created = submit(services.context, services.runner.kinds, body, idempotency_key, caller)
    if created:
        with about_job(record.id):
            # The one line that holds both ids: from here on the job has a life of its own.
            logger.info("Accepted for %s.", caller.owner)
        services.runner.wake()
    response.status_code = 202 if created else 200
    _describe(services, record, response)
    response.headers["Location"] = f"/v1/jobs/{record.id}"
    return job_view(record)


@router.post(
    "/estimates",
    summary="What would it cost?",
    dependencies=[JsonBody],
    responses=error_responses(*_REFUSALS),
)
def estimate_job(services: ServicesDep, caller: CallerDep, body: RequestBody) -> EstimateOut:
    """The same body and the same checks as `POST /v1/jobs`; nothing is recorded or run."""
    plan, refusal = estimate_request(
        services.context, services.runner.kinds, body, "/v1/estimates", caller
    )
    return EstimateOut(
        estimate=plan.estimate,
        matrix=None if plan.manifest is None else plan.manifest.id,
        admitted=refusal is None,
        refusal=refusal,
    )


@router.get("/jobs", summary="List jobs", responses=error_responses("invalid-request"))
def list_jobs(
    services: ServicesDep,
    caller: CallerDep,
    page: PageDep,
    state: Annotated[StateName | None, Query(description="Only jobs in this state.")] = None,
    matrix: Annotated[
        MatrixId | None, Query(description="Only jobs that read or build this matrix.")
    ] = None,
    task_type: Annotated[
        str | None,
        Query(alias="type", pattern=r"^[a-z_-]{1,40}$", description="Only tasks of this type."),
    ] = None,
) -> Page[JobOut]:
    """Newest first."""
    wanted = None if state is None else JobState(state)
    records, cursor = services.catalog.list_jobs(
        page.limit,
        page.cursor,
        wanted,
        matrix=matrix,
        task_type=task_type,
        visible_to=caller.visible_to,
    )
    return Page(
        items=[job_view(record) for record in records],
        next=next_link(
            "/v1/jobs", cursor, limit=page.limit, state=state, matrix=matrix, type=task_type
        ),
    )


@router.get("/jobs/{id}", summary="One job", responses=error_responses("not-found", "invalid-key"))
async def get_job(
    services: ServicesDep, caller: CallerDep, job_id: JobIdPath, response: Response
) -> JobOut:
    """State and progress. To follow a job, stream its events instead of asking in a loop."""
    record = await services.reads.job(check_job_id(job_id), caller.visible_to)
    _describe(services, record, response)
    return job_view(record)


@router.delete(
    "/jobs/{id}",
    summary="Cancel a job",
    status_code=202,
    response_model=JobOut,
    responses=error_responses("not-found", "invalid-key", "conflict"),
)
def cancel_job(services: ServicesDep, caller: CallerDep, job_id: JobIdPath) -> JobOut:
    """Asks the job to stop. Its state becomes `cancelled` when the last running tile has ended;
    finished tiles are kept for a later job with the same request. A job that others asked for too
    goes on for them; the caller stops being one of its owners."""
    record = services.catalog.get_job(check_job_id(job_id), visible_to=caller.visible_to)
    if not record.ended and not give_up(services.catalog, caller, job_id, keep_reading=True):
        return job_view(record)
    record = services.catalog.set_target(job_id, Target.CANCEL, announce=("cancelling", {}))
    services.runner.wake()
    services.events.publish(job_id)
    return job_view(record)


@router.get(
    "/jobs/{id}/result",
    summary="The result of a job",
    responses=error_responses("not-found", "invalid-key", "not-ready", "job-failed"),
)
def get_result(services: ServicesDep, caller: CallerDep, job_id: JobIdPath) -> JobResult:
    """A summary and links to what was stored; 409 until the job has succeeded."""
    record = services.catalog.get_job(check_job_id(job_id), visible_to=caller.visible_to)
    if not record.ended:
        raise NotReadyError(
            f"The job is {record.state}.",
            advice=f"Watch /v1/jobs/{record.id}/events, or ask again later.",
            state=str(record.state),
        )
    if record.state is not JobState.SUCCEEDED:
        reason = (record.error or {}).get("message", "it was cancelled")
        raise JobFailedError(
            f"The job has no result: {reason}",
            advice=(record.error or {}).get("advice", "Submit the request again."),
            state=str(record.state),
        )
    return result_view(record)


@router.get(
    "/jobs/{id}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events, numbered per job: `state`, `progress`,"
            " `cancelling`. Ends after the event of the final state.",
            "content": {
                "text/event-stream": {
                    "schema": {
                        "type": "object",
                        "description": "One event; `data` is a JSON object as text.",
                        "properties": {
                            "id": {"type": "string"},
                            "event": {"type": "string"},
                            "data": {"type": "string"},
                        },
                    },
                    "example": {
                        "id": "7",
                        "event": "progress",
                        "data": '{"fraction":0.5,"tiles_done":18}',
                    },
                }
            },
        },
        204: {"description": "The job has ended and there are no events after Last-Event-ID."},
        **error_responses("not-found", "invalid-key", "invalid-request"),
    },
)
async def follow_job(
    services: ServicesDep,
    caller: CallerDep,
    job_id: JobIdPath,
    last_event_id: Annotated[
        int,
        Header(ge=0, lt=2**53, description="Number of the last event seen; resumes after it."),
    ] = 0,
) -> Response:
    """All events so far, then new ones as they happen. Browsers and the Python client resume by
    themselves with `Last-Event-ID`."""
    record = await services.reads.job(check_job_id(job_id), caller.visible_to)
    if record.ended and not (await services.reads.tail(record.id, last_event_id)).frames:
        return Response(status_code=204)  # tells EventSource not to reconnect
    settings = services.settings
    stream = job_events(
        services.reads,
        services.events,
        record.id,
        after=last_event_id,
        heartbeat_seconds=settings.heartbeat_seconds,
        retry_milliseconds=1000 * settings.retry_after_seconds,
    )
    return StreamingResponse(
        stream,
        media_type="text/event-stream",
        # Proxies such as nginx buffer responses unless told not to.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _describe(services: Services, record: JobRecord, response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
    if not record.ended:
        response.headers["Retry-After"] = str(services.settings.retry_after_seconds)
