"""API keys: who may do what, and how much. A key itself is never stored, only its SHA-256."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa

from storage.catalog.database import Database
from storage.catalog.paging import now, page
from storage.catalog.records import KeyQuota, KeyRecord
from storage.catalog.tables import ApiKey
from storage.errors import NotFoundError


class ApiKeys:
    _database: Database

    def add_key(
        self,
        *,
        id: str,  # noqa: A002
        digest: str,
        owner: str,
        scope: str,
        created_by: str,
        quota: KeyQuota | None = None,
        note: str | None = None,
        expires_at: datetime | None = None,
    ) -> KeyRecord:
        """Register a key. `id` is its public beginning; `digest` the SHA-256 hex of all of it."""
        limits = quota or KeyQuota()
        row = ApiKey(
            id=id,
            digest=digest,
            owner=owner,
            scope=scope,
            note=note,
            created_by=created_by,
            created_at=now(),
            expires_at=expires_at,
            **{field.name: getattr(limits, field.name) for field in fields(KeyQuota)},
        )
        with self._database.write() as session:
            session.add(row)
            session.flush()
            return _record(row)

    def key_by_digest(self, digest: str) -> KeyRecord | None:
        """The key with this SHA-256, also if it is revoked or expired; None if there is none."""
        with self._database.read() as session:
            found = session.scalar(sa.select(ApiKey).where(ApiKey.digest == digest))
            return None if found is None else _record(found)

    def get_key(self, key_id: str) -> KeyRecord:
        """Raises NotFoundError."""
        with self._database.read() as session:
            found = session.get(ApiKey, key_id)
            if found is None:
                raise _missing(key_id)
            return _record(found)

    def list_keys(
        self, limit: int = 100, cursor: str | None = None, *, owner: str | None = None
    ) -> tuple[list[KeyRecord], str | None]:
        """One page, newest first, and the cursor of the next page (None after the last)."""
        query = sa.select(ApiKey)
        if owner is not None:
            query = query.where(ApiKey.owner == owner)
        with self._database.read() as session:
            rows, following = page(session, ApiKey, query, limit, cursor)
            return [_record(row) for row in rows], following

    def revoke_key(self, key_id: str) -> KeyRecord:
        """End a key now; a key that has ended keeps its time. Raises NotFoundError."""
        with self._database.write() as session:
            session.execute(
                sa.update(ApiKey)
                .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
                .values(revoked_at=now())
                .execution_options(synchronize_session=False)
            )
            found = session.get(ApiKey, key_id)
            if found is None:
                raise _missing(key_id)
            return _record(found)


def _missing(key_id: str) -> NotFoundError:
    return NotFoundError(f"There is no key {key_id}.", advice="GET /v1/keys lists those there are.")


def _record(row: ApiKey) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        owner=row.owner,
        scope=row.scope,
        note=row.note,
        quota=KeyQuota(**{field.name: getattr(row, field.name) for field in fields(KeyQuota)}),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
