"""What the catalog returns: plain frozen values, detached from the database.

All datetimes are timezone-aware UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from storage.catalog.states import TERMINAL, JobState, Target


class MatrixState(StrEnum):
    BUILDING = "building"
    SEALED = "sealed"


@dataclass(frozen=True)
class DatasetRecord:
    id: str
    name: str | None
    info: dict[str, Any]  # DatasetInfo.to_json()
    created_at: datetime


@dataclass(frozen=True)
class JobRecord:
    """`progress`, `error` and `result` are the JSON objects last stored, or None."""

    id: str
    owner: str | None  # who submitted it first; None: before there were owners
    task: dict[str, Any]
    request_digest: str
    body_digest: str
    matrix_id: str | None  # the matrix that the job builds
    inputs: tuple[str, ...]  # ids of the data sets and matrices that it reads, sorted
    state: JobState
    target: Target
    attempts: int  # how many times a runner took the job up
    estimate: dict[str, Any] | None
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    result: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


@dataclass(frozen=True)
class LeaseRecord:
    """`holder` has what is called `name`, since the `generation`-th time that it was taken."""

    name: str
    holder: str
    generation: int


@dataclass(frozen=True)
class EventRecord:
    """`sequence` counts 1, 2, ... within one job, without gaps."""

    job_id: str
    sequence: int
    type: str
    data: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class MatrixRecord:
    """`digest` and `stored_bytes` are None until the matrix is sealed."""

    id: str
    kind: str
    manifest: dict[str, Any]
    state: MatrixState
    digest: str | None
    stored_bytes: int | None
    created_at: datetime
    sealed_at: datetime | None

    @property
    def sealed(self) -> bool:
        return self.state is MatrixState.SEALED


@dataclass(frozen=True)
class TileRecord:
    """What one finished tile (chunk (i, j) of one array) reported.

    `digest`: 32 bytes. `seconds`: compute time. `minimum`, `maximum`: over the finite values, NaN
    if there are none. `nonfinite`: number of NaN and infinite values. `stored_bytes`: on disk.
    """

    array: str
    i: int
    j: int
    digest: bytes
    seconds: float
    minimum: float
    maximum: float
    nonfinite: int
    stored_bytes: int


@dataclass(frozen=True)
class TileSummary:
    """Totals over the recorded tiles of a matrix; `minimum`, `maximum` are None without values."""

    tiles: int
    stored_bytes: int
    nonfinite: int
    seconds: float  # compute seconds, summed over tiles
    minimum: float | None
    maximum: float | None


EVERYBODY = "*"  # as a grantee: every key


class Role(StrEnum):
    OWNER = "owner"
    READER = "reader"


@dataclass(frozen=True)
class GrantRecord:
    """`grantee` owns or may read a thing; EVERYBODY stands for all."""

    thing_id: str
    grantee: str
    role: Role
    created_at: datetime


@dataclass(frozen=True)
class Usage:
    """What one name owns: ids of its unfinished jobs, and bytes of its data sets and matrices."""

    open_jobs: tuple[str, ...]
    stored_bytes: int


@dataclass(frozen=True)
class KeyQuota:
    """Limits of one key; None: only those of the service.

    Jobs and bytes are counted over everything that the key's owner owns.
    """

    max_open_jobs: int | None = None
    max_stored_bytes: int | None = None
    max_matrix_rows: int | None = None
    max_requests_per_minute: int | None = None


@dataclass(frozen=True)
class KeyRecord:
    """An API key without the key: `id` is its public beginning."""

    id: str
    owner: str
    scope: str  # read, submit or admin; each includes those before it
    note: str | None
    quota: KeyQuota
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def active(self, moment: datetime) -> bool:
        expired = self.expires_at is not None and self.expires_at <= moment
        return self.revoked_at is None and not expired


@dataclass(frozen=True)
class AuditRecord:
    """`action`: method and route; `thing`: path of what was changed or made."""

    id: str
    created_at: datetime
    owner: str
    key_id: str
    action: str
    thing: str
    status: int
    request_id: str
