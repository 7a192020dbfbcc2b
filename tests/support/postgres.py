"""A real, throw-away PostgreSQL server on loopback for one test session."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

START_SECONDS = 60
STOP_SECONDS = 20


@dataclass(frozen=True)
class PostgresServer:
    port: int
    password: str

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://gramian:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """URL of a new, empty database."""
        name = f"t{secrets.token_hex(8)}"
        with self._connect() as connection:
            # From template0, which nobody else is ever connected to.
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
            )
        return self.url(name)

    def drop_database(self, url: str) -> None:
        name = url.rsplit("/", 1)[1]
        with self._connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def clear_database(self, url: str) -> None:
        """Make a database empty again; several times faster than a new one."""
        with self._connect(url.rsplit("/", 1)[1]) as connection:
            connection.execute("SET lock_timeout = '20s'")
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def _connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="gramian",
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )


def find_binaries() -> Path:
    """The folder with `initdb` and `postgres`; RuntimeError says what to install."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise RuntimeError(
        "These tests start a PostgreSQL server and found no `initdb` on PATH or in"
        " /usr/lib/postgresql/*/bin. Install it: apt-get install postgresql"
        " (the Debian package `postgresql`)."
    )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server in a temporary folder, stopped and removed at the end."""
    binaries = find_binaries()
    password = secrets.token_hex(16)
    # Not pytest's tmp_path: that lies below a folder that only its owner can enter.
    root = Path(tempfile.mkdtemp(prefix="gramian-postgres-"))
    user = _server_user()
    try:
        if user is not None:
            shutil.chown(root, user, user)
        data = root / "data"
        password_file = root / "password"
        password_file.write_text(password)
        _run(
            [
                str(binaries / "initdb"),
                f"--pgdata={data}",
                "--username=gramian",
                "--auth=scram-sha-256",
                f"--pwfile={password_file}",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            root,
            user,
        )
        log = root / "server.log"
        process, server = _start(binaries, data, log, password, user)
        try:
            yield server
        finally:
            _stop(process)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root: then it runs as the user of its Debian package."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise RuntimeError("PostgreSQL does not run as root, and there is no user `postgres`.")


def _run(command: list[str], folder: Path, user: str | None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
        **_as_user(user),
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")


def _start(
    binaries: Path, data: Path, log: Path, password: str, user: str | None
) -> tuple[subprocess.Popen[bytes], PostgresServer]:
    # The free port may be taken between the look and the start; then another one is tried.
    for _ in range(3):
        port = _free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    str(binaries / "postgres"),
                    "-D",
                    str(data),
                    "-p",
                    str(port),
                    *("-c", "listen_addresses=127.0.0.1"),
                    *("-c", "unix_socket_directories="),
                    *("-c", "fsync=off"),
                    *("-c", "max_connections=100"),
                    *("-c", "deadlock_timeout=200ms"),
                ],
                cwd=data,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
                **_as_user(user),
            )
        server = PostgresServer(port, password)
        try:
            if _answers(process, server):
                return process, server
        except BaseException:
            _stop(process)
            raise
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")


def _answers(process: subprocess.Popen[bytes], server: PostgresServer) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        try:
            server._connect().close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                _stop(process)
                return False
            time.sleep(0.05)
        else:
            return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)  # "fast" shutdown: ends sessions, then the server
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _as_user(user: str | None) -> dict[str, object]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}
