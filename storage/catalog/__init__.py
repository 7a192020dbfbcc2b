"""The SQL catalog (README.md): data sets, jobs, matrices, tiles; keys, owners, audit log."""

from __future__ import annotations

from storage.catalog.catalog import Catalog, open_catalog
from storage.catalog.database import DatabaseSettings
from storage.catalog.errors import (
    CatalogUnavailableError,
    IdempotencyConflictError,
    InvalidCursorError,
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
    "MatrixRecord",
    "MatrixState",
    "NotOwnerError",
    "Role",
    "Target",
    "TileRecord",
    "TileSummary",
    "Usage",
    "open_catalog",
    "referenced_ids",
    "wanted_event",
]
