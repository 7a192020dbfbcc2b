"""The SQL catalog: what exists, what is wanted, and what happened.

The only part of Gramian that speaks SQL. Dask holds no truth; this (and the stored chunks) does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from storage.catalog.api_keys import ApiKeys
from storage.catalog.audit import Audit
from storage.catalog.claims import Claims
from storage.catalog.database import Database, DatabaseSettings
from storage.catalog.datasets import Datasets
from storage.catalog.events import Events
from storage.catalog.grants import Grants
from storage.catalog.identity import Identities
from storage.catalog.jobs import Jobs
from storage.catalog.leases import Leases
from storage.catalog.matrices import Matrices
from storage.catalog.migrate import ensure_schema
from storage.catalog.rates import Rates
from storage.catalog.records import LeaseRecord
from storage.catalog.space import Space
from storage.catalog.tiles import Tiles


class Catalog(
    Datasets,
    Jobs,
    Leases,
    Claims,
    Events,
    Matrices,
    Tiles,
    Space,
    Rates,
    Grants,
    ApiKeys,
    Audit,
    Identities,
):
    """Synchronous and thread-safe; every method is one transaction (but see `tiles`).

    Open it with `open_catalog`, and close it; it is a context manager.
    """

    def __init__(self, database: Database, lease: LeaseRecord | None = None) -> None:
        self._database = database
        self._lease = lease

    @property
    def url(self) -> str:
        """Where the catalog is, without the password."""
        return self._database.url.render_as_string(hide_password=True)

    @property
    def shared(self) -> bool:
        """Whether services on several machines may work with it at once."""
        return not self._database.is_sqlite

    def mutex(self, name: str) -> AbstractContextManager[None]:
        """Excludes all who hold a mutex of this name, in whatever process and on whatever machine
        the catalog reaches. Not reentrant."""
        return self._database.mutex(name)

    def ping(self) -> None:
        """Ask the database for a sign of life. Raises CatalogUnavailableError."""
        with self._database.read() as session:
            session.execute(sa.select(1))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_catalog(
    url: str, *, migrate: bool = True, settings: DatabaseSettings | None = None
) -> Catalog:
    """The catalog at `sqlite:////path/file` (created if absent; the folder must exist) or
    `postgresql+psycopg://user:password@host/database`.

    `migrate`: create or upgrade the schema; otherwise only check it. Raises
    CatalogUnavailableError (kind "catalog-unavailable") when the database cannot be opened, is
    not a Gramian catalog, or has a schema that is newer than this library.
    """
    database = Database(url, settings or DatabaseSettings())
    try:
        ensure_schema(database, migrate=migrate)
    except SQLAlchemyError as error:
        database.close()
        raise database.unreachable(error) from error
    except BaseException:
        database.close()
        raise
    return Catalog(database)
