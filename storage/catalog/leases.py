"""Leases: who may work on a thing for now, and proof that it still is so.

A holder takes a lease for some seconds and renews it. When it dies, the lease ends and somebody
else takes it, with a larger generation. A holder that was only away (paused, cut off) may come back
at any moment and believe that nothing happened; so what it writes is fenced: the transaction first
looks whether the generation is still its own (Kleppmann, "How to do distributed locking", 2016).
A lease whose time is up but that nobody took still fences nothing off: its holder goes on.

Times are those of the database, so the clocks of the holders do not matter.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.catalog.database import Database
from storage.catalog.errors import LeaseLostError
from storage.catalog.paging import now
from storage.catalog.records import LeaseRecord
from storage.catalog.tables import Lease

if TYPE_CHECKING:
    from storage.catalog.catalog import Catalog


class Leases:
    _database: Database
    _lease: LeaseRecord | None = None

    def acquire_lease(self, name: str, holder: str, seconds: float) -> LeaseRecord | None:
        """The lease called `name` for `holder`, or None while somebody else has it.

        One holder that asks again gets it anew, with a larger generation: what it did under the
        earlier one is fenced off.
        """
        with self._database.write() as session:
            return acquire(self._database, session, name, holder, seconds)

    def renew_lease(self, lease: LeaseRecord, seconds: float) -> bool:
        """Put the end of a lease off to `seconds` from now; False if it is somebody else's."""
        with self._database.write() as session:
            until = database_time(self._database, session) + timedelta(seconds=seconds)
            return _move(session, lease, until)

    def release_lease(self, lease: LeaseRecord) -> None:
        """End a lease now; nothing happens if it is somebody else's by now."""
        with self._database.write() as session:
            _move(session, lease, database_time(self._database, session))

    def live_leases(self) -> dict[str, str]:
        """Holders of the leases that have not ended, by name."""
        with self._database.read() as session:
            moment = database_time(self._database, session)
            query = sa.select(Lease.name, Lease.holder).where(Lease.expires_at > moment)
            return {row.name: row.holder for row in session.execute(query)}

    def fenced(self, lease: LeaseRecord) -> Catalog:
        """This catalog for the holder of `lease`: every write raises LeaseLostError, and changes
        nothing, once the lease is somebody else's. It is closed with the catalog it came from."""
        from storage.catalog.catalog import Catalog

        return Catalog(self._database.guarded(partial(check, lease=lease)), lease)

    def confirm_lease(self) -> None:
        """Raises LeaseLostError if this catalog is fenced and its lease is somebody else's. For
        those about to write elsewhere than in the catalog."""
        if self._lease is not None:
            with self._database.read() as session:
                check(session, self._lease)


def acquire(
    database: Database, session: Session, name: str, holder: str, seconds: float
) -> LeaseRecord | None:
    """As `Catalog.acquire_lease`, inside the transaction of `session`."""
    moment = database_time(database, session)
    # The row is made first, so that of two who come at once the second waits at its lock.
    row = {"name": name, "holder": holder, "generation": 0, "expires_at": moment}
    session.execute(database.upsert(Lease), [row])
    lease = session.scalars(_locked(name)).one()
    moment = database_time(database, session)  # waiting for the lock took time
    if lease.holder != holder and lease.expires_at > moment:
        return None
    lease.holder = holder
    lease.generation += 1
    lease.expires_at = moment + timedelta(seconds=seconds)
    return LeaseRecord(name, holder, lease.generation)


def check(session: Session, lease: LeaseRecord) -> None:
    """Raises LeaseLostError if `lease` is somebody else's; else it stays until the transaction
    ends, for whoever wants to take it waits for that."""
    current = session.scalars(_locked(lease.name)).one_or_none()
    if current is None or current.generation != lease.generation:
        raise LeaseLostError(
            f"The lease of {lease.name} is not that of {lease.holder} any more.",
            advice="Leave the work to whoever has it now.",
        )


def database_time(database: Database, session: Session) -> datetime:
    if database.is_sqlite:  # one machine, one clock
        return now()
    # Not now(): that is when the transaction began, perhaps before it waited.
    query = sa.select(sa.func.clock_timestamp(type_=Lease.expires_at.type))
    moment: datetime = session.scalars(query).one()
    return moment


def _locked(name: str) -> sa.Select[Any]:
    return sa.select(Lease).where(Lease.name == name).with_for_update()


def _move(session: Session, lease: LeaseRecord, until: datetime) -> bool:
    moved = session.scalar(
        sa.update(Lease)
        .where(Lease.name == lease.name, Lease.generation == lease.generation)
        .values(expires_at=until)
        .returning(Lease.name)
        .execution_options(synchronize_session=False)
    )
    return moved is not None
