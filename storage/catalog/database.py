"""Connections and transactions, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from storage.catalog.errors import CatalogUnavailableError
from storage.catalog.tables import Base

_BEGIN = "gramian_begin"
_IDLE_IN_TRANSACTION = "25P03"  # SQLSTATE idle_in_transaction_session_timeout


@dataclass(frozen=True)
class DatabaseSettings:
    """Limits of one process's connections to the catalog.

    `busy_timeout_seconds`: how long a writer waits for another process's transaction (SQLite) or
    lock (PostgreSQL) before it fails. `max_connections`: threads that may be in a transaction at
    once; others wait up to `pool_timeout_seconds`. `idle_transaction_seconds`: PostgreSQL ends a
    transaction whose process says nothing for so long: it was paused or cut off, and others wait
    for its locks. `mutex_idle_seconds`: the same while a mutex (`Catalog.mutex`) is held; what is
    done under it in the store may take that long.
    """

    busy_timeout_seconds: float = 30.0
    max_connections: int = 40
    pool_timeout_seconds: float = 60.0
    idle_transaction_seconds: float = 30.0
    mutex_idle_seconds: float = 300.0


class Database:
    """Hands out one-transaction sessions. Thread-safe."""

    def __init__(self, url: str, settings: DatabaseSettings) -> None:
        self.url = _parse(url)
        self.settings = settings
        self.engine = _connect(self.url, settings)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # SQLite has one writer at a time. Taking the write lock when the transaction begins (and
        # not at its first write) means that a transaction never finds its snapshot outdated,
        # which SQLite reports as "database is locked" however long the busy timeout is.
        self._writer = self.engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        # Threads of one process queue here, fairly cheaply, instead of polling the file lock.
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()
        self._guard: Callable[[Session], None] = lambda session: None
        self._mutexes: dict[str, threading.Lock] = {}

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Raises CatalogUnavailableError when the database is away, locked or full."""
        with self._there(), Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Raises CatalogUnavailableError; then nothing was written."""
        with self._there(), self._turn, Session(self._writer) as session, session.begin():
            self._guard(session)
            yield session

    @contextmanager
    def _there(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise self.unreachable(error) from error
        except InternalError as error:
            # The class of errors is wider than this one, which means: this process was away.
            if getattr(error.orig, "sqlstate", None) != _IDLE_IN_TRANSACTION:
                raise
            raise self.unreachable(error) from error

    def unreachable(self, error: SQLAlchemyError) -> CatalogUnavailableError:
        """`error` in the vocabulary of users."""
        # SQLAlchemy appends the statement and a documentation link; the driver's words suffice.
        cause = getattr(error, "orig", None) or error
        if self.is_sqlite:
            advice = "Check that its folder exists, is writable, not full, and on a local disk."
        else:
            advice = "Check that the server runs, and the user, password and database in the URL."
        return unavailable(self.url, f"{str(cause).strip().splitlines()[0]}.", advice)

    def guarded(self, guard: Callable[[Session], None]) -> Database:
        """The same database, but every write begins with `guard`, in its transaction."""
        guarded = copy(self)
        guarded._guard = guard
        return guarded

    @contextmanager
    def mutex(self, name: str) -> Iterator[None]:
        """See `Catalog.mutex`. On PostgreSQL it ends with the connection, so a process that dies
        leaves nothing locked, nor one that is paused for `mutex_idle_seconds`.

        Raises CatalogUnavailableError while another service keeps it for long.
        """
        with self._mutexes.setdefault(name, threading.Lock()):
            if self.is_sqlite:  # one process at a time (service.jobs.lock)
                yield
                return
            idle = round(self.settings.mutex_idle_seconds * 1000)
            with self.read() as session:
                session.execute(sa.text(f"SET LOCAL idle_in_transaction_session_timeout = {idle}"))
                session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(name))))
                yield

    def upsert(
        self, table: type[Base], *, replace: Sequence[str] = (), add: Sequence[str] = ()
    ) -> Any:
        """INSERT that, where a row with this primary key exists, overwrites its columns `replace`,
        adds to its columns `add`, and leaves the others."""
        insert = sqlite.insert if self.is_sqlite else postgresql.insert
        # The plain table, not the mapped class: the ORM would double the cost of a million rows.
        target = cast("sa.Table", table.__table__)
        statement: Any = insert(target)
        new = statement.excluded
        changes = {name: new[name] for name in replace}
        changes |= {name: target.c[name] + new[name] for name in add}
        if not changes:
            return statement.on_conflict_do_nothing()
        return statement.on_conflict_do_update(index_elements=target.primary_key, set_=changes)

    def close(self) -> None:
        self.engine.dispose()


def affected_rows(result: sa.Result[Any]) -> int:
    """How many rows an UPDATE or DELETE changed."""
    if not isinstance(result, sa.CursorResult):
        raise TypeError(f"{result!r} is not the result of an UPDATE or DELETE")
    return int(result.rowcount)


def unavailable(url: sa.URL, reason: str, advice: str) -> CatalogUnavailableError:
    shown = url.render_as_string(hide_password=True)
    return CatalogUnavailableError(
        f"The catalog {shown} cannot be used: {reason}", advice=advice, url=shown
    )


def migration_engine(url: sa.URL, settings: DatabaseSettings) -> sa.Engine:
    """An engine for schema changes: on SQLite without foreign keys, because a migration that
    rebuilds a table drops the old one, and enforcing keys then would delete the rows that refer
    to it."""
    return _connect(url, settings, foreign_keys=False).execution_options(**{_BEGIN: "IMMEDIATE"})


def _parse(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except SQLAlchemyError as error:
        # The text may contain a password, so it is not repeated.
        raise CatalogUnavailableError(
            "The catalog URL is not a database URL.",
            advice="Use sqlite:////path/catalog.sqlite or postgresql+psycopg://user@host/database.",
        ) from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    elif backend == "sqlite":
        url = url.set(drivername="sqlite")
        if url.database in (None, "", ":memory:"):
            raise unavailable(
                url,
                "a database in memory would forget all jobs when the process ends.",
                "Name a file: sqlite:////path/catalog.sqlite.",
            )
    else:
        raise unavailable(
            url,
            f"{backend!r} is not a database that Gramian knows.",
            "Use sqlite:////path/catalog.sqlite or postgresql+psycopg://user@host/database.",
        )
    return url


def _connect(url: sa.URL, settings: DatabaseSettings, *, foreign_keys: bool = True) -> sa.Engine:
    sqlite_file = url.get_backend_name() == "sqlite"
    options: dict[str, Any] = {
        # NaN is not JSON: PostgreSQL refuses it, so SQLite must not accept it either.
        "json_serializer": partial(json.dumps, allow_nan=False, separators=(",", ":")),
    }
    if foreign_keys:
        options |= {
            "pool_size": 5,
            "max_overflow": max(0, settings.max_connections - 5),
            "pool_timeout": settings.pool_timeout_seconds,
        }
    else:
        options["poolclass"] = NullPool
    if sqlite_file:
        options["connect_args"] = {"timeout": settings.busy_timeout_seconds}
    else:
        # A server restart between two requests must not surface as an error of the second one.
        options["pool_pre_ping"] = True
        lock = round(settings.busy_timeout_seconds * 1000)
        idle = round(settings.idle_transaction_seconds * 1000)
        options["connect_args"] = {
            "connect_timeout": 10,
            "options": f"-c lock_timeout={lock} -c idle_in_transaction_session_timeout={idle}"
            " -c timezone=UTC",
        }
    try:
        engine = sa.create_engine(url, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise unavailable(
            url,
            f"its driver is not installed ({error}).",
            "Install it: pip install 'gramian[postgres]'.",
        ) from error
    except (TypeError, ValueError, SQLAlchemyError) as error:
        raise unavailable(url, f"{error}", "Check the catalog URL.") from error
    if sqlite_file:
        _configure_sqlite(engine, foreign_keys)
    return engine


def _configure_sqlite(engine: sa.Engine, foreign_keys: bool) -> None:
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction handling begins late and never around DDL; we begin.
        connection.isolation_level = None
        # Readers go on while one process writes. A commit reaches the disk before it returns
        # (synchronous=FULL): an accepted job survives a power cut.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"foreign_keys={foreign_keys:d}"):
            connection.execute(f"PRAGMA {pragma}").close()

    def on_begin(connection: sa.Connection) -> None:
        mode = connection.get_execution_options().get(_BEGIN, "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
