"""Newest-first pages over tables that have `created_at` and `id`, and questions in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.catalog.cursors import decode_cursor, encode_cursor
from storage.catalog.tables import ApiKey, AuditEntry, Dataset, Job, Matrix

MAX_PAGE_ROWS = 1000
IN_ITEMS = 400  # two such lists are below SQLite's oldest limit of parameters per statement (999)

Row = TypeVar("Row", Dataset, Job, Matrix, ApiKey, AuditEntry)


def now() -> datetime:
    return datetime.now(UTC)


def batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`items` in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def page(
    session: Session,
    table: type[Row],
    query: sa.Select[Any],
    limit: int,
    cursor: str | None,
) -> tuple[list[Row], str | None]:
    """At most `limit` rows (MAX_PAGE_ROWS at most) and the cursor of what follows them."""
    if limit < 1:
        raise ValueError(f"a page of {limit} rows")
    limit = min(limit, MAX_PAGE_ROWS)
    listing = table.__tablename__
    if cursor is not None:
        created_at, row_id = decode_cursor(listing, cursor)
        after = sa.tuple_(
            sa.literal(created_at, table.created_at.type), sa.literal(row_id, table.id.type)
        )
        query = query.where(sa.tuple_(table.created_at, table.id) < after)
    # One row more than asked for tells whether there is a next page.
    ordered = query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)
    rows: list[Row] = list(session.scalars(ordered))
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], encode_cursor(listing, last.created_at, last.id)
