"""What a catalog is called: a random name that goes with its rows, wherever they are moved."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from storage.catalog.database import Database
from storage.catalog.tables import Identity


class Identities:
    _database: Database

    def identity(self) -> str:
        """32 hexadecimal digits, the same for ever. A catalog that is asked first makes them up."""
        with self._database.write() as session:
            session.execute(
                self._database.upsert(Identity), [{"id": 1, "name": secrets.token_hex(16)}]
            )
            return session.scalars(sa.select(Identity.name)).one()
