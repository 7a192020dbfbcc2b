"""Looking at jobs: the matrix as far as it is there, and its tiles."""

from __future__ import annotations

from typing import Annotated

from blake3 import blake3
from fastapi import APIRouter, Query, Request, Response

from service.access.identity import Caller
from service.deps import CallerDep, Services, ServicesDep
from service.errors import InvalidRequestError
from service.http.byte_ranges import matches_etag
from service.http.responses import NO_SCRIPTS
from service.jobs.tasks.tiled_tasks import TILED_TASKS
from service.jobs.tile_progress import TILE_FAILED
from service.pictures.line_chart import NothingToDrawError
from service.pictures.plots import PLOTTED_TASKS, eigenvalues, residuals
from service.pictures.tile_map import tile_map, tiles_per_cell
from service.routes.jobs import JobIdPath
from service.routes.matrices import ArrayQuery
from service.routes.previews import (
    DEFAULT_SIZE,
    IMMUTABLE,
    PNG_ANSWER,
    UNCHANGED,
    ColorDep,
    SizeQuery,
    WindowQuery,
    check_scale,
    look,
    picture_etag,
    png_response,
    source_of,
    unchanged,
)
from service.schemas.common import error_responses
from service.schemas.pictures import FailureOut, TilesOut, WorkerShare
from storage.catalog import JobRecord, MatrixRecord
from storage.errors import NotFoundError, NotReadyError
from storage.format import MatrixManifest
from storage.keys import check_job_id
from storage.matrices import read_slice
from workers.plan import TilePlan

router = APIRouter(prefix="/v1/jobs", tags=["pictures"])

SVG = "image/svg+xml"

_MOST_FAILURES = 50
_ALL = WindowQuery(rows=None, cols=None)


@router.get(
    "/{id}/preview.png",
    summary="A picture of what a job has computed",
    response_class=Response,
    responses={
        **PNG_ANSWER,
        **UNCHANGED,
        **error_responses(
            *("not-found", "invalid-key", "not-ready", "invalid-request"),
            *("corrupt-chunk", "preview-missing"),
        ),
    },
)
def get_job_picture(
    services: ServicesDep,
    caller: CallerDep,
    request: Request,
    job_id: JobIdPath,
    coloring: ColorDep,
    size: SizeQuery = None,
    array: ArrayQuery = None,
) -> Response:
    """The whole matrix in cells of at least 8 x 8 entries, from the previews of the tiles that
    are there; what is not there is transparent. Once the matrix is complete, the same picture as
    that of the matrix."""
    job = services.catalog.get_job(check_job_id(job_id), visible_to=caller.visible_to)
    record = _matrix(services, caller, job)
    check_scale(coloring)
    if record.sealed:
        etag = picture_etag(record, array, _ALL, size, coloring)
        headers = {"ETag": etag, "Cache-Control": IMMUTABLE}
        if matches_etag(request.headers.get("if-none-match"), etag):
            return unchanged(etag)
    else:
        headers = {"Cache-Control": "no-store"}
    source = source_of(services, record, array)
    if not source.sealed and source.pyramid is None:
        raise NotReadyError(
            "Nothing of this matrix can be seen before it is complete: it has no previews.",
            advice="Wait for the job.",
        )
    return png_response(
        source, look(services, source, _ALL, size or DEFAULT_SIZE), coloring, headers
    )


@router.get(
    "/{id}/tiles",
    summary="Which tiles are done",
    responses=error_responses("not-found", "invalid-key", "not-ready", "invalid-request"),
)
def get_tiles(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    job_id: JobIdPath,
    cells: Annotated[
        int, Query(ge=1, le=256, description="Most cells along each side of the map.")
    ] = 64,
) -> TilesOut:
    """A map of the tiles of a matrix, counted in cells so that it stays small for a million of
    them; who computed how many; and what went wrong. For jobs that compute tile by tile."""
    job = services.catalog.get_job(check_job_id(job_id), visible_to=caller.visible_to)
    if job.task["type"] not in TILED_TASKS:
        raise InvalidRequestError(
            f"A job of type {job.task['type']!r} has no tiles.",
            advice=f"Jobs of type {', '.join(TILED_TASKS)} have.",
        )
    record = _matrix(services, caller, job)
    manifest = MatrixManifest.from_json(record.manifest)
    plan, array = TilePlan.of(manifest), manifest.arrays[0].name
    edge = tiles_per_cell(plan, cells)
    found = tile_map(plan, edge, services.catalog.tile_groups(record.id, array, edge))
    response.headers["Cache-Control"] = "no-store"
    return TilesOut(
        job=job.id,
        matrix=record.id,
        array=array,
        state=job.state.value,
        grid=plan.grid,
        symmetric=plan.symmetric,
        tile_rows=plan.tile_rows,
        tiles_total=plan.n_tiles,
        tiles_done=int(found.done.sum()),
        tile_seconds=float(found.seconds.sum()),
        tiles_per_cell=edge,
        total=found.total.tolist(),
        done=found.done.tolist(),
        seconds=found.seconds.tolist(),
        workers=[
            WorkerShare.model_validate(share) for share in (job.progress or {}).get("workers", [])
        ],
        failures=[
            FailureOut.model_validate({**event.data, "at": event.created_at})
            for event in services.catalog.latest_events(job.id, TILE_FAILED, _MOST_FAILURES)
        ],
    )


@router.get(
    "/{id}/plot.svg",
    summary="The plot of a job",
    response_class=Response,
    responses={
        200: {
            "description": "An SVG picture for light and dark pages.",
            "content": {SVG: {"schema": {"type": "string"}}},
        },
        **UNCHANGED,
        **error_responses("not-found", "invalid-key", "not-ready", "invalid-request"),
    },
)
def get_plot(
    services: ServicesDep, caller: CallerDep, request: Request, job_id: JobIdPath
) -> Response:
    """The residuals of a `solve`, also while it runs, or the eigenvalues of a `spectrum`."""
    job = services.catalog.get_job(check_job_id(job_id), visible_to=caller.visible_to)
    if job.task["type"] not in PLOTTED_TASKS:
        raise InvalidRequestError(
            f"There is no plot of jobs of type {job.task['type']!r}.",
            advice=f"There are plots of {' and '.join(PLOTTED_TASKS)} jobs.",
        )
    try:
        drawn = _plot(services, caller, job).encode()
    except NothingToDrawError:
        if job.ended:
            raise NotFoundError(
                "The job has left nothing to plot.", advice="See its result, or its error."
            ) from None
        raise NotReadyError(
            "There is nothing to plot yet.", advice="Ask again later.", state=str(job.state)
        ) from None
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": NO_SCRIPTS}
    if job.ended:
        etag = f'"{blake3(drawn).hexdigest(16)}"'
        if matches_etag(request.headers.get("if-none-match"), etag):
            return unchanged(etag)
        headers |= {"ETag": etag, "Cache-Control": IMMUTABLE}
    return Response(drawn, media_type=SVG, headers=headers)


def _plot(services: Services, caller: Caller, job: JobRecord) -> str:
    """Raises NothingToDrawError, and NotFoundError if the result has been deleted."""
    summary = (job.result or {}).get("summary")
    if job.task["type"] == "solve":
        return residuals(job.progress, summary)
    if summary is None or job.matrix_id is None:
        raise NothingToDrawError("the spectrum is not there yet")
    record = services.catalog.get_matrix(job.matrix_id, visible_to=caller.visible_to)
    manifest = MatrixManifest.from_json(record.manifest)
    values = read_slice(services.blobs, manifest, "eigenvalues", slice(None))
    return eigenvalues(values, summary.get("noise_floor"))


def _matrix(services: Services, caller: Caller, job: JobRecord) -> MatrixRecord:
    """The matrix that a job builds. Raises NotFoundError, NotReadyError before it is begun."""
    if job.matrix_id is None:
        raise NotFoundError("This job builds no matrix.", advice="Its result is a summary.")
    try:
        return services.catalog.get_matrix(job.matrix_id, visible_to=caller.visible_to)
    except NotFoundError:
        if job.ended:
            raise
        raise NotReadyError(
            "The job has not begun.", advice="Ask again later.", state=str(job.state)
        ) from None
