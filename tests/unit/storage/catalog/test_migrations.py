"""The migrations build exactly the schema of tables.py, can be undone, and keep existing rows."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.catalog import (
    Catalog,
    CatalogUnavailableError,
    DatabaseSettings,
    JobEvent,
    open_catalog,
)
from storage.catalog.database import Database
from storage.catalog.migrate import (
    MIGRATIONS,
    alembic_config,
    current_revision,
    downgrade,
    ensure_schema,
    head_revision,
    migrating,
)
from storage.catalog.tables import Base
from support.catalogs import create_job, mx, submit, tile


def inspect(url: str) -> sa.Inspector:
    return sa.inspect(Database(url, DatabaseSettings()).engine)


def test_migrated_schema_is_the_one_in_tables(catalog: Catalog, catalog_url: str) -> None:
    engine = Database(catalog_url, DatabaseSettings()).engine
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_checks_and_index_conditions_are_the_same_too(
    catalog: Catalog, catalog_url: str, tmp_path: Path
) -> None:
    """What alembic does not compare: CHECK constraints, conditions of partial indexes, and (in
    the SQL that SQLite keeps) the tables themselves."""
    if not catalog_url.startswith("sqlite"):
        migrated = inspect(catalog_url)
        database = Database(catalog_url, DatabaseSettings())
        downgrade(database, "base")
        Base.metadata.create_all(database.engine)
        direct = inspect(catalog_url)
        for table in Base.metadata.tables:
            assert migrated.has_table(table)
            for what in ("check_constraints", "indexes", "foreign_keys"):
                before = getattr(sa.inspect(migrated.engine), f"get_{what}")(table)
                assert before == getattr(direct, f"get_{what}")(table)
        database.close()
        return
    direct = sa.create_engine(f"sqlite:///{tmp_path / 'direct.sqlite'}")
    Base.metadata.create_all(direct)

    def words(engine: sa.Engine) -> dict[str, list[str]]:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_master"
                " WHERE sql IS NOT NULL AND name != 'alembic_version'"
            ).all()
        # The order of columns and constraints does not matter, nor does the layout.
        return {name: sorted(text.replace(",", " ").split()) for name, text in rows}

    assert words(Database(catalog_url, DatabaseSettings()).engine) == words(direct)


def test_downgrade_leaves_nothing_and_upgrade_begins_again(
    catalog: Catalog, catalog_url: str
) -> None:
    create_job(catalog)
    catalog.close()
    database = Database(catalog_url, DatabaseSettings())
    downgrade(database, "base")
    assert sa.inspect(database.engine).get_table_names() == ["alembic_version"]
    with database.engine.connect() as connection:
        assert current_revision(connection) is None
    ensure_schema(database, migrate=True)
    database.close()
    with open_catalog(catalog_url, migrate=False) as reopened:
        assert reopened.open_jobs() == []


def test_rebuilding_a_table_keeps_the_rows_that_refer_to_it(
    catalog: Catalog, catalog_url: str
) -> None:
    """SQLite alters a table by dropping and renaming; with foreign keys on, that would delete
    every tile together with the old `matrices` table."""
    catalog.add_matrix(mx("k"), "gram", {"id": mx("k")})
    catalog.add_tiles(mx("k"), [tile(0, 0)])
    job = create_job(catalog)
    catalog.append_event(job.id, "progress", {})
    database = Database(catalog_url, DatabaseSettings())
    with migrating(database) as connection:
        operations = Operations(MigrationContext.configure(connection))
        for table in ("matrices", "jobs"):
            with operations.batch_alter_table(table, recreate="auto") as batch:
                batch.add_column(sa.Column("colour", sa.Text(), server_default="grey"))
                batch.alter_column("colour", nullable=False)
    database.close()
    assert catalog.tile_count(mx("k")) == 1
    assert len(catalog.events_after(job.id, 0)) == 1


def test_a_migration_that_fails_changes_nothing(catalog: Catalog, catalog_url: str) -> None:
    database = Database(catalog_url, DatabaseSettings())
    before = sorted(sa.inspect(database.engine).get_table_names())
    with pytest.raises(RuntimeError, match="midway"), migrating(database) as connection:  # noqa: PT012
        Operations(MigrationContext.configure(connection)).drop_table("rates")
        raise RuntimeError("killed midway")
    assert sorted(sa.inspect(database.engine).get_table_names()) == before
    database.close()


STORED = Path(__file__).parents[3] / "data" / "catalog" / "r0001.sql"


def test_a_stored_catalog_of_the_version_before_is_upgraded_with_its_rows(tmp_path: Path) -> None:
    """`r0001.sql` is a dump of a catalog that the previous version wrote, in mid-work."""
    file = tmp_path / "catalog.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(STORED.read_text())
        before = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("datasets", "matrices", "tiles", "jobs", "job_inputs", "events")
        }
    url = f"sqlite:///{file}"
    with open_catalog(url) as catalog:
        states = {str(job.state): job for job in catalog.list_jobs()[0]}
        assert set(states) == {"succeeded", "running", "queued", "failed"}
        assert all(job.owner is None for job in states.values())
        assert catalog.get_matrix(mx("k")).sealed
        assert catalog.tile_count(mx("k")) == 3
        assert catalog.rate("fc/2") == pytest.approx(1e-6)
        # Nobody but administrators sees what has no owner; asking again makes one.
        assert catalog.list_jobs(visible_to="alice")[0] == []
        again, created = submit(catalog, "done", matrix_id=mx("k"), owner="alice")
        assert (again.id, created) == (states["succeeded"].id, False)
        assert catalog.get_matrix(mx("k"), visible_to="alice")
        catalog.apply(states["running"].id, JobEvent.RESUME)
    database = Database(url, DatabaseSettings())
    downgrade(database, "r0001")
    with database.engine.connect() as connection:
        assert current_revision(connection) == "r0001"
        after = {
            table: connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in before
        }
    database.close()
    assert after == before


def test_a_newer_schema_is_refused(catalog: Catalog, catalog_url: str) -> None:
    database = Database(catalog_url, DatabaseSettings())
    with database.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = 'r9999'"))
    database.close()
    for migrate in (True, False):
        with pytest.raises(CatalogUnavailableError, match=r"r9999.*newer") as caught:
            open_catalog(catalog_url, migrate=migrate)
        assert caught.value.kind == "catalog-unavailable"
        assert "Upgrade Gramian" in caught.value.advice


def test_without_migrate_an_old_schema_is_refused_and_left_alone(catalog_url: str) -> None:
    with pytest.raises(CatalogUnavailableError, match="older"):
        open_catalog(catalog_url, migrate=False)
    assert inspect(catalog_url).get_table_names() == []


def test_revisions_are_one_line_and_lie_in_the_package() -> None:
    scripts = ScriptDirectory.from_config(alembic_config())
    revisions = list(scripts.walk_revisions())
    assert scripts.get_heads() == [head_revision()]
    assert {Path(script.path).parent for script in revisions} == {MIGRATIONS / "versions"}
    assert all(Path(script.path).stem.startswith(f"{script.revision}_") for script in revisions)
