"""The application: `create_app(settings)` builds it, its lifespan opens and closes everything.

Nothing is opened at import or in `create_app`, so building the app (for its OpenAPI document, for
tests) touches no disk, no network and no cluster.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service.access.audit import AuditTrail
from service.access.auth import KeyGuard, LocalGuard
from service.access.keyring import Keyring
from service.console import console_routes
from service.deps import Services
from service.errors import add_error_handlers
from service.events import CatalogWatch, EventBus
from service.guide import guide_routes
from service.http.middleware import BodyLimit, HeadLimit, RequestId, ServerTiming
from service.http.receive import sweep
from service.jobs.compute import Compute
from service.jobs.context import JobContext
from service.jobs.leases import LeaseKeeper, new_holder
from service.jobs.lock import data_dir_lock
from service.jobs.registry import KINDS
from service.jobs.runner import Runner
from service.reads import JobReads
from service.routes import (
    access,
    admin,
    cluster,
    datasets,
    experiments,
    job_pictures,
    jobs,
    kernels,
    matrices,
    ops,
    previews,
    zarr,
)
from service.schemas.access import NewKeyOut
from service.schemas.common import Problem, error_responses
from service.schemas.datasets import DatasetOut
from service.schemas.jobs import EstimateOut, JobOut, JobResult
from service.schemas.matrices import MatrixOut, SliceOut
from service.schemas.pictures import ClusterOut, PreviewOut, StatisticsOut, TilesOut
from service.settings import ServiceSettings
from service.telemetry.metrics import CountRequests, Metrics
from service.telemetry.tracing import TraceRequests, open_tracing
from storage.blobs import open_blobs
from storage.catalog import open_catalog
from storage.ownership import claim

logger = logging.getLogger(__name__)

# Interrupted writers leave temporaries; workers of an external cluster may still be writing.
_STALE_TEMPORARY_SECONDS = 3600.0
# Uploads that nobody has written to for so long are not those of another service.
_STALE_UPLOAD_SECONDS = 86_400.0

_DESCRIPTION = """Gram matrices of neural kernels (NTK and NNGP), computed by a cluster, kept as
Zarr, and solved in place.

1. `POST /v1/datasets` uploads samples (and targets).
2. `POST /v1/jobs` computes a Gram matrix or solves with one; `GET /v1/jobs/{id}/events` follows it.
3. `GET /v1/matrices/{id}/zarr/...` is a Zarr v3 hierarchy: `zarr.open("http://...")` reads it.

Every error is an RFC 9457 problem document with a stable `kind`.
"""


_ROUTES = (
    *(ops, cluster, datasets, jobs, job_pictures, matrices, previews, zarr),
    *(kernels, experiments, access, admin),
)
_WITH_EXAMPLES: tuple[type[BaseModel], ...] = (
    *(DatasetOut, JobOut, JobResult, EstimateOut, MatrixOut, SliceOut, NewKeyOut),
    *(PreviewOut, StatisticsOut, TilesOut, ClusterOut),
)


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """The service as an ASGI application. `settings` come from the environment when None."""
    chosen = settings if settings is not None else ServiceSettings()
    metrics = Metrics()
    app = FastAPI(
        title="Gramian",
        version=version("gramian"),
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=_lifespan,
        redirect_slashes=False,
        # What clients that are generated from the document call their methods, and links name.
        generate_unique_id_function=lambda route: route.name,
        routes=console_routes(),
        middleware=_middleware(chosen, metrics),
    )
    app.state.metrics = metrics
    app.state.settings = chosen
    app.state.events = EventBus()
    for module in _ROUTES:
        app.include_router(module.router)
    app.router.routes += guide_routes()
    add_error_handlers(app)
    app.openapi = lambda: _openapi(app, chosen)  # type: ignore[method-assign]
    return app


def _middleware(settings: ServiceSettings, metrics: Metrics) -> list[Middleware]:
    """Outermost first."""
    keys, origins = settings.api_key_sha256, settings.cors_origins
    chain = [
        Middleware(RequestId),
        Middleware(TraceRequests),
        Middleware(CountRequests, metrics=metrics),
        Middleware(ServerTiming),
        Middleware(HeadLimit, limit_bytes=settings.max_request_head_bytes),
    ]
    if origins:
        chain.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(origins),
                allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
                allow_headers=[
                    "Authorization",
                    "Content-Type",
                    "Idempotency-Key",
                    "If-None-Match",
                    "Last-Event-ID",
                    "Range",
                ],
                # Without Content-Range a browser client cannot place the bytes it gets.
                expose_headers=[
                    "Content-Range",
                    "Content-Length",
                    "ETag",
                    "Location",
                    "Retry-After",
                    "X-Request-ID",
                    *previews.DESCRIPTION_HEADERS,
                ],
            )
        )
    chain.append(Middleware(AuditTrail))
    if keys:
        chain.append(Middleware(KeyGuard))
    else:
        chain.append(
            Middleware(LocalGuard, allowed_hosts=settings.allowed_hosts, allowed_origins=origins)
        )
    chain.append(
        Middleware(
            BodyLimit,
            limit_bytes=settings.max_json_bytes,
            upload_limit_bytes=settings.max_upload_bytes,
            upload_paths=frozenset({"/v1/datasets"}),
            pause_seconds=settings.body_pause_seconds,
            min_bytes_per_second=settings.min_body_bytes_per_second,
        )
    )
    return chain


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open lock, catalog, store, cluster and runner; close them in the opposite order."""
    settings: ServiceSettings = app.state.settings
    bus: EventBus = app.state.events
    with ExitStack() as stack:
        services = await run_in_threadpool(_open, settings, bus, app.state.metrics, stack)
        app.state.services = services
        # Closing joins threads and stops processes: not on the event loop, which still serves.
        closing = stack.pop_all()
    logger.info("Ready: %s", settings.safe_summary())
    try:
        yield
    finally:
        bus.close()
        await run_in_threadpool(closing.close)


def _open(settings: ServiceSettings, bus: EventBus, metrics: Metrics, stack: ExitStack) -> Services:
    """Whatever fails here unwinds what was opened before it."""
    shared_as = settings.shared_catalog
    stack.enter_context(data_dir_lock(settings.data_dir, shared_as=shared_as))
    # Alone, nobody else uploads.
    sweep(settings.scratch_dir, untouched_seconds=_STALE_UPLOAD_SECONDS if shared_as else 0.0)
    blobs = open_blobs(settings.resolved_store)
    if settings.store_url:
        blobs.check()  # a bucket that is not there is found out now, not by the first job
    blobs.sweep_temporary(_STALE_TEMPORARY_SECONDS)
    catalog = stack.enter_context(open_catalog(settings.resolved_catalog_url))
    if settings.store_url:
        claim(blobs, catalog.identity())
    leases = LeaseKeeper(catalog, new_holder(catalog), settings.job_lease_seconds)
    stack.callback(leases.close)
    tracing = open_tracing(os.environ)
    stack.callback(tracing.close)
    compute = Compute(settings)
    stack.callback(compute.close)
    context = JobContext(
        settings=settings,
        catalog=catalog,
        blobs=blobs,
        compute=compute,
        metrics=metrics,
        tracing=tracing,
    )
    runner = Runner(context, bus, KINDS, leases)
    stack.callback(runner.close)
    if catalog.shared:
        watch = CatalogWatch(catalog, bus, settings.catalog_poll_seconds)
        stack.callback(watch.close)
        watch.start()
    compute.start(runner.wake)
    leases.start()
    runner.start()
    keyring = Keyring(catalog, settings.api_key_sha256, cache_seconds=settings.key_cache_seconds)
    return Services(
        context=context,
        events=bus,
        runner=runner,
        keyring=keyring,
        leases=leases,
        reads=JobReads(catalog),
    )


def _openapi(app: FastAPI, settings: ServiceSettings) -> dict[str, Any]:
    """FastAPI's document, with what it cannot know: the problem schema and the keys."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        license_info=app.license_info,
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    schemas.setdefault("SliceOut", SliceOut.model_json_schema())
    schemas.setdefault("PreviewOut", PreviewOut.model_json_schema())
    for model in _WITH_EXAMPLES:
        # FastAPI drops nulls, also from examples, where they are the point.
        schemas[model.__name__]["examples"] = model.model_json_schema()["examples"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    _describe_validation_errors(document)
    if settings.api_key_sha256:
        components["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key."}
        }
        document["security"] = [{"key": []}]
        for path in ("/healthz", "/readyz"):
            document["paths"][path]["get"]["security"] = []
    app.openapi_schema = document
    return document


def _describe_validation_errors(document: dict[str, Any]) -> None:
    """FastAPI announces its own 422 wherever there are parameters; ours is a problem document."""
    expected = error_responses("invalid-request")[422]
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            if "application/json" in responses.get("422", {}).get("content", {}):
                responses["422"] = expected
