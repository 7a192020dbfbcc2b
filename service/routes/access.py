"""Who am I, and who may read what is mine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path

from service.access.identity import Caller
from service.deps import CallerDep, ServicesDep
from service.schemas.access import CallerOut, GrantsOut, Quota, UsageOut
from service.schemas.common import EXAMPLE_MATRIX, error_responses
from storage.catalog import Catalog, NotOwnerError, Role
from storage.errors import NotFoundError
from storage.keys import (
    DATASET_ID_PATTERN,
    JOB_ID_PATTERN,
    MATRIX_ID_PATTERN,
    OWNER_PATTERN,
    thing_kind,
)

router = APIRouter(prefix="/v1", tags=["access"])

_THING_PATTERN = f"{DATASET_ID_PATTERN}|{MATRIX_ID_PATTERN}|{JOB_ID_PATTERN}"
ThingPath = Annotated[
    str,
    Path(
        alias="id",
        pattern=_THING_PATTERN,
        description="Id of a data set, a job or a matrix.",
        openapi_examples={"matrix": {"value": EXAMPLE_MATRIX}},
    ),
]
ReaderPath = Annotated[
    str,
    Path(
        alias="reader",
        pattern=rf"{OWNER_PATTERN}|^\*$",
        description="Name of an owner of keys; `*` is everybody with a key.",
        openapi_examples={"bob": {"value": "bob"}},
    ),
]

_ERRORS = error_responses("not-found", "invalid-request")


@router.get("/me", summary="Who am I?", responses=error_responses())
def who_am_i(services: ServicesDep, caller: CallerDep) -> CallerOut:
    """Owner, scope and quota of the caller's key, and what its owner uses now."""
    usage = services.catalog.usage(caller.owner)
    return CallerOut(
        owner=caller.owner,
        key=caller.key_id,
        scope=caller.scope.value,
        quota=Quota(**asdict(caller.quota)),
        usage=UsageOut(open_jobs=len(usage.open_jobs), stored_bytes=usage.stored_bytes),
    )


@router.get("/access/{id}", summary="Who owns and reads it?", responses=_ERRORS)
def get_access(services: ServicesDep, caller: CallerDep, thing_id: ThingPath) -> GrantsOut:
    """Owners and readers of a data set, a job or a matrix, for everybody who may read it."""
    _check_exists(services.catalog, caller, thing_id)
    return _grants(services.catalog, thing_id)


@router.put("/access/{id}/{reader}", summary="Share read access", responses=_ERRORS)
def share(
    services: ServicesDep, caller: CallerDep, thing_id: ThingPath, reader: ReaderPath
) -> GrantsOut:
    """Only this thing is shared: of a matrix neither its job nor the data sets it came from."""
    _check_owner(services.catalog, caller, thing_id)
    services.catalog.grant(thing_id, reader, Role.READER)
    return _grants(services.catalog, thing_id)


@router.delete("/access/{id}/{reader}", summary="End read access", responses=_ERRORS)
def unshare(
    services: ServicesDep, caller: CallerDep, thing_id: ThingPath, reader: ReaderPath
) -> GrantsOut:
    """Owners stay owners; readers that are none are no error."""
    _check_owner(services.catalog, caller, thing_id)
    services.catalog.withdraw_reader(thing_id, reader)
    return _grants(services.catalog, thing_id)


def _check_exists(catalog: Catalog, caller: Caller, thing_id: str) -> None:
    look = {
        "ds": catalog.get_dataset,
        "mx": catalog.get_matrix,
        "job": catalog.get_job,
    }[thing_kind(thing_id)]
    try:
        look(thing_id, visible_to=caller.visible_to)
    except NotFoundError:
        raise NotFoundError(
            f"There is no {thing_id}.", advice="Use an id that the service has returned."
        ) from None


def _check_owner(catalog: Catalog, caller: Caller, thing_id: str) -> None:
    _check_exists(catalog, caller, thing_id)
    if not caller.is_admin and not catalog.is_owner(thing_id, caller.owner):
        raise NotOwnerError(
            f"{thing_id} belongs to somebody else.", advice="Ask its owner to share it."
        )


def _grants(catalog: Catalog, thing_id: str) -> GrantsOut:
    found = catalog.grants_of(thing_id)
    return GrantsOut(
        id=thing_id,
        owners=[g.grantee for g in found if g.role is Role.OWNER],
        readers=[g.grantee for g in found if g.role is Role.READER],
    )
