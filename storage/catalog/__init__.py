"""The SQL catalog (README.md): data sets, jobs, matrices, tiles; keys, owners, audit log."""

from __future__ import annotations

from storage.catalog.catalog import Catalog, open_catalog
from storage.catalog.claims import RunningLimits
from storage.catalog.database import DatabaseSettings
from storage.catalog.errors import (
    CatalogUnavailableError,
    IdempotencyConflictError,
    InvalidCursorError,
    LeaseLostError,
    NotOwnerError,
)
from storage.catalog.inputs import referenced_ids
from storage.catalog.records import (
    EVERYBODY,
    AuditRecord,
    DatasetRecord,
    EventRecord,
    GrantRecord,
    JobRecord,
    KeyQuota,
    KeyRecord,
    LeaseRecord,
    MatrixRecord,
    MatrixState,
    Role,
    TileRecord,
    TileSummary,
    Usage,
)
from storage.catalog.states import OPEN, TERMINAL, JobEvent, JobState, Target, wanted_event

__all__ = [
    "EVERYBODY",
    "OPEN",
    "TERMINAL",
    "AuditRecord",
    "Catalog",
    "CatalogUnavailableError",
    "DatabaseSettings",
    "DatasetRecord",
    "EventRecord",
    "GrantRecord",
    "IdempotencyConflictError",
    "InvalidCursorError",
    "JobEvent",
    "JobRecord",
    "JobState",
    "KeyQuota",
    "KeyRecord",
    "LeaseLostError",
    "LeaseRecord",
    "MatrixRecord",
    "MatrixState",
    "NotOwnerError",
    "Role",
    "RunningLimits",
    "Target",
    "TileRecord",
    "TileSummary",
    "Usage",
    "open_catalog",
    "referenced_ids",
    "wanted_event",
]
