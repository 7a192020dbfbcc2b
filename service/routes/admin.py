"""For administrators: keys and the audit log. The guard lets nobody else in (`identity.py`)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response

from service.access.identity import ADMIN_PREFIX, LOCAL
from service.access.keyring import new_key
from service.deps import CallerDep, JsonBody, PageDep, Services, ServicesDep
from service.errors import InvalidRequestError
from service.garbage import Item, Retention, collect, find, prune_records
from service.schemas.access import AuditOut, KeyOut, KeyRequest, NewKeyOut, Quota
from service.schemas.common import Page, error_responses
from service.schemas.garbage import GarbageItem, GarbageOut, GarbageRequest
from service.views import next_link
from storage.catalog import AuditRecord, KeyQuota, KeyRecord
from storage.errors import ConflictError
from storage.keys import KEY_ID_PATTERN, OWNER_PATTERN

router = APIRouter(prefix=ADMIN_PREFIX, tags=["administration"])

# The name of the lease under which garbage is deleted.
_HOUSEKEEPING = "housekeeping"

OwnerQuery = Annotated[str | None, Query(pattern=OWNER_PATTERN, description="Only of this owner.")]
KeyPath = Annotated[
    str,
    Path(alias="id", pattern=KEY_ID_PATTERN, openapi_examples={"key": {"value": "gk_1a2b3c4d"}}),
]


@router.post(
    "/keys",
    summary="Make a key",
    status_code=201,
    dependencies=[JsonBody],
    responses=error_responses("invalid-request", "unsupported-media-type", "conflict"),
)
def create_key(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    body: Annotated[
        KeyRequest,
        Body(
            openapi_examples={
                "user": {
                    "summary": "A user with limits",
                    "value": {
                        "owner": "alice",
                        "scope": "submit",
                        "quota": {"max_open_jobs": 4, "max_requests_per_minute": 600},
                    },
                }
            }
        ),
    ],
) -> NewKeyOut:
    """The answer holds the key, once; the service keeps its SHA-256."""
    if caller is LOCAL:
        raise ConflictError(
            "This service is open: it asks nobody for a key.",
            advice="Start it with an operator's key first: gramian keys new.",
        )
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise InvalidRequestError(
            f"expires_at {body.expires_at.isoformat()} is not in the future.",
            advice="Choose a later time, or null for a key that does not expire.",
        )
    made = new_key()
    record = services.catalog.add_key(
        id=made.id,
        digest=made.digest,
        owner=body.owner,
        scope=body.scope,
        note=body.note,
        quota=KeyQuota(**body.quota.model_dump()),
        expires_at=body.expires_at,
        created_by=caller.owner,
    )
    response.headers["Location"] = f"{ADMIN_PREFIX}/keys/{record.id}"
    response.headers["Cache-Control"] = "no-store"
    return NewKeyOut(**_key(record).model_dump(), key=made.key)


@router.get("/keys", summary="List keys", responses=error_responses("invalid-request"))
def list_keys(services: ServicesDep, page: PageDep, owner: OwnerQuery = None) -> Page[KeyOut]:
    """Newest first, also those that have ended. Keys of the settings are not among them."""
    records, cursor = services.catalog.list_keys(page.limit, page.cursor, owner=owner)
    return Page(
        items=[_key(record) for record in records],
        next=next_link(f"{ADMIN_PREFIX}/keys", cursor, limit=page.limit, owner=owner),
    )


@router.get(
    "/keys/{id}", summary="One key", responses=error_responses("not-found", "invalid-request")
)
def get_key(services: ServicesDep, key_id: KeyPath) -> KeyOut:
    """Owner, scope, quota and times of a key."""
    return _key(services.catalog.get_key(key_id))


@router.delete(
    "/keys/{id}", summary="Revoke a key", responses=error_responses("not-found", "invalid-request")
)
def revoke_key(services: ServicesDep, key_id: KeyPath) -> KeyOut:
    """Ends it at once. What its owner owns stays; the record stays for the audit log."""
    return _key(_revoked(services, key_id))


@router.get("/audit", summary="Who did what", responses=error_responses("invalid-request"))
def list_audit(services: ServicesDep, page: PageDep, owner: OwnerQuery = None) -> Page[AuditOut]:
    """Every change that was made or forbidden, newest first."""
    records, cursor = services.catalog.list_audit(page.limit, page.cursor, owner=owner)
    return Page(
        items=[_entry(record) for record in records],
        next=next_link(f"{ADMIN_PREFIX}/audit", cursor, limit=page.limit, owner=owner),
    )


@router.post(
    "/garbage",
    summary="Find or delete garbage",
    dependencies=[JsonBody],
    responses=error_responses("invalid-request", "unsupported-media-type", "conflict"),
)
def collect_garbage(
    services: ServicesDep,
    body: Annotated[
        GarbageRequest,
        Body(openapi_examples={"look": {"summary": "Only look", "value": {"delete": False}}}),
    ],
) -> GarbageOut:
    """Leftovers of broken work and things past their retention (settings `retention_*`). Nothing
    that an open job or a stored matrix needs goes. One at a time deletes, over all services that
    share the catalog: 409 for the others."""
    settings = services.settings
    retention = Retention(
        leftover_days=settings.retention_leftover_days,
        matrix_days=settings.retention_matrix_days,
        dataset_days=settings.retention_dataset_days,
        event_days=settings.retention_event_days,
        audit_days=settings.retention_audit_days,
    )
    kept: list[Item] = []
    counts = {"events": 0, "audit_entries": 0}
    if body.delete:
        with services.leases.held(_HOUSEKEEPING, _busy()) as lease:
            context = services.context.fenced(lease)
            items, kept = collect(context, find(context, retention))
            counts = prune_records(context, retention)
    else:
        items = find(services.context, retention)
    return GarbageOut(
        deleted=body.delete,
        items=[GarbageItem.model_validate(asdict(item)) for item in items],
        kept=[GarbageItem.model_validate(asdict(item)) for item in kept],
        stored_bytes=sum(item.stored_bytes for item in items),
        **counts,
    )


def _busy() -> ConflictError:
    return ConflictError(
        "Somebody else is deleting garbage at this moment.", advice="Try again in a few minutes."
    )


def _revoked(services: Services, key_id: str) -> KeyRecord:
    record = services.catalog.revoke_key(key_id)
    services.keyring.forget(key_id)
    return record


def _key(record: KeyRecord) -> KeyOut:
    return KeyOut.model_validate(
        {
            "id": record.id,
            "owner": record.owner,
            "scope": record.scope,
            "note": record.note,
            "quota": Quota(**asdict(record.quota)),
            "active": record.active(datetime.now(UTC)),
            "created_by": record.created_by,
            "created_at": record.created_at,
            "expires_at": record.expires_at,
            "revoked_at": record.revoked_at,
        }
    )


def _entry(record: AuditRecord) -> AuditOut:
    return AuditOut(
        id=record.id,
        created_at=record.created_at,
        owner=record.owner,
        key=record.key_id,
        action=record.action,
        thing=record.thing,
        status=record.status,
        request_id=record.request_id,
    )
