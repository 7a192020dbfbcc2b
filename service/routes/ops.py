"""Health, readiness, and the landing page."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.deps import Services, ServicesDep
from service.schemas.common import Check, Health, Landing, Readiness, error_responses
from service.telemetry.scrape import exposition
from storage.errors import GramianError
from storage.format import FORMAT_VERSION

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Is the process alive?", responses=error_responses())
def health() -> Health:
    """Answers as long as the process can answer at all; asks nobody else."""
    return Health()


@router.get(
    "/readyz",
    summary="Can it do its work now?",
    responses={
        **error_responses(),
        503: {"model": Readiness, "description": "Some part is missing; `checks` says which."},
    },
)
def readiness(services: ServicesDep, response: Response) -> Readiness:
    """Asks the catalog, writes to the store, and counts the workers of the scheduler."""
    checks = {
        "catalog": _catalog(services),
        "store": _store(services),
        "scheduler": _scheduler(services),
        "runner": _runner(services),
    }
    ready = all(check.ok for check in checks.values())
    response.status_code = 200 if ready else 503
    response.headers["Cache-Control"] = "no-store"
    return Readiness(ready=ready, checks=checks)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "The Prometheus text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **error_responses(),
    },
)
def metrics(services: ServicesDep) -> Response:
    """Requests, tiles, bytes, jobs by state, workers and their memory, residuals of solves."""
    return Response(exposition(services.context), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1", summary="Version and links", responses=error_responses())
def landing() -> Landing:
    """What this service is, and where to go from here."""
    return Landing(
        name="gramian",
        version=version("gramian"),
        format_version=FORMAT_VERSION,
        links={
            "datasets": "/v1/datasets",
            "jobs": "/v1/jobs",
            "estimates": "/v1/estimates",
            "matrices": "/v1/matrices",
            "kernels": "/v1/kernels",
            "cluster": "/v1/cluster",
            "health": "/healthz",
            "readiness": "/readyz",
            "metrics": "/metrics",
            "openapi": "/openapi.json",
            "docs": "/docs",
            "guide": "/guide/",
        },
    )


def _catalog(services: Services) -> Check:
    try:
        services.catalog.ping()
    except GramianError as error:
        return Check(ok=False, detail=error.message)
    return Check(ok=True, detail="answers")


def _store(services: Services) -> Check:
    try:
        services.blobs.check()
    except GramianError as error:
        return Check(ok=False, detail=error.message)
    return Check(ok=True, detail="writable")


def _scheduler(services: Services) -> Check:
    workers = services.compute.workers()
    if workers == 0:
        return Check(ok=False, detail="no scheduler or no workers")
    return Check(ok=True, detail=f"{workers} workers")


def _runner(services: Services) -> Check:
    alive = services.runner.alive()
    return Check(ok=alive, detail="running" if alive else "stopped")
