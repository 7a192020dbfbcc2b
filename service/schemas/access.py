"""Wire models of keys, owners and readers, usage, and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from service.schemas.common import Wire
from storage.keys import OWNER_PATTERN

OwnerName = Annotated[str, StringConstraints(pattern=OWNER_PATTERN)]
ScopeName = Literal["read", "submit", "admin"]
_Limit = Annotated[int | None, Field(ge=0, lt=2**53)]

_KEY: dict[str, Any] = {
    "id": "gk_1a2b3c4d",
    "owner": "alice",
    "scope": "submit",
    "note": "notebook on the workstation",
    "quota": {
        "max_open_jobs": 4,
        "max_stored_bytes": 500_000_000_000,
        "max_matrix_rows": 60_000,
        "max_requests_per_minute": 600,
    },
    "active": True,
    "created_by": "operator",
    "created_at": "2026-11-26T10:00:00Z",
    "expires_at": "2027-11-26T10:00:00Z",
    "revoked_at": None,
}


class Quota(BaseModel):
    """Limits of a key; null: only those of the service. Jobs and bytes are counted over all that
    the owner of the key owns."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_open_jobs: _Limit = None
    max_stored_bytes: _Limit = None
    max_matrix_rows: _Limit = None
    max_requests_per_minute: Annotated[int | None, Field(ge=1, lt=2**53)] = None


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    owner: OwnerName = Field(description="Who will own what is made with it.")
    scope: ScopeName = Field(default="submit", description="Each level includes those before it.")
    note: str | None = Field(default=None, max_length=200, description="A label for people.")
    quota: Quota = Quota()
    expires_at: AwareDatetime | None = Field(default=None, strict=False, description="Null: never.")


class KeyOut(Wire):
    """A key without its secret."""

    id: str = Field(description="The public beginning of the key.")
    owner: str
    scope: ScopeName
    note: str | None
    quota: Quota
    active: bool = Field(description="Neither revoked nor expired.")
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewKeyOut(KeyOut):
    """A key that was just made. Its `key` is told only now; the service keeps a SHA-256."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={"examples": [{**_KEY, "key": "gk_1a2b3c4d_" + "x" * 43}]},
    )

    key: str


class UsageOut(Wire):
    open_jobs: int
    stored_bytes: int


class CallerOut(Wire):
    """Who the service takes the caller for."""

    owner: str
    key: str = Field(description="Id of the key; `open` on a service without keys.")
    scope: ScopeName
    quota: Quota
    usage: UsageOut


class GrantsOut(Wire):
    """Who owns and who may read a thing; the reader `*` is everybody with a key."""

    id: str
    owners: list[str]
    readers: list[str]


class AuditOut(Wire):
    """One change that was made (2xx) or forbidden (403)."""

    id: str
    created_at: datetime
    owner: str
    key: str
    action: str = Field(description="Method and route.")
    thing: str = Field(description="Path of what was changed or made.")
    status: int
    request_id: str
