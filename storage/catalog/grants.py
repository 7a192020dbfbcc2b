"""Who owns and who may read data sets, jobs and matrices.

Things are addressed by content, so several people may own one: each has uploaded it or asked for
it. What somebody may not read does not exist for them (NotFoundError, not a refusal).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.catalog.database import Database, affected_rows
from storage.catalog.errors import NotOwnerError
from storage.catalog.paging import IN_ITEMS, batched, now
from storage.catalog.records import EVERYBODY, GrantRecord, Role, Usage
from storage.catalog.space import dataset_bytes, matrix_bytes
from storage.catalog.tables import OPEN_STATES, Dataset, Grant, Job, Matrix


class Grants:
    _database: Database

    def grant(self, thing_id: str, grantee: str, role: Role) -> None:
        """Let `grantee` (a name, or EVERYBODY) own or read a thing; an owner stays one."""
        with self._database.write() as session:
            if role is Role.OWNER:
                own(self._database, session, [thing_id], grantee)
                return
            row = _row(thing_id, grantee, role)
            session.execute(self._database.upsert(Grant), [row])

    def withdraw_reader(self, thing_id: str, grantee: str) -> bool:
        """Take read access away; False if there was none. Owners are left alone."""
        statement = sa.delete(Grant).where(
            Grant.thing_id == thing_id, Grant.grantee == grantee, Grant.role == Role.READER.value
        )
        with self._database.write() as session:
            gone = session.execute(statement.execution_options(synchronize_session=False))
            return affected_rows(gone) > 0

    def grants_of(self, thing_id: str) -> list[GrantRecord]:
        """Owners and readers of a thing, by role and name."""
        query = (
            sa.select(Grant).where(Grant.thing_id == thing_id).order_by(Grant.role, Grant.grantee)
        )
        with self._database.read() as session:
            return [
                GrantRecord(row.thing_id, row.grantee, Role(row.role), row.created_at)
                for row in session.scalars(query)
            ]

    def unreadable(self, thing_ids: Iterable[str], reader: str) -> list[str]:
        """Those of `thing_ids` that `reader` may not read, whether they exist or not, sorted."""
        wanted = sorted(set(thing_ids))
        found: set[str] = set()
        with self._database.read() as session:
            for part in batched(wanted, IN_ITEMS):
                query = _readable(reader).where(Grant.thing_id.in_(part))
                found.update(session.scalars(query))
        return [thing_id for thing_id in wanted if thing_id not in found]

    def is_owner(self, thing_id: str, name: str) -> bool:
        with self._database.read() as session:
            return _is_owner(session, thing_id, name)

    def leave(self, thing_id: str, owner: str, *, keep_reading: bool = False) -> bool:
        """Stop owning a thing, if somebody else still owns it.

        False: `owner` is the only one, and stays the owner. Raises NotOwnerError for others.
        """
        with self._database.write() as session:
            # All rows, locked: of two last owners who leave at once, one finds itself alone.
            rows = session.scalars(
                sa.select(Grant)
                .where(Grant.thing_id == thing_id, Grant.role == Role.OWNER.value)
                .order_by(Grant.grantee)
                .with_for_update()
            ).all()
            mine = next((row for row in rows if row.grantee == owner), None)
            if mine is None:
                raise NotOwnerError(
                    f"{thing_id} belongs to somebody else.", advice="Ask its owner to do it."
                )
            if len(rows) == 1:
                return False
            if keep_reading:
                mine.role = Role.READER.value
            else:
                session.delete(mine)
            return True

    def usage(self, owner: str) -> Usage:
        """What a name owns now. A thing with several owners counts fully for each of them."""
        owned = sa.select(Grant.thing_id).where(
            Grant.grantee == owner, Grant.role == Role.OWNER.value
        )
        sums = (
            sa.select(sa.func.sum(matrix_bytes())).where(Matrix.id.in_(owned)),
            sa.select(sa.func.sum(dataset_bytes())).where(Dataset.id.in_(owned)),
        )
        with self._database.read() as session:
            stored = sum(int(session.scalar(query) or 0) for query in sums)
            jobs = session.scalars(
                sa.select(Job.id).where(Job.id.in_(owned), Job.state.in_(OPEN_STATES))
            ).all()
            return Usage(open_jobs=tuple(jobs), stored_bytes=stored)


def own(database: Database, session: Session, things: Iterable[str], owner: str) -> None:
    """Make `owner` an owner of `things`, inside the transaction of `session`."""
    rows = [_row(thing_id, owner, Role.OWNER) for thing_id in things]
    session.execute(database.upsert(Grant, replace=("role",)), rows)


def forget(session: Session, thing_id: str) -> None:
    """Delete all grants of a thing that is being deleted."""
    session.execute(
        sa.delete(Grant)
        .where(Grant.thing_id == thing_id)
        .execution_options(synchronize_session=False)
    )


def visible(
    query: sa.Select[Any], column: InstrumentedAttribute[str], reader: str | None
) -> sa.Select[Any]:
    """`query` restricted to the rows whose id in `column` `reader` may read (None: all)."""
    return query if reader is None else query.where(column.in_(_readable(reader)))


def may_read(session: Session, thing_id: str, reader: str | None) -> bool:
    if reader is None:
        return True
    return session.scalar(_readable(reader).where(Grant.thing_id == thing_id).limit(1)) is not None


def readable_pairs(session: Session, pairs: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of `pairs` (id of a thing, who wants to read it) that are allowed."""
    things = sorted({thing_id for thing_id, _ in pairs})
    readers = sorted({reader for _, reader in pairs})
    held: set[tuple[str, str]] = set()
    for some_things in batched(things, IN_ITEMS):
        for some_readers in batched([*readers, EVERYBODY], IN_ITEMS):
            query = sa.select(Grant.thing_id, Grant.grantee).where(
                Grant.thing_id.in_(some_things), Grant.grantee.in_(some_readers)
            )
            held.update((row.thing_id, row.grantee) for row in session.execute(query))
    return {pair for pair in pairs if pair in held or (pair[0], EVERYBODY) in held}


def _readable(reader: str) -> sa.Select[Any]:
    return sa.select(Grant.thing_id).where(Grant.grantee.in_((reader, EVERYBODY)))


def _is_owner(session: Session, thing_id: str, name: str) -> bool:
    found = session.get(Grant, (thing_id, name))
    return found is not None and found.role == Role.OWNER.value


def _row(thing_id: str, grantee: str, role: Role) -> dict[str, Any]:
    return {
        "thing_id": thing_id,
        "grantee": grantee,
        "role": role.value,
        "created_at": now(),
    }
