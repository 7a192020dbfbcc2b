"""Which runner works on which job, when several services share a catalog."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.catalog.database import Database
from storage.catalog.job_rows import Announcement, advance
from storage.catalog.leases import acquire, database_time
from storage.catalog.records import JobRecord, LeaseRecord
from storage.catalog.states import JobEvent, JobState
from storage.catalog.tables import Job, Lease

# Any number: it names the lock under which runners take up jobs one after the other.
_CLAIM_LOCK = 0x47726A6F


@dataclass(frozen=True)
class RunningLimits:
    """Jobs that may run at once, over all runners: of one owner, and of all together."""

    of_one_owner: int
    in_all: int


class Claims:
    _database: Database

    def claim_job(
        self,
        job: JobRecord,
        event: JobEvent,
        *,
        holder: str,
        lease_seconds: float,
        limits: RunningLimits,
        announce: Announcement | None = None,
    ) -> tuple[JobRecord, LeaseRecord] | None:
        """Take up a job (START or RESUME) together with its lease; None while somebody else has
        it or so many run that it has to wait.

        Raises ConflictError if the job is not as `job` says any more, NotFoundError. A job counts
        as running while its lease lives: those of a runner that died do not, once it ended.
        """
        with self._database.write() as session:
            self._one_after_the_other(session)
            if not self._has_room(session, job, limits):
                return None
            lease = acquire(self._database, session, job.id, holder, lease_seconds)
            if lease is None:
                return None
            taken = advance(
                session,
                job.id,
                event,
                values={},
                expected_attempts=job.attempts,
                announce=announce,
            )
            return taken, lease

    def cancel_unclaimed(
        self, job_id: str, *, holder: str, announce: Announcement | None = None
    ) -> JobRecord | None:
        """End a job that nobody works on as cancelled; None while somebody else has its lease.

        Raises ConflictError if it has ended, NotFoundError.
        """
        with self._database.write() as session:
            self._one_after_the_other(session)
            moment = database_time(self._database, session)
            query = sa.select(Lease.holder).where(
                Lease.name == job_id, Lease.expires_at > moment, Lease.holder != holder
            )
            if session.scalar(query.with_for_update()) is not None:
                return None
            return advance(
                session,
                job_id,
                JobEvent.CANCELLED,
                values={},
                expected_attempts=None,
                announce=announce,
            )

    def _one_after_the_other(self, session: Session) -> None:
        """On SQLite there is one writer anyway."""
        if not self._database.is_sqlite:
            session.execute(sa.select(sa.func.pg_advisory_xact_lock(_CLAIM_LOCK)))

    def _has_room(self, session: Session, job: JobRecord, limits: RunningLimits) -> bool:
        moment = database_time(self._database, session)
        query = (
            sa.select(Job.owner)
            .join(Lease, Lease.name == Job.id)
            .where(Job.state == JobState.RUNNING.value, Lease.expires_at > moment, Job.id != job.id)
        )
        owners = list(session.scalars(query))
        return len(owners) < limits.in_all and owners.count(job.owner) < limits.of_one_owner
