"""Who did what, when: append-only, newest first."""

from __future__ import annotations

import secrets
from datetime import datetime

import sqlalchemy as sa

from storage.catalog.database import Database, affected_rows
from storage.catalog.paging import now, page
from storage.catalog.records import AuditRecord
from storage.catalog.tables import AuditEntry


class Audit:
    _database: Database

    def add_audit(
        self,
        *,
        owner: str,
        key_id: str,
        action: str,
        thing: str,
        status: int,
        request_id: str,
    ) -> None:
        """Note one action. `action`: method and route; `thing`: path of what it was done to."""
        row = AuditEntry(
            id=secrets.token_hex(16),
            created_at=now(),
            owner=owner,
            key_id=key_id,
            action=action,
            thing=thing,
            status=status,
            request_id=request_id,
        )
        with self._database.write() as session:
            session.add(row)

    def list_audit(
        self, limit: int = 100, cursor: str | None = None, *, owner: str | None = None
    ) -> tuple[list[AuditRecord], str | None]:
        """One page, newest first, and the cursor of the next page (None after the last)."""
        query = sa.select(AuditEntry)
        if owner is not None:
            query = query.where(AuditEntry.owner == owner)
        with self._database.read() as session:
            rows, following = page(session, AuditEntry, query, limit, cursor)
            return [_record(row) for row in rows], following

    def prune_audit(self, before: datetime) -> int:
        """Delete entries older than this moment; the number deleted."""
        statement = sa.delete(AuditEntry).where(AuditEntry.created_at < before)
        with self._database.write() as session:
            gone = session.execute(statement.execution_options(synchronize_session=False))
            return affected_rows(gone)


def _record(row: AuditEntry) -> AuditRecord:
    return AuditRecord(
        id=row.id,
        created_at=row.created_at,
        owner=row.owner,
        key_id=row.key_id,
        action=row.action,
        thing=row.thing,
        status=row.status,
        request_id=row.request_id,
    )
