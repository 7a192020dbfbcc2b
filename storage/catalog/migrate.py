"""Bringing a database to the schema of this library, and saying clearly when that cannot be.

The migrations are a package beside this file, so they work from a wheel and need no alembic.ini.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.catalog.database import Database, migration_engine, unavailable

# Any number: it names the lock under which processes migrate a PostgreSQL catalog one by one.
_ADVISORY_LOCK = 0x4772616D

MIGRATIONS = Path(__file__).with_name("migrations")


def alembic_config(connection: sa.Connection | None = None) -> Config:
    """Configuration for alembic's commands; they run inside the transaction of `connection`."""
    config = Config()
    # alembic reads `%` as interpolation, and a path may contain one.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise RuntimeError("the catalog has no migrations; the installation is broken")
    return head


def current_revision(connection: sa.Connection) -> str | None:
    """The revision of the schema in the database; None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def ensure_schema(database: Database, *, migrate: bool) -> None:
    """Upgrade to the newest schema if `migrate`, else only check that it is there.

    Raises CatalogUnavailableError when the schema is newer than this library, or (with
    `migrate=False`) older.
    """
    with database.engine.connect() as connection:
        if _is_current(database.url, current_revision(connection)):
            return
    if not migrate:
        raise unavailable(
            database.url,
            "its schema is older than this version of Gramian needs.",
            "Open it once with migrate=True, after making a backup.",
        )
    with migrating(database) as connection:
        # Another process may have migrated while this one waited for its turn.
        if not _is_current(database.url, current_revision(connection)):
            command.upgrade(alembic_config(connection), "head")


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to `revision` (`base`: drop all tables and their rows)."""
    with migrating(database) as connection:
        command.downgrade(alembic_config(connection), revision)


def _is_current(url: sa.URL, revision: str | None) -> bool:
    scripts = ScriptDirectory.from_config(alembic_config())
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise unavailable(
            url,
            f"its schema (revision {revision}) is newer than this version of Gramian knows.",
            "Upgrade Gramian, or restore the backup made before the catalog was upgraded.",
        )
    return revision == head_revision()


@contextmanager
def migrating(database: Database) -> Iterator[sa.Connection]:
    """A connection in one transaction that no other process migrates in at the same time."""
    engine = migration_engine(database.url, database.settings)
    try:
        with engine.connect() as connection, connection.begin():
            if not database.is_sqlite:  # on SQLite, BEGIN IMMEDIATE is the lock
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            yield connection
            if database.is_sqlite:
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                if broken is not None:
                    raise unavailable(
                        database.url,
                        f"the migration would leave table {broken[0]} with dangling references.",
                        "Nothing was changed. Please report this with the Gramian version.",
                    )
    finally:
        engine.dispose()
