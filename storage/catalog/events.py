"""What happened to a job, numbered 1, 2, ... within the job, so a watcher can say where it was."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.catalog.database import Database, affected_rows
from storage.catalog.paging import IN_ITEMS, batched, now
from storage.catalog.records import EventRecord
from storage.catalog.states import TERMINAL
from storage.catalog.tables import Event, Job
from storage.errors import NotFoundError


class Events:
    _database: Database

    def append_event(self, job_id: str, type: str, data: dict[str, Any]) -> int:  # noqa: A002
        """Store an event and return its number. Raises NotFoundError without such a job."""
        with self._database.write() as session:
            return append(session, job_id, type, data)

    def events_after(self, job_id: str, sequence: int, limit: int = 1000) -> list[EventRecord]:
        """At most `limit` events with larger numbers, in order (0: from the beginning)."""
        query = (
            sa.select(Event)
            .where(Event.job_id == job_id, Event.sequence > sequence)
            .order_by(Event.sequence)
            .limit(limit)
        )
        with self._database.read() as session:
            return [_record(row) for row in session.scalars(query)]

    def event_counts(self, job_ids: Iterable[str]) -> dict[str, int]:
        """The number of the newest event of each of these jobs; jobs that are not there are left
        out. One look at it tells who has to be asked for news."""
        counts: dict[str, int] = {}
        with self._database.read() as session:
            for part in batched(sorted(job_ids), IN_ITEMS):
                query = sa.select(Job.id, Job.event_count).where(Job.id.in_(part))
                counts.update((row.id, row.event_count) for row in session.execute(query))
        return counts

    def latest_events(self, job_id: str, type: str, limit: int) -> list[EventRecord]:  # noqa: A002
        """At most `limit` events of one type, the newest first."""
        query = (
            sa.select(Event)
            .where(Event.job_id == job_id, Event.type == type)
            .order_by(Event.sequence.desc())
            .limit(limit)
        )
        with self._database.read() as session:
            return [_record(row) for row in session.scalars(query)]

    def prune_events(self, ended_before: datetime) -> int:
        """Delete the events of jobs that ended before this moment; the number deleted.

        Numbers are not handed out again.
        """
        ended = sa.select(Job.id).where(
            Job.state.in_([str(state) for state in TERMINAL]), Job.finished_at < ended_before
        )
        with self._database.write() as session:
            gone = session.execute(
                sa.delete(Event)
                .where(Event.job_id.in_(ended))
                .execution_options(synchronize_session=False)
            )
            return affected_rows(gone)


def append(session: Session, job_id: str, type_: str, data: dict[str, Any]) -> int:
    """As `Catalog.append_event`, inside the transaction of `session`.

    Raising the counter locks the job's row until the transaction ends, so numbers become visible
    in order and nobody who reads up to number n can miss a smaller one that commits later.
    """
    sequence = session.scalar(
        sa.update(Job)
        .where(Job.id == job_id)
        .values(event_count=Job.event_count + 1)
        .returning(Job.event_count)
        .execution_options(synchronize_session=False)
    )
    if sequence is None:
        raise NotFoundError(f"There is no job {job_id}.", advice="GET /v1/jobs lists all jobs.")
    session.execute(
        sa.insert(Event),
        [
            {
                "job_id": job_id,
                "sequence": sequence,
                "type": type_,
                "data": data,
                "created_at": now(),
            }
        ],
    )
    return sequence


def _record(row: Event) -> EventRecord:
    return EventRecord(
        job_id=row.job_id,
        sequence=row.sequence,
        type=row.type,
        data=row.data,
        created_at=row.created_at,
    )
