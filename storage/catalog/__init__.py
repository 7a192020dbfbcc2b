"""The SQL catalog (README.md): data sets, jobs and their events, matrices, tiles, rates."""

from __future__ import annotations

from storage.catalog.catalog import Catalog, open_catalog
from storage.catalog.database import DatabaseSettings
from storage.catalog.errors import (
    CatalogUnavailableError,
    IdempotencyConflictError,
    InvalidCursorError,
)
from storage.catalog.records import (
    DatasetRecord,
    EventRecord,
    JobRecord,
    MatrixRecord,
    MatrixState,
    TileRecord,
    TileSummary,
)
from storage.catalog.states import OPEN, TERMINAL, JobEvent, JobState, Target, wanted_event

__all__ = [
    "OPEN",
    "TERMINAL",
    "Catalog",
    "CatalogUnavailableError",
    "DatabaseSettings",
    "DatasetRecord",
    "EventRecord",
    "IdempotencyConflictError",
    "InvalidCursorError",
    "JobEvent",
    "JobRecord",
    "JobState",
    "MatrixRecord",
    "MatrixState",
    "Target",
    "TileRecord",
    "TileSummary",
    "open_catalog",
    "wanted_event",
]
