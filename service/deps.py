"""What routes ask for: the open services of this process, and checked parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from service.access.auth import CALLER
from service.access.identity import Caller
from service.access.keyring import Keyring
from service.errors import InvalidRequestError, UnsupportedMediaTypeError
from service.events import EventBus
from service.jobs.compute import Compute
from service.jobs.context import JobContext
from service.jobs.leases import LeaseKeeper
from service.jobs.runner import Runner
from service.reads import JobReads
from service.settings import ServiceSettings
from storage.blobs import BlobStore
from storage.catalog import Catalog


@dataclass(frozen=True)
class Services:
    """Everything the lifespan opened, passed on as one value; nothing is global."""

    context: JobContext
    events: EventBus
    runner: Runner
    keyring: Keyring
    leases: LeaseKeeper
    reads: JobReads

    @property
    def settings(self) -> ServiceSettings:
        return self.context.settings

    @property
    def catalog(self) -> Catalog:
        return self.context.catalog

    @property
    def blobs(self) -> BlobStore:
        return self.context.blobs

    @property
    def compute(self) -> Compute:
        return self.context.compute


@dataclass(frozen=True)
class PageParameters:
    limit: int
    cursor: str | None


# Not plain functions: FastAPI calls each of those in a thread, for every request.


async def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_caller(request: Request) -> Caller:
    caller: Caller = request.scope[CALLER]
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]


async def page_parameters(
    services: ServicesDep,
    limit: Annotated[
        int | None, Query(ge=1, description="Most items per page; capped by the service.")
    ] = None,
    cursor: Annotated[
        str | None, Query(max_length=200, description="From `next` of the page before.")
    ] = None,
) -> PageParameters:
    settings = services.settings
    wanted = settings.default_page_items if limit is None else limit
    if wanted > settings.max_page_items:
        raise InvalidRequestError(
            f"limit={wanted} is more than {settings.max_page_items} items per page.",
            advice="Follow `next` for more.",
            limit_items=settings.max_page_items,
        )
    return PageParameters(limit=wanted, cursor=cursor)


PageDep = Annotated[PageParameters, Depends(page_parameters)]


async def require_json(request: Request) -> None:
    """Refuses other body types by name, where pydantic would only say "not a dictionary"."""
    given = request.headers.get("content-type", "")
    essence = given.partition(";")[0].strip().lower()
    if essence != "application/json":
        raise UnsupportedMediaTypeError(
            f"This route takes application/json, not {essence[:100] or 'an unnamed type'}.",
            advice="Set the header Content-Type: application/json.",
        )


JsonBody = Depends(require_json)
