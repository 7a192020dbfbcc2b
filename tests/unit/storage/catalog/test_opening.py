"""A catalog that cannot be opened says why and what to do, and never shows the password."""

from __future__ import annotations

import importlib.util
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.catalog import Catalog, CatalogUnavailableError, DatabaseSettings, open_catalog
from support.catalogs import create_job
from support.postgres import PostgresServer


def refused(url: str, settings: DatabaseSettings | None = None) -> CatalogUnavailableError:
    with pytest.raises(CatalogUnavailableError) as caught:
        open_catalog(url, settings=settings)
    assert caught.value.kind == "catalog-unavailable"
    assert caught.value.advice
    return caught.value


def test_a_missing_folder(tmp_path: Path) -> None:
    error = refused(f"sqlite:///{tmp_path / 'no' / 'catalog.sqlite'}")
    assert "unable to open" in error.message
    assert "folder exists" in error.advice
    assert not (tmp_path / "no").exists()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"certainly not SQLite" * 100)
    assert "not a database" in refused(f"sqlite:///{path}").message
    assert path.read_bytes() == b"certainly not SQLite" * 100


def test_somebody_elses_database(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE jobs (name TEXT)")
    other.close()
    assert "already exists" in refused(f"sqlite:///{path}").message
    with sqlite3.connect(path) as other:
        assert [row[0] for row in other.execute("SELECT name FROM sqlite_master")] == ["jobs"]
    other.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("mysql://user:secret@host/db", "'mysql'"),
        ("catalog.sqlite", "not a database URL"),
        ("http//user:secret@host", "not a database URL"),
    ],
)
def test_urls_that_cannot_be_a_catalog(url: str, says: str) -> None:
    error = refused(url)
    assert says in error.message
    assert "secret" not in f"{error} {error.details}"


def test_a_server_that_is_not_there() -> None:
    error = refused("postgresql+psycopg://user:secret@127.0.0.1:1/db")
    assert "server runs" in error.advice
    assert "secret" not in f"{error} {error.details}"
    assert "user:***@127.0.0.1" in error.details["url"]


def test_a_wrong_password(postgres: PostgresServer) -> None:
    url = postgres.url("postgres").replace(postgres.password, "guessed-wrong")
    error = refused(url)
    assert "password authentication failed" in error.message
    assert "guessed-wrong" not in f"{error} {error.details}"


def test_plain_postgresql_urls_use_the_installed_driver(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    with open_catalog(url.replace("postgresql+psycopg://", "postgresql://")) as catalog:
        catalog.ping()
        assert postgres.password not in catalog.url
    postgres.drop_database(url)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert importlib.util.find_spec("psycopg") is not None

    def without_driver(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr(sa, "create_engine", without_driver)
    error = refused("postgresql://user:secret@127.0.0.1/db")
    assert "pip install 'gramian[postgres]'" in error.advice


def test_a_database_that_goes_away(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    with open_catalog(url) as catalog:
        catalog.ping()
        postgres.drop_database(url)
        with pytest.raises(CatalogUnavailableError):
            catalog.ping()


def test_connections_cut_by_the_server_are_replaced(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    with open_catalog(url) as catalog:
        create_job(catalog)
        engine = sa.create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            cut = connection.execute(
                sa.text(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = :name"
                ),
                {"name": url.rsplit("/", 1)[1]},
            )
            assert cut.scalar_one() >= 1
        engine.dispose()
        assert len(catalog.open_jobs()) == 1
    postgres.drop_database(url)


def test_sqlite_is_set_up_for_many_processes(tmp_path: Path) -> None:
    settings = DatabaseSettings(busy_timeout_seconds=12.5)
    with (
        open_catalog(f"sqlite:///{tmp_path / 'c.sqlite'}", settings=settings) as catalog,
        catalog._database.read() as session,
    ):
        pragmas = {
            name: session.scalar(sa.text(f"PRAGMA {name}"))
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "busy_timeout": 12_500,
        "foreign_keys": 1,
        "synchronous": 2,
    }


def test_readers_do_not_wait_for_a_writer(catalog: Catalog) -> None:
    create_job(catalog)
    with catalog._database.write() as session:
        session.execute(sa.text("UPDATE jobs SET state = 'failed'"))
        counts: list[int] = []
        reader = threading.Thread(target=lambda: counts.append(len(catalog.open_jobs())))
        reader.start()
        reader.join(20)
        assert counts == [1], "a reader sees the state before the transaction, at once"
        session.rollback()


def test_a_lock_held_too_long_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    settings = DatabaseSettings(busy_timeout_seconds=0.2)
    with open_catalog(f"sqlite:///{path}", settings=settings) as catalog:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogUnavailableError, match="locked"):
            create_job(catalog)
        other.execute("ROLLBACK")
        other.close()
        create_job(catalog)
